"""How many pods there should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipfleet.plan import FreeCapacity, LeaseState, Measured, Phase, Recommendation, SetStatus, SlotObservation
from sipfleet.plan.scale import Count, decide_count, needed
from tests.unit.plan.scenes import NOW, pod, rule, unborn, wish


def count(
    *slots: SlotObservation, status: SetStatus, now: float = NOW, hold_down: bool = False, **changes: object
) -> Count:
    desired = wish(replicas=None, autoscale=rule(**changes))  # type: ignore[arg-type]
    return decide_count(desired, slots, status, now, hold_down)


def pods(*loads: int | None) -> list[SlotObservation]:
    return [pod(ordinal, active=load) for ordinal, load in enumerate(loads)]


@pytest.mark.parametrize(
    ("used", "free", "expected"),
    [
        (0, FreeCapacity(amount=0), 0),
        (0, FreeCapacity(amount=1), 1),
        (10, FreeCapacity(amount=0), 1),
        (11, FreeCapacity(amount=0), 2),
        (10, FreeCapacity(amount=10), 2),
        (10, FreeCapacity(amount=11), 3),
        (0, FreeCapacity(percent=20), 0),
        (8, FreeCapacity(percent=20), 1),
        (9, FreeCapacity(percent=20), 2),
        (80, FreeCapacity(percent=20), 10),
        (1, FreeCapacity(percent=99), 10),
    ],
)
def test_the_buffer_stays_free_beside_the_calls(used: int, free: FreeCapacity, expected: int) -> None:
    assert needed(used, 10, free) == expected


def test_it_grows_at_once_but_only_so_many_in_a_period() -> None:
    standing = SetStatus(replicas=2, recommended=2)
    first = count(*pods(10, 10, 10, 10, 10), status=replace(standing, replicas=2))
    assert (first.replicas, first.recommended, first.last_scale_up_time) == (4, 6, NOW)
    grown = replace(standing, replicas=4, recommended=6, last_scale_up_time=NOW)
    assert count(*pods(10, 10, 10, 10, 10), status=grown, now=NOW + 29).replicas == 4
    assert count(*pods(10, 10, 10, 10, 10), status=grown, now=NOW + 30).replicas == 6


def test_it_shrinks_only_to_the_highest_count_that_was_needed_within_the_window() -> None:
    status = SetStatus(replicas=5, recommended=5)
    times_and_loads = [(0, 40), (100, 20), (200, 5), (310, 5), (390, 5), (399, 5), (401, 5), (499, 5), (501, 5)]
    seen = []
    for passed, used in times_and_loads:
        loads = [used // 5] * 5
        decided = count(*pods(*loads), status=status, now=NOW + passed)
        status = replace(
            status,
            replicas=decided.replicas,
            recommended=decided.recommended,
            recommendations=decided.recommendations,
        )
        seen.append((passed, decided.replicas))
    assert seen == [(0, 5), (100, 5), (200, 5), (310, 5), (390, 5), (399, 5), (401, 3), (499, 3), (501, 1)]


def test_a_gap_in_the_calls_of_the_planner_counts_as_the_count_from_before_it() -> None:
    status = SetStatus(replicas=5, recommended=5)
    after = count(*pods(0, 0, 0, 0, 0), status=status, now=NOW + 86400)
    assert (after.replicas, after.recommended) == (5, 1)
    assert after.recommendations == (Recommendation(NOW + 86400, 5),)


def test_the_window_is_short_however_the_load_jumps() -> None:
    status = SetStatus(replicas=9, recommended=9)
    for second in range(600):
        decided = count(*pods(*[second * 7 % 11] * 9), status=status, now=NOW + second)
        assert len(decided.recommendations) <= 9
        status = replace(status, recommended=decided.recommended, recommendations=decided.recommendations)


@pytest.mark.parametrize(
    "slot",
    [
        pod(4, lease=LeaseState.UNKNOWN, active=None),
        pod(4, active=None),
        pod(4, lease=LeaseState.LOST, active=3),
        pod(4, phase=Phase.DEAD, lease=LeaseState.LOST, active=None, empty=False),
    ],
    ids=["store away", "lease without a load", "lease lost", "dead relay, sessions unknown"],
)
def test_missing_data_never_scales_down_and_starts_the_window_anew(slot: SlotObservation) -> None:
    status = SetStatus(replicas=5, recommended=1)
    decided = count(*pods(0, 0, 0, 0), slot, status=status, now=NOW + 1000)
    assert (decided.replicas, decided.recommended) == (5, 5)
    assert count(*pods(0, 0, 0, 0), status=status, now=NOW + 1000).replicas == 5


def test_missing_data_still_scales_up_by_what_is_known() -> None:
    slots = (*pods(10, 10), pod(2, lease=LeaseState.UNKNOWN, active=None))
    assert (
        count(
            *slots, status=SetStatus(replicas=3, recommended=3), low=3, free_capacity=FreeCapacity(amount=15)
        ).replicas
        == 4
    )


def test_a_pod_that_is_being_started_has_no_calls_and_hides_none() -> None:
    decided = count(*pods(1), unborn(1), status=SetStatus(replicas=2, recommended=1))
    assert decided.replicas == 1


def test_sessions_that_wait_in_the_store_are_counted() -> None:
    failed = pod(1, phase=Phase.FAILED, serving=False, lease=LeaseState.LOST, active=9)
    assert count(*pods(9), failed, status=SetStatus(replicas=2)).recommended == 3


def test_min_and_max_hold_at_once_whatever_the_calls_say() -> None:
    assert count(*pods(0), status=SetStatus(replicas=1, last_scale_up_time=NOW), low=4).replicas == 4
    assert count(*pods(*[10] * 6), status=SetStatus(replicas=6), high=3).replicas == 3


def test_a_roll_holds_a_scale_in_but_no_growth() -> None:
    assert count(*pods(0, 0), status=SetStatus(replicas=2, recommended=1), hold_down=True).replicas == 2
    assert count(*pods(9, 9), status=SetStatus(replicas=2, recommended=1), hold_down=True).replicas == 3


def test_a_manual_count_is_taken_as_it_is() -> None:
    desired = wish(replicas=7)
    assert decide_count(desired, pods(0), SetStatus(replicas=2), NOW, hold_down=True).replicas == 7
    assert decide_count(replace(desired, deleting=True), pods(0), SetStatus(), NOW, hold_down=False).replicas == 0


def test_a_set_that_becomes_automatic_goes_on_from_where_it_is() -> None:
    assert count(*pods(0, 0, 0), status=SetStatus(replicas=3)).replicas == 3


def test_a_clock_that_was_set_back_does_not_stop_growth() -> None:
    status = SetStatus(replicas=1, recommended=1, last_scale_up_time=NOW + 5000)
    assert count(*pods(10), status=status).replicas == 2


def test_what_was_measured_takes_the_place_of_the_lease_for_the_count_alone() -> None:
    standing = SetStatus(replicas=3, recommended=3)
    busy = [replace(slot, measured=Measured(10)) for slot in pods(0, 0, 0)]
    assert count(*busy, status=standing).recommended == 4
    idle = [replace(slot, measured=Measured(0)) for slot in pods(9, 9, 9)]
    assert count(*idle, status=replace(standing, recommended=1)).replicas == 1


@pytest.mark.parametrize(
    "slot",
    [
        pod(2, measured=Measured(None)),
        pod(2, lease=LeaseState.UNKNOWN, active=None, measured=Measured(0)),
        pod(2, lease=LeaseState.LOST, active=3, measured=Measured(0)),
        pod(2, lease=LeaseState.NONE, serving=False, measured=Measured(None)),
    ],
    ids=["no sample", "store away", "lease lost", "has just come up"],
)
def test_a_pod_without_a_sample_or_without_a_lease_is_unknown_and_nothing_is_scaled_down(slot: SlotObservation) -> None:
    known = [replace(one, measured=Measured(0)) for one in pods(0, 0)]
    status = SetStatus(replicas=3, recommended=1)
    decided = count(*known, slot, status=status, now=NOW + 1000)
    assert (decided.replicas, decided.recommended, decided.recommendations) == (3, 3, ())
    assert count(*known, pod(2, measured=Measured(0)), status=status, now=NOW + 1000).replicas == 1


def test_without_samples_it_still_grows_by_what_the_leases_say() -> None:
    silent = [replace(slot, measured=Measured(None)) for slot in pods(10, 10)]
    assert count(*silent, status=SetStatus(replicas=2, recommended=2)).replicas == 3


def test_a_slot_without_a_process_needs_no_sample() -> None:
    coming = unborn(1, measured=Measured(None))
    known = pod(0, active=1, measured=Measured(1))
    assert count(known, coming, status=SetStatus(replicas=2, recommended=1)).replicas == 1
    waiting = pod(1, phase=Phase.FAILED, serving=False, lease=LeaseState.LOST, active=9, measured=Measured(None))
    assert count(replace(known, measured=Measured(9)), waiting, status=SetStatus(replicas=2)).recommended == 3
