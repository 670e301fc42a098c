"""From what the planner decided to the three numbers of a StatefulSet: replicas, template, partition. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sipfleet.plan.types import Action, CreateSlot, RemoveSlot, Replace, SetStatus


@dataclass(frozen=True, slots=True)
class SetLayout:
    """What the StatefulSet should say."""

    slots: int
    template: str
    """Revision of the pod template."""
    partition: int


def template_revision(status: SetStatus) -> str:
    """What a pod without further orders is made of (docs/decisions/0004)."""
    return status.rolling or status.revision


def layout(status: SetStatus, actions: Sequence[Action], slots: int, pods: Mapping[int, str]) -> SetLayout:
    """`slots` is the number of slots that there are, `pods` the revision of each pod by ordinal; those that are on
    their way out are not among them.

    A StatefulSet ends every pod from the partition on that is not of its template. So the partition stands above each
    pod of another revision, but for those that the planner replaces now.
    """
    template = template_revision(status)
    replaced = {one.ordinal for one in actions if isinstance(one, Replace) and one.revision == template}
    for one in actions:
        if isinstance(one, CreateSlot):
            slots = max(slots, one.ordinal + 1)
        elif isinstance(one, RemoveSlot) and one.ordinal == slots - 1:
            slots = one.ordinal
    others = [ordinal + 1 for ordinal, name in pods.items() if name != template and ordinal not in replaced]
    first = 0
    if status.rolling is not None:
        first = slots if status.partition is None else status.partition
    return SetLayout(slots, template, max([first, *others]))


def revision_of_slot(ordinal: int, status: SetStatus, current: SetLayout | None) -> str:
    """What the StatefulSet controller will make a pod of in an empty slot."""
    if current is None or ordinal >= current.partition:
        return template_revision(status)
    return status.revision
