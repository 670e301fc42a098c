"""What the planner promises, whatever happens: `Fleet` complains at every action that breaks a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipfleet.plan import Cordon, CreateSlot, Cut, Desired, Drain, Kind, RemoveSlot, Replace, Rollout
from sipfleet.plan.scale import needed
from tests.property.fleet import CAPACITY, Fleet, HarmError, automatic, wanted

Event = Callable[[Fleet], object]

KINDS = st.sampled_from(list(Kind))
SEEDS = st.integers(0, 2**16)
ORDINALS = st.integers(0, 5)


def edited(**changes: object) -> Event:
    def event(fleet: Fleet) -> None:
        generation = fleet.desired.generation + 1
        fleet.desired = replace(fleet.desired, generation=generation, **changes)  # type: ignore[arg-type]

    return event


def rolled(**changes: object) -> Event:
    def event(fleet: Fleet) -> None:
        fleet.desired = replace(fleet.desired, rollout=replace(fleet.desired.rollout, **changes))  # type: ignore[arg-type]

    return event


def calls(number: int, seconds: float) -> Event:
    return lambda fleet: [fleet.call(seconds) for _ in range(number)]


def on(name: str, *values: object) -> Event:
    return lambda fleet: getattr(fleet, name)(*values)


def no_room(ordinal: int) -> Event:
    return lambda fleet: setattr(fleet, "no_room_for", ordinal)


def measured(metrics: str | None) -> Event:
    return lambda fleet: setattr(fleet, "metrics", metrics)


CALLS = st.builds(calls, st.integers(1, 8), st.sampled_from((20, 100, 400)))
EDITS = st.one_of(
    st.builds(lambda n: edited(replicas=n, autoscale=None), ORDINALS),
    st.builds(
        lambda low, more: edited(replicas=None, autoscale=automatic(low, low + more)), st.integers(1, 3), ORDINALS
    ),
    st.builds(lambda name: edited(revision=name), st.sampled_from(("good-0", "good-1", "good-2"))),
    st.builds(
        lambda name, number: edited(revision=f"{name}{number}"),
        st.sampled_from(("bad-fail", "bad-mute", "bad-x")),
        ORDINALS,
    ),
    st.builds(lambda n: rolled(surge=n), st.integers(0, 2)),
    st.builds(lambda cut: rolled(cut=cut, drain_timeout=100), st.booleans()),
)
FAULTS = st.one_of(
    st.builds(on, st.sampled_from(("kill", "lose_node", "hang", "evict", "terminate")), ORDINALS),
    st.builds(lambda seconds: on("lose_store", seconds), st.sampled_from((2, 20, 100))),
    st.builds(no_room, ORDINALS),
    st.builds(measured, st.sampled_from((None, "truth", "nothing", "lies"))),
    st.just(on("heal")),
)
TIME = st.builds(lambda seconds: on("pass_time", seconds), st.sampled_from((0.5, 1, 5, 20, 70)))
EVENTS = st.lists(
    st.tuples(st.one_of(CALLS, TIME, EDITS, FAULTS), st.sampled_from((0.0, 0.0, 0.5))), min_size=8, max_size=60
)


@settings(max_examples=150)
@given(KINDS, SEEDS, st.integers(0, 4), EVENTS)
def test_no_call_is_cut_and_the_fleet_settles_whatever_happens(
    kind: Kind, seed: int, replicas: int, events: list[tuple[Event, float]]
) -> None:
    fleet = Fleet(wanted(kind, replicas=replicas), seed)
    for event, failing in events:
        event(fleet)
        for _ in range(3):
            fleet.step(failing)
            fleet.pass_time(1)
    fleet.heal()
    fleet.settle()
    status = fleet.status
    assert sorted(fleet.pods) == list(range(status.replicas or 0))
    assert fleet.revisions <= {status.revision}
    assert fleet.desired.revision in (status.revision, status.failed)
    if not status.revision.startswith("bad"):
        assert fleet.takers == status.replicas


@settings(max_examples=40)
@given(KINDS, SEEDS, st.integers(0, 3), st.integers(1, 3), st.integers(0, 12))
def test_growth_touches_no_existing_pod(kind: Kind, seed: int, before: int, more: int, up: int) -> None:
    fleet = Fleet(wanted(kind, replicas=before), seed)
    fleet.settle()
    calls(up, 10_000)(fleet)
    start = len(fleet.log)
    edited(replicas=before + more)(fleet)
    fleet.settle()
    assert fleet.since(start) == [CreateSlot(ordinal, "good-1") for ordinal in range(before, before + more)]


@settings(max_examples=40)
@given(KINDS, SEEDS, st.integers(1, 4), st.integers(1, 2))
def test_a_busy_fleet_is_rolled_to_the_end_with_as_many_pods_as_before(
    kind: Kind, seed: int, replicas: int, surge: int
) -> None:
    rollout = Rollout(surge, 10800, cut=False, progress_deadline=60)
    fleet = Fleet(wanted(kind, replicas=replicas, rollout=rollout), seed)
    fleet.settle()
    edited(revision="good-2")(fleet)
    end = fleet.now + 40_000
    while fleet.revisions != {"good-2"} or len(fleet.pods) > replicas:
        assert fleet.now < end, fleet.status
        fleet.call(fleet.random.choice((30, 200)))
        fleet.step()
        assert fleet.takers >= replicas or fleet.status.rolling is None
        fleet.pass_time(5)
    assert not [action for action in fleet.since(0) if isinstance(action, Cut)]


@settings(max_examples=40)
@given(KINDS, SEEDS, st.sampled_from(("bad-fail", "bad-mute", "bad-x")), st.integers(1, 4), st.integers(0, 2))
def test_a_bad_version_reaches_one_pod_and_is_put_back(
    kind: Kind, seed: int, bad: str, replicas: int, surge: int
) -> None:
    rollout = Rollout(surge, 10800, cut=False, progress_deadline=60)
    fleet = Fleet(wanted(kind, replicas=replicas, rollout=rollout), seed)
    fleet.settle()
    calls(replicas * 2, 300)(fleet)
    edited(revision=bad)(fleet)
    worst = 0
    for _ in range(100):
        fleet.step()
        worst = max(worst, sum(pod.revision == bad for pod in fleet.pods.values()))
        assert fleet.takers >= (replicas if surge else replicas - 1)
        fleet.pass_time(5)
    fleet.settle()
    assert (worst, fleet.revisions, fleet.status.failed) == (1, {"good-1"}, bad)
    assert fleet.condition("Degraded") == "True"
    assert len(fleet.pods) == replicas


@settings(max_examples=40)
@given(KINDS, SEEDS, st.integers(1, 4), st.booleans())
def test_scale_to_zero_waits_for_the_last_call(kind: Kind, seed: int, replicas: int, deleting: bool) -> None:
    fleet = Fleet(wanted(kind, replicas=replicas), seed)
    fleet.settle()
    calls(replicas * 3, 500)(fleet)
    edited(**({"deleting": True} if deleting else {"replicas": 0}))(fleet)
    up = fleet.calls
    fleet.run(480)
    assert fleet.calls == up
    assert fleet.takers == 0
    fleet.settle()
    assert not fleet.pods
    assert not fleet.published


@settings(max_examples=40)
@given(SEEDS, st.booleans())
def test_at_the_drain_timeout_calls_are_cut_only_where_the_user_says_so(seed: int, cut: bool) -> None:
    rollout = Rollout(1, drain_timeout=100, cut=cut, progress_deadline=60)
    fleet = Fleet(wanted(Kind.RELAY, replicas=2, rollout=rollout), seed)
    fleet.settle()
    calls(2 * CAPACITY, 5000)(fleet)
    edited(replicas=1)(fleet)
    fleet.run(90)
    assert (fleet.calls, fleet.condition("DrainBlocked")) == (2 * CAPACITY, "False")
    fleet.run(100)
    if cut:
        assert (fleet.cut_calls, sorted(fleet.pods)) == (CAPACITY, [0])
    else:
        assert (fleet.calls, fleet.condition("DrainBlocked"), sorted(fleet.pods)) == (2 * CAPACITY, "True", [0, 1])


LOADS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from((20, 60, 300))), max_size=15)


@settings(max_examples=25)
@given(KINDS, SEEDS, LOADS, st.booleans())
def test_the_count_follows_the_calls_and_stays_between_min_and_max(
    kind: Kind, seed: int, loads: list[tuple[int, float]], rolling: bool
) -> None:
    rule = automatic(1, 6)
    fleet = Fleet(wanted(kind, replicas=None, autoscale=rule), seed)
    for number, (calls_now, seconds) in enumerate(loads):
        calls(calls_now, seconds)(fleet)
        if rolling and number == 3:
            edited(revision="good-2")(fleet)
        fleet.run(20)
        assert rule.min <= (fleet.status.replicas or 0) <= rule.max
    calls(3, 2000)(fleet)
    fleet.run(1000)
    if fleet.status.rolling is None:  # a scale-in waits for the roll, and the roll for its calls
        assert fleet.status.replicas == max(rule.min, needed(fleet.calls, CAPACITY, rule.free_capacity))
    fleet.run(1200)
    assert sorted(fleet.pods) == list(range(rule.min))


@settings(max_examples=25)
@given(KINDS, SEEDS, LOADS)
def test_nothing_is_scaled_down_while_measurements_are_missing_and_all_is_once_they_are_back(
    kind: Kind, seed: int, loads: list[tuple[int, float]]
) -> None:
    rule = automatic(1, 6)
    fleet = Fleet(wanted(kind, replicas=None, autoscale=rule), seed)
    measured("truth")(fleet)
    calls(12, 60)(fleet)
    fleet.run(20)
    measured("nothing")(fleet)
    for calls_now, seconds in loads:
        before = fleet.status.replicas or 0
        calls(calls_now, seconds)(fleet)
        fleet.run(20)
        assert before <= (fleet.status.replicas or 0) <= rule.max
        assert (fleet.status.replicas or 0) >= min(needed(fleet.calls, CAPACITY, rule.free_capacity), before + 4)
    measured("truth")(fleet)
    fleet.run(1000)
    assert sorted(fleet.pods) == list(range(rule.min))


@settings(max_examples=25)
@given(KINDS, SEEDS, st.integers(2, 4), st.data())
def test_a_surge_without_a_place_is_reported_and_the_roll_goes_on(
    kind: Kind, seed: int, replicas: int, data: st.DataObject
) -> None:
    fleet = Fleet(wanted(kind, replicas=replicas), seed)
    fleet.settle()
    calls(data.draw(st.integers(0, 8)), 200)(fleet)
    no_room(replicas)(fleet)
    edited(revision="good-2")(fleet)
    blocked = False
    for _ in range(150):
        fleet.step()
        blocked = blocked or fleet.condition("SurgeBlocked") == "True"
        assert fleet.takers >= replicas - 1
        fleet.pass_time(5)
    fleet.settle()
    assert blocked
    assert fleet.revisions == {"good-2"}
    assert sorted(fleet.pods) == list(range(replicas))


def end_anyway(*_: object, **__: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("rule", "desired"),
    [
        ("removable", wanted(Kind.RELAY, replicas=0)),
        ("replaceable", wanted(Kind.RELAY, replicas=2, revision="good-2")),
        ("in_turn", wanted(Kind.RELAY, replicas=2, revision="good-2", rollout=Rollout(2, 10800, False, 60))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_fleet_notices_a_planner_without_one_of_its_rules(
    rule: str, desired: Desired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm() -> None:
        fleet = Fleet(wanted(Kind.RELAY, replicas=2), seed=1)
        fleet.settle()
        calls(4, 400)(fleet)
        calls(2, 20)(fleet)
        fleet.pods[0].calls.clear()
        fleet.desired = desired
        fleet.run(300)

    harm()
    monkeypatch.setattr(f"sipfleet.plan.planner.{rule}", end_anyway)
    with pytest.raises(HarmError):
        harm()


def test_actions_that_end_pods_come_after_those_that_give_calls_a_place() -> None:
    fleet = Fleet(wanted(Kind.RELAY, replicas=3), seed=1)
    fleet.settle()
    edited(revision="good-2")(fleet)
    start = len(fleet.log)
    fleet.settle()
    kinds = [type(action) for action in fleet.since(start)]
    assert kinds[0] is CreateSlot
    assert kinds[1:3] == [Cordon, Drain]
    assert kinds.count(Replace) == 3
    assert kinds[-1] is RemoveSlot
