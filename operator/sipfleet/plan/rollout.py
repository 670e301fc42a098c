"""Which revision the pods should have, when a new one counts as bad, and how far a roll may go on (DESIGN 4.3).

A surge pod alone gets the new revision. When it serves, the slots follow from the top down, each drained first. A bad
revision stops the roll: the template goes back first, then the pods that have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from .slots import available, dead, serves
from .types import Desired, LeaseState, Phase, SetStatus, SlotObservation

Slots = Mapping[int, SlotObservation]


@dataclass(frozen=True, slots=True)
class Goal:
    """The revision that every pod should have, and what is remembered of others."""

    revision: str
    stable: str
    """What worked before; the same as `revision` when nothing is rolled."""
    failed: str | None = None
    failed_message: str = ""

    @property
    def rolling(self) -> bool:
        """True while a revision is being rolled out that is not yet the stable one."""
        return self.revision != self.stable


@dataclass(frozen=True, slots=True)
class Layout:
    """The slots that there should be: `replicas`, and `surge` above them, of which revision."""

    replicas: int
    surge: int
    proven: bool
    """A pod of the goal's revision serves."""
    partition: int | None

    @property
    def total(self) -> int:
        """Slots from this ordinal on have to go."""
        return self.replicas + self.surge


def decide_goal(desired: Desired, slots: Sequence[SlotObservation], before: SetStatus, now: float) -> Goal:
    """The goal, after looking whether a pod of the revision being rolled shows that it is bad."""
    stable = _stable(desired, slots, before, now)
    if desired.revision == stable:
        return Goal(stable, stable)
    if before.failed == desired.revision:
        return Goal(stable, stable, before.failed, before.failed_message)
    for slot in slots:
        reason = bad_sign(slot, desired, _patience(slot, before, now)) if slot.revision == desired.revision else None
        if reason is not None:
            return Goal(stable, stable, desired.revision, f"{desired.name}-{slot.ordinal}: {reason}")
    return Goal(desired.revision, stable)


def _stable(desired: Desired, slots: Sequence[SlotObservation], before: SetStatus, now: float) -> str:
    """What to go back to. A revision whose pods are all broken is nothing to go back to when another one serves; and
    where no status is left, what most pods are made of is what worked."""
    if before.revision and not all(broken(slot, desired, now) for slot in slots if slot.revision == before.revision):
        return before.revision
    known_bad = (desired.revision, before.failed)
    serving = Counter(slot.revision for slot in slots if serves(slot) and slot.revision not in known_bad)
    if before.revision and not serving:
        return before.revision
    others = serving or Counter(slot.revision for slot in slots)
    return others.most_common(1)[0][0] if others else desired.revision


def _patience(slot: SlotObservation, before: SetStatus, now: float) -> float:
    """For how long the pod has had all that it needs to serve: without the store nobody gets a lease."""
    store = next((condition for condition in before.conditions if condition.type == "StoreAvailable"), None)
    if store is None or store.status != "True":
        return 0.0 if store is not None and store.status == "False" else now - slot.since
    return now - max(slot.since, float(store.since))


def bad_sign(slot: SlotObservation, desired: Desired, waited: float) -> str | None:
    """Why a pod of a new revision shows, after so many seconds, that the revision is bad; None when it does not.

    A pod without a place, one whose node died and one whose lease is not known say nothing about the revision.
    """
    if slot.phase is Phase.FAILED:
        return slot.message or "does not come up"
    if slot.phase in (Phase.UNSCHEDULABLE, Phase.TERMINATING, Phase.DEAD) or dead(slot):
        return None
    deadline = desired.rollout.progress_deadline
    if waited < deadline or slot.lease is LeaseState.UNKNOWN:
        return None
    if not serves(slot):
        return f"does not serve after {deadline:.0f} s" + (f" ({slot.message})" if slot.message else "")
    if not _right_version(slot, desired) and slot.version is not None:
        return f"runs version {slot.version} instead of {desired.version}"
    return None


def _right_version(slot: SlotObservation, desired: Desired) -> bool:
    return desired.version is None or slot.revision != desired.revision or slot.version == desired.version


def settled(slot: SlotObservation | None, goal: Goal, desired: Desired) -> bool:
    """The slot has a pod of the goal's revision that serves, by its lease with the version that was asked for."""
    return (
        slot is not None
        and slot.revision == goal.revision
        and not slot.evict
        and serves(slot)
        and _right_version(slot, desired)
    )


def must_go(slot: SlotObservation, goal: Goal) -> bool:
    """Another pod has to take its place."""
    return slot.revision != goal.revision or slot.evict


def finish(goal: Goal, desired: Desired, slots: Slots, replicas: int) -> Goal:
    """The goal is the stable revision from when every slot has it. Where no slot is wanted, it is when none is left: a
    relay that drains may have to come back as what it was."""
    done = all(settled(slots.get(ordinal), goal, desired) for ordinal in range(replicas)) if replicas else not slots
    if goal.rolling and done:
        return Goal(goal.revision, goal.revision, goal.failed, goal.failed_message)
    return goal


def decide_layout(goal: Goal, desired: Desired, slots: Slots, replicas: int, before: SetStatus, now: float) -> Layout:
    """How many surge slots there are, and from which ordinal on pods are made of the new revision.

    Surge stays until the last pod that was replaced serves, unless that one turns out to be broken.
    """
    places = [slots.get(ordinal) for ordinal in range(replicas)]
    leaving = sum(1 for slot in places if slot is not None and must_go(slot, goal))
    coming = any(slot is None or not (serves(slot) or broken(slot, desired, now)) for slot in places)
    proven = not goal.rolling or any(settled(slot, goal, desired) for slot in slots.values())
    allowed = 0 if desired.deleting else desired.rollout.surge
    if replicas and (leaving or goal.rolling):
        surge = min(allowed, max(1, before.surge, leaving if proven else 0))
    elif coming:
        above = range(replicas, replicas + min(before.surge, allowed))
        surge = len(list(takewhile(lambda ordinal: ordinal in slots and not must_go(slots[ordinal], goal), above)))
    else:
        surge = 0
    return Layout(replicas, surge, proven, _partition(goal, slots, replicas, surge, proven, before))


def _partition(goal: Goal, slots: Slots, replicas: int, surge: int, proven: bool, before: SetStatus) -> int | None:
    """Before the revision is proven only the surge slots are of it, wherever growth moves them; a slot that was ordered
    to the new revision (a roll without surge) stays so. A pod of another revision is never above the partition: a
    StatefulSet would end it. One that was ordered to go and has not gone yet is no such pod: what is made in its place
    is made by the partition of that moment."""
    if not goal.rolling:
        return None
    ordered = before.partition if before.rolling == goal.revision else None

    def going(ordinal: int, slot: SlotObservation) -> bool:
        return slot.phase is Phase.TERMINATING and ordered is not None and ordinal >= ordered

    if proven:
        lowest = 0
    elif ordered is not None and (not surge or ordered < min(before.replicas or 0, replicas)):
        lowest = min(ordered, replicas)
    elif surge:
        lowest = replicas
    else:
        return None
    return max([lowest, *(o + 1 for o, slot in slots.items() if slot.revision != goal.revision and not going(o, slot))])


def revision_of_new(ordinal: int, goal: Goal, layout: Layout) -> str:
    """What a pod is made of when its slot has none."""
    return goal.revision if layout.partition is not None and ordinal >= layout.partition else goal.stable


def broken(slot: SlotObservation, desired: Desired, now: float) -> bool:
    """It does not serve, and not just for the moment: to replace it costs nothing, to wait for it gains nothing."""
    if slot.phase in (Phase.FAILED, Phase.UNSCHEDULABLE, Phase.TERMINATING):
        return slot.phase is not Phase.TERMINATING
    return not serves(slot) and now - slot.since >= desired.rollout.progress_deadline


def leavers(
    goal: Goal, desired: Desired, slots: Slots, layout: Layout, before: SetStatus, now: float
) -> list[SlotObservation]:
    """The pods below `layout.total` that must leave their slots now, from the top down.

    Those that were leaving before go on. Others follow while fewer slots are out than there is surge. For a new
    revision strictly from the top, so that a partition can express it: when the revision changes in mid-roll, a lower
    slot that has begun to leave has to wait again. An evicted pod is taken where it is.
    """
    begun = {drain.ordinal for drain in before.drains}
    out = {o for o in range(layout.total) if _is_out(o, goal, desired, slots, layout, now)}
    room = (max(1, layout.surge) if layout.proven else 1) - len(out)
    leaving = []
    in_order = True
    for slot in (slots[o] for o in sorted(slots, reverse=True) if o < layout.total and must_go(slots[o], goal)):
        evicted = slot.revision == goal.revision
        going = slot.phase is Phase.TERMINATING
        if in_order or evicted:
            has_begun = slot.ordinal in out and (slot.ordinal in begun or slot.draining)
            going = going or has_begun or room > 0
            going = going or (layout.proven and broken(slot, desired, now))
        if going:
            leaving.append(slot)
            room -= slot.ordinal not in out
        elif not evicted:
            in_order = False
    return leaving


def _is_out(ordinal: int, goal: Goal, desired: Desired, slots: Slots, layout: Layout, now: float) -> bool:
    """The slot takes no calls at the moment and is expected to do so soon; the next one has to wait for it.

    A surge pod without a place does not count: the roll goes on without it. Nor does an old pod that is broken: else a
    roll that would repair it never began.
    """
    slot = slots.get(ordinal)
    if slot is None:
        return True
    if slot.phase is Phase.UNSCHEDULABLE and ordinal >= layout.replicas:
        return False
    if must_go(slot, goal):
        return not available(slot) and not broken(slot, desired, now)
    return not (available(slot) and settled(slot, goal, desired))


def in_turn(ordinal: int, goal: Goal, slots: Slots, layout: Layout) -> bool:
    """The slot has the goal's revision, or may follow because every pod above has it or will be made of it."""
    if slots[ordinal].revision == goal.revision:
        return True
    coming = {o for o in range(ordinal + 1, layout.total) if o not in slots or dead(slots[o])}
    standing = {o for o in slots if o > ordinal} - coming
    return all(slots[o].revision == goal.revision for o in standing) and all(
        revision_of_new(o, goal, layout) == goal.revision for o in coming
    )
