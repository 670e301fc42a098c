"""The planner: one look at what is wanted and what stands, out of which come actions and a status.

Growing, shrinking, rolling, evicting and healing are one decision here (DESIGN 4.7), so that they cannot disagree about
a pod. Each part is decided in a module of its own; this one puts them in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .conditions import Outcome, conditions
from .rollout import (
    Goal,
    Layout,
    Slots,
    broken,
    decide_goal,
    decide_layout,
    finish,
    in_turn,
    leavers,
    must_go,
    revision_of_new,
)
from .scale import Count, decide_count
from .slots import available, dead, removable, replaceable, serves
from .srv import named_pods, srv_records
from .types import (
    Action,
    Cordon,
    CreateSlot,
    Cut,
    Desired,
    Drain,
    DrainStart,
    Kind,
    LeaseState,
    Observed,
    Phase,
    Plan,
    PublishSrv,
    RemoveSlot,
    Replace,
    SetStatus,
    SlotObservation,
    SrvRecord,
    Uncordon,
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """All that the steps of one plan look at."""

    desired: Desired
    observed: Observed
    now: float
    slots: Slots
    goal: Goal
    layout: Layout
    replacing: Sequence[SlotObservation]
    """Pods that leave a slot which stays, from the top down."""
    removing: Sequence[SlotObservation]
    """Pods that leave with their slot, from the top down."""
    since: dict[int, float]
    """Start of the drain of each of these."""
    records: tuple[SrvRecord, ...]

    @property
    def leaving(self) -> list[SlotObservation]:
        return [*self.removing, *self.replacing]

    def overdue(self, slot: SlotObservation) -> bool:
        return self.now - self.since[slot.ordinal] >= self.desired.rollout.drain_timeout

    def still_named(self, slot: SlotObservation) -> bool:
        """DNS may still send calls to it (DESIGN 5: a record leaves before its pod does)."""
        policy = self.desired.srv
        if policy is None:
            return False
        cached = serves(slot) and self.now - max(self.since[slot.ordinal], slot.named) < policy.ttl
        if policy.shared:
            inside = policy.named_inside and cached and not self.desired.deleting
            return inside or (bool(self.observed.published) and not self.records)
        return cached or slot.ordinal in named_pods(self.desired, self.observed.published)


def plan(desired: Desired, observed: Observed, now: float) -> Plan:
    """What to do now and what to remember; `now` is Unix time in seconds.

    Raises nothing for any observation: what is not known is treated as if calls were there.
    """
    before = observed.status
    slots = {slot.ordinal: slot for slot in sorted(observed.slots, key=lambda slot: slot.ordinal)}
    goal = decide_goal(desired, list(slots.values()), before, now)
    standing = before.replicas or 0
    goal = finish(goal, desired, slots, standing)
    rolling = goal.rolling or any(must_go(slot, goal) for ordinal, slot in slots.items() if ordinal < standing)
    count = decide_count(desired, list(slots.values()), before, now, hold_down=rolling)
    goal = finish(goal, desired, slots, count.replicas)
    layout = decide_layout(goal, desired, slots, count.replicas, before, now)
    replacing = leavers(goal, desired, slots, layout, before, now)
    removing = [slot for ordinal, slot in sorted(slots.items(), reverse=True) if ordinal >= layout.total]
    leaving = {slot.ordinal for slot in (*replacing, *removing)}
    takers = [slot for ordinal, slot in slots.items() if ordinal not in leaving and available(slot)]
    begun = {drain.ordinal: drain.since for drain in before.drains}
    scene = _Scene(
        desired=desired,
        observed=observed,
        now=now,
        slots=slots,
        goal=goal,
        layout=layout,
        replacing=replacing,
        removing=removing,
        since={ordinal: begun.get(ordinal, now) for ordinal in leaving},
        records=srv_records(desired, observed, takers),
    )
    actions = tuple(_actions(scene))
    return Plan(actions, _status(scene, count, actions))


def _actions(scene: _Scene) -> Iterator[Action]:
    """What takes calls away from a pod comes after what gives calls a place; what ends a pod comes last."""
    if scene.records != scene.observed.published:
        yield PublishSrv(scene.records)
    yield from _stay(scene)
    yield from _replace(scene)
    yield from _remove(scene)


def _stay(scene: _Scene) -> Iterator[Action]:
    """Slots that keep their pod, or need one."""
    leaving = {slot.ordinal for slot in scene.leaving}
    for ordinal in range(scene.layout.total):
        slot = scene.slots.get(ordinal)
        if slot is None:
            yield CreateSlot(ordinal, revision_of_new(ordinal, scene.goal, scene.layout))
        elif ordinal in leaving:
            continue
        elif dead(slot):
            yield Replace(ordinal, slot.uid, revision_of_new(ordinal, scene.goal, scene.layout))
        elif (slot.cordoned or slot.draining) and slot.phase is Phase.RUNNING:
            yield Uncordon(ordinal, slot.uid)


def _replace(scene: _Scene) -> Iterator[Action]:
    for slot in scene.replacing:
        now_it = in_turn(slot.ordinal, scene.goal, scene.slots, scene.layout)
        if now_it and replaceable(slot, broken(slot, scene.desired, scene.now)) and not scene.still_named(slot):
            yield Replace(slot.ordinal, slot.uid, scene.goal.revision)
        elif dead(slot):
            yield Replace(slot.ordinal, slot.uid, revision_of_new(slot.ordinal, scene.goal, scene.layout))
        else:
            yield from _drain(slot, scene)


def _remove(scene: _Scene) -> Iterator[Action]:
    """Strictly from the top; a slot in between waits, drained."""
    on_top = True
    for slot in scene.removing:
        if on_top and removable(slot, scene.desired.kind) and not scene.still_named(slot):
            yield RemoveSlot(slot.ordinal, slot.uid)
            continue
        on_top = False
        if dead(slot) and scene.desired.kind is Kind.RELAY and not removable(slot, scene.desired.kind):
            yield Replace(slot.ordinal, slot.uid, revision_of_new(slot.ordinal, scene.goal, scene.layout))
        else:
            yield from _drain(slot, scene)


def _drain(slot: SlotObservation, scene: _Scene) -> Iterator[Action]:
    """Cordon, drain, and at the timeout what the user said."""
    if slot.phase is not Phase.RUNNING:
        return
    if not slot.cordoned:
        yield Cordon(slot.ordinal, slot.uid)
    if not slot.draining:
        yield Drain(slot.ordinal, slot.uid)
    if scene.desired.rollout.cut and scene.overdue(slot) and not slot.empty and slot.lease is not LeaseState.UNKNOWN:
        yield Cut(slot.ordinal, slot.uid)


def _status(scene: _Scene, count: Count, actions: Sequence[Action]) -> SetStatus:
    before, goal, layout = scene.observed.status, scene.goal, scene.layout
    ended = {action.ordinal for action in actions if isinstance(action, RemoveSlot | Replace)}
    overdue = [
        slot
        for slot in scene.leaving
        if scene.overdue(slot) and not slot.empty and slot.ordinal not in ended and not scene.desired.rollout.cut
    ]
    outcome = Outcome(goal, layout, scene.leaving, overdue, acting=bool(actions), now=scene.now)
    rolled = [action.ordinal for action in actions if isinstance(action, Replace) and action.revision == goal.revision]
    ordered = [ordinal for ordinal in (layout.partition, *rolled) if ordinal is not None]
    rolling = goal.revision if goal.rolling else None
    started = before.roll_start if before.rolling == rolling and before.roll_start is not None else scene.now
    return SetStatus(
        replicas=count.replicas,
        recommended=count.recommended,
        recommendations=count.recommendations,
        last_scale_time=count.last_scale_time,
        last_scale_up_time=count.last_scale_up_time,
        revision=goal.stable,
        rolling=rolling,
        partition=min(ordered) if rolling and ordered else None,
        surge=layout.surge,
        roll_start=started if rolling else None,
        failed=goal.failed,
        failed_message=goal.failed_message,
        drains=tuple(
            DrainStart(slot.ordinal, slot.uid, scene.since[slot.ordinal])
            for slot in sorted(scene.leaving, key=lambda slot: slot.ordinal)
        ),
        conditions=conditions(scene.desired, scene.observed, outcome),
        srv_records=scene.records,
        observed_generation=scene.desired.generation,
    )
