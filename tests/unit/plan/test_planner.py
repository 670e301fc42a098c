"""Growing, shrinking, healing: one decision on one look."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipfleet.plan import (
    Cordon,
    CreateSlot,
    Cut,
    Drain,
    DrainStart,
    Kind,
    LeaseState,
    Phase,
    RemoveSlot,
    Replace,
    SetStatus,
    Uncordon,
)
from tests.unit.plan.scenes import NOW, ROLLOUT, STANDING, condition, decide, leaving, pod, steps, unborn, wish

BLIND = {"lease": LeaseState.UNKNOWN, "active": None, "empty": False}
GONE = {"lease": LeaseState.LOST, "serving": False, "ready": False}


def drained_since(ordinal: int, since: float) -> SetStatus:
    return replace(STANDING, drains=(DrainStart(ordinal, f"u{ordinal}", since),))


def test_an_empty_place_is_filled_from_the_bottom() -> None:
    assert steps(wish(), status=SetStatus()) == [CreateSlot(0, "old"), CreateSlot(1, "old")]


def test_nothing_is_done_where_nothing_is_to_do() -> None:
    result = decide(wish(), pod(0), pod(1, active=3))
    again = decide(wish(), pod(0), pod(1, active=3), status=result.status, now=NOW + 60)
    assert result.actions == ()
    assert again == result


def test_an_action_under_way_is_not_given_again() -> None:
    assert steps(wish(), pod(0), unborn(1)) == []
    assert steps(wish(replicas=1), pod(0), leaving(1, active=2)) == []
    assert steps(wish(replicas=1), pod(0), leaving(1, phase=Phase.TERMINATING)) == []


def test_a_slot_too_many_is_cordoned_drained_and_removed_when_empty() -> None:
    less = wish(replicas=1)
    assert steps(less, pod(0), pod(1, active=2)) == [Cordon(1, "u1"), Drain(1, "u1")]
    assert steps(less, pod(0), leaving(1, draining=False, active=2)) == [Drain(1, "u1")]
    assert steps(less, pod(0), leaving(1, active=2)) == []
    assert steps(less, pod(0), leaving(1)) == [RemoveSlot(1, "u1")]


def test_an_empty_pod_that_takes_calls_is_cordoned_first_not_removed() -> None:
    assert steps(wish(replicas=1), pod(0), pod(1)) == [Cordon(1, "u1"), Drain(1, "u1")]


def test_slots_are_removed_from_the_top_and_a_full_one_holds_those_below() -> None:
    none = wish(replicas=0)
    assert steps(none, leaving(0), leaving(1), leaving(2)) == [
        RemoveSlot(2, "u2"),
        RemoveSlot(1, "u1"),
        RemoveSlot(0, "u0"),
    ]
    assert steps(none, leaving(0), leaving(1), leaving(2, active=1)) == []
    assert steps(none, leaving(0), leaving(1, active=1), leaving(2)) == [RemoveSlot(2, "u2")]


def test_a_pod_is_taken_back_when_it_is_wanted_again() -> None:
    status = replace(drained_since(1, NOW - 5), replicas=1)
    result = decide(wish(replicas=2), pod(0), leaving(1, active=1), status=status)
    assert list(result.actions) == [Uncordon(1, "u1")]
    assert result.status.drains == ()


def test_a_cordon_that_nobody_ordered_is_taken_back() -> None:
    assert steps(wish(), pod(0), pod(1, cordoned=True)) == [Uncordon(1, "u1")]


@pytest.mark.parametrize("slot", [leaving(1, **BLIND), leaving(1, **BLIND, phase=Phase.PENDING)])
def test_while_the_store_is_away_nothing_is_removed_or_replaced(slot: object) -> None:
    assert steps(wish(replicas=1), pod(0), slot) == []  # type: ignore[arg-type]
    assert steps(wish(), pod(0), slot) in ([], [Uncordon(1, "u1")])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slot", "healed"),
    [
        (pod(1, phase=Phase.DEAD, lease=LeaseState.UNKNOWN, serving=False), True),
        (pod(1, **GONE), True),
        (pod(1, lease=LeaseState.LOST), False),
        (pod(1, serving=False), False),
        (pod(1, serving=False, lease=LeaseState.UNKNOWN), False),
        (pod(1, phase=Phase.FAILED, serving=False, lease=LeaseState.LOST), False),
        (pod(1, phase=Phase.TERMINATING, **GONE), False),
    ],
    ids=[
        "dead",
        "lost and silent",
        "lost but serving",
        "silent",
        "silent, store away",
        "restarted by the runtime",
        "ending",
    ],
)
def test_a_pod_is_replaced_when_it_is_proved_dead_and_not_before(slot: object, healed: bool) -> None:
    assert steps(wish(), pod(0), slot) == ([Replace(1, "u1", "old")] if healed else [])  # type: ignore[arg-type]


def test_a_dead_relay_that_should_leave_comes_back_while_its_sessions_stand_in_the_store() -> None:
    less = wish(replicas=1)
    assert steps(less, pod(0), leaving(1, **GONE, active=2)) == [Replace(1, "u1", "old")]
    assert steps(less, pod(0), leaving(1, **GONE)) == [RemoveSlot(1, "u1")]


def test_a_dead_proxy_that_should_leave_leaves_because_its_peers_adopt_its_dialogs() -> None:
    less = wish(Kind.PROXY, replicas=1)
    assert steps(less, pod(0), leaving(1, **GONE, active=2)) == [RemoveSlot(1, "u1")]


def test_a_pod_that_is_restoring_its_sessions_is_not_removed_for_having_no_lease_yet() -> None:
    restoring = pod(1, phase=Phase.RUNNING, serving=False, lease=LeaseState.NONE, active=2)
    assert RemoveSlot(1, "u1") not in steps(wish(replicas=1), pod(0), restoring)
    unknown = pod(1, phase=Phase.RUNNING, serving=False, lease=LeaseState.NONE, active=None, empty=False)
    assert RemoveSlot(1, "u1") not in steps(wish(replicas=1), pod(0), unknown)


def test_the_drain_timeout_stops_the_step_or_cuts_as_the_user_says() -> None:
    slots = (pod(0), leaving(1, active=2))
    late = replace(drained_since(1, NOW - 10800), replicas=1)
    waits = decide(wish(replicas=1), *slots, status=late)
    assert waits.actions == ()
    assert condition(waits, "DrainBlocked") == ("True", "DrainTimeout", "after 10800 s: set-1 has 2 calls left")
    cuts = decide(wish(replicas=1, rollout=replace(ROLLOUT, cut=True)), *slots, status=late)
    assert list(cuts.actions) == [Cut(1, "u1")]
    assert condition(cuts, "DrainBlocked")[0] == "False"
    early = replace(drained_since(1, NOW - 10799), replicas=1)
    assert steps(wish(replicas=1, rollout=replace(ROLLOUT, cut=True)), *slots, status=early) == []


def test_nothing_is_cut_while_the_store_is_away() -> None:
    late = replace(drained_since(1, NOW - 20000), replicas=1)
    cut = wish(replicas=1, rollout=replace(ROLLOUT, cut=True))
    assert steps(cut, pod(0), leaving(1, **BLIND), status=late) == []


def test_a_pod_that_dies_while_it_drains_does_not_start_the_time_anew() -> None:
    status = replace(drained_since(1, NOW - 500), replicas=1)
    result = decide(wish(replicas=1), pod(0), leaving(1, uid="another", active=1), status=status)
    assert result.status.drains == (DrainStart(1, "another", NOW - 500),)


def test_deleting_drains_all_and_then_removes_all() -> None:
    gone = wish(deleting=True)
    assert steps(gone, pod(0, active=1), pod(1)) == [Cordon(1, "u1"), Drain(1, "u1"), Cordon(0, "u0"), Drain(0, "u0")]
    assert steps(gone, leaving(0, active=1), leaving(1)) == [RemoveSlot(1, "u1")]
    assert steps(gone) == []


def test_growth_while_a_slot_is_ending_waits_for_the_slot() -> None:
    ending = leaving(1, phase=Phase.TERMINATING, active=1)
    assert steps(wish(replicas=3), pod(0), ending) == [CreateSlot(2, "old")]


def test_without_a_status_what_stands_is_taken_for_what_was_wanted() -> None:
    result = decide(wish(), pod(0), pod(1), status=SetStatus())
    assert result.actions == ()
    assert (result.status.replicas, result.status.revision) == (2, "old")


def test_the_status_says_which_generation_it_is_about() -> None:
    assert decide(wish(generation=8), pod(0), pod(1)).status.observed_generation == 8
