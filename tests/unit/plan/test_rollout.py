"""A new revision: one surge pod first, then from the top down, and back when it is bad (DESIGN 4.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipfleet.plan import (
    Condition,
    Cordon,
    CreateSlot,
    Drain,
    DrainStart,
    LeaseState,
    Phase,
    RemoveSlot,
    Replace,
    SetStatus,
    SlotObservation,
    Uncordon,
)
from tests.unit.plan.scenes import NOW, ROLLOUT, STANDING, condition, decide, leaving, pod, rule, steps, unborn, wish

NEW = wish(revision="new")
ROLLING = replace(STANDING, rolling="new", partition=2, surge=1, roll_start=NOW - 60)


def fresh(ordinal: int, **changes: object) -> SlotObservation:
    return pod(ordinal, **({"revision": "new"} | changes))


def test_a_surge_pod_alone_gets_the_new_revision() -> None:
    result = decide(NEW, pod(0), pod(1))
    assert list(result.actions) == [CreateSlot(2, "new")]
    status = result.status
    assert (status.revision, status.rolling, status.partition, status.surge) == ("old", "new", 2, 1)
    assert status.roll_start == NOW


def test_nothing_follows_until_the_surge_pod_really_serves() -> None:
    for slot in (
        unborn(2, revision="new"),
        fresh(2, ready=False, serving=False),
        fresh(2, serving=False),
        fresh(2, lease=LeaseState.NONE, serving=False),
    ):
        assert steps(NEW, pod(0), pod(1), replace(slot, since=NOW - 10), status=ROLLING) == []
    assert steps(NEW, pod(0), pod(1), fresh(2), status=ROLLING) == [Cordon(1, "u1"), Drain(1, "u1")]


def test_a_slot_is_replaced_when_it_is_drained_and_the_next_waits_for_it_to_serve() -> None:
    assert steps(NEW, pod(0), leaving(1, active=1), fresh(2), status=ROLLING) == []
    result = decide(NEW, pod(0), leaving(1), fresh(2), status=ROLLING)
    assert list(result.actions) == [Replace(1, "u1", "new")]
    assert result.status.partition == 1
    assert steps(NEW, pod(0), unborn(1, revision="new"), fresh(2), status=result.status) == []
    assert steps(NEW, pod(0), fresh(1), fresh(2), status=result.status) == [Cordon(0, "u0"), Drain(0, "u0")]


def test_a_roll_ends_with_the_surge_pod_drained_and_removed() -> None:
    status = replace(ROLLING, partition=0)
    done = decide(NEW, fresh(0), fresh(1), fresh(2, active=1), status=status)
    assert list(done.actions) == [Cordon(2, "u2"), Drain(2, "u2")]
    assert (done.status.revision, done.status.rolling, done.status.partition) == ("new", None, None)
    assert steps(NEW, fresh(0), fresh(1), leaving(2, revision="new"), status=done.status) == [RemoveSlot(2, "u2")]


def test_the_surge_stays_until_the_last_slot_serves() -> None:
    status = replace(ROLLING, partition=0)
    starting = decide(NEW, unborn(0, revision="new"), fresh(1), fresh(2), status=status)
    assert starting.actions == ()
    assert starting.status.rolling == "new"


def test_with_more_surge_more_slots_are_out_at_a_time() -> None:
    wide = replace(NEW, replicas=4, rollout=replace(ROLLOUT, surge=2))
    slots = (pod(0), pod(1), pod(2), pod(3), fresh(4))
    standing = replace(ROLLING, replicas=4, partition=4)
    first = decide(wide, *slots, status=standing)
    assert list(first.actions) == [CreateSlot(5, "new"), Cordon(3, "u3"), Drain(3, "u3")]
    both = steps(wide, pod(0), pod(1), pod(2), leaving(3, active=1), fresh(4), fresh(5), status=first.status)
    assert both == [Cordon(2, "u2"), Drain(2, "u2")]


def test_a_slot_below_is_not_replaced_before_the_one_above_it() -> None:
    wide = replace(NEW, replicas=3, rollout=replace(ROLLOUT, surge=2))
    status = replace(ROLLING, replicas=3, partition=3, surge=2)
    slots = (pod(0), leaving(1), leaving(2, active=1), fresh(3), fresh(4))
    drains = replace(status, drains=(DrainStart(1, "u1", NOW), DrainStart(2, "u2", NOW)))
    assert steps(wide, *slots, status=drains) == []


def test_without_surge_the_top_slot_is_drained_first_and_goes_alone() -> None:
    bare = replace(NEW, rollout=replace(ROLLOUT, surge=0))
    begun = decide(bare, pod(0), pod(1))
    assert list(begun.actions) == [Cordon(1, "u1"), Drain(1, "u1")]
    gone = decide(bare, pod(0), leaving(1), status=begun.status)
    assert list(gone.actions) == [Replace(1, "u1", "new")]
    assert gone.status.partition == 1
    assert steps(bare, pod(0), status=gone.status) == [CreateSlot(1, "new")]
    assert steps(bare, pod(0), unborn(1, revision="new"), status=gone.status) == []
    assert steps(bare, pod(0), fresh(1), status=gone.status) == [Cordon(0, "u0"), Drain(0, "u0")]


def test_a_pod_that_dies_in_a_roll_comes_back_as_it_was() -> None:
    lost = {"lease": LeaseState.LOST, "serving": False}
    assert Replace(0, "u0", "old") in steps(NEW, pod(0, **lost), pod(1), fresh(2), status=ROLLING)
    assert Replace(2, "u2", "new") in steps(NEW, pod(0), pod(1), fresh(2, **lost), status=ROLLING)
    assert CreateSlot(0, "old") in steps(NEW, pod(1), fresh(2), status=ROLLING)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            unborn(2, revision="new", phase=Phase.FAILED, message="release new is not installed"),
            "set-2: release new is not installed",
        ),
        (fresh(2, phase=Phase.FAILED, serving=False), "set-2: does not come up"),
        (fresh(2, serving=False, since=NOW - 300), "set-2: does not serve after 300 s"),
        (
            unborn(2, revision="new", since=NOW - 300, message="image cannot be pulled"),
            "set-2: does not serve after 300 s (image cannot be pulled)",
        ),
    ],
    ids=["cannot be had", "crashes", "does not serve", "does not start"],
)
def test_a_bad_revision_stops_the_roll_and_the_template_goes_back_first(bad: SlotObservation, message: str) -> None:
    result = decide(NEW, pod(0), pod(1), bad, status=ROLLING)
    status = result.status
    assert (status.revision, status.rolling, status.failed) == ("old", None, "new")
    assert condition(result, "Degraded") == ("True", "RolloutFailed", message)
    again = decide(NEW, pod(0), pod(1), status=status)
    assert again.actions == ()
    assert again.status.failed == "new"


def test_a_bad_surge_pod_is_removed_without_waiting_because_nobody_used_it() -> None:
    bad = unborn(2, revision="new", phase=Phase.FAILED)
    assert steps(NEW, pod(0), pod(1), bad, status=ROLLING) == [RemoveSlot(2, "u2")]


def test_pods_that_have_a_bad_revision_and_calls_are_drained_before_they_go_back() -> None:
    status = replace(ROLLING, partition=1)
    bad = fresh(1, serving=False, since=NOW - 300, active=2)
    assert steps(NEW, pod(0), bad, fresh(2, active=1), status=status) == [
        Cordon(2, "u2"),
        Drain(2, "u2"),
        Cordon(1, "u1"),
        Drain(1, "u1"),
    ]
    empty = leaving(2, revision="new")
    back = replace(status, rolling=None, failed="new", partition=None, drains=(DrainStart(2, "u2", NOW),))
    assert Replace(2, "u2", "old") in steps(NEW, pod(0), bad, empty, status=back)


def test_a_failed_revision_is_tried_again_only_when_another_one_was_asked_for() -> None:
    failed = replace(STANDING, failed="new", failed_message="why")
    assert steps(NEW, pod(0), pod(1), status=failed) == []
    other = decide(replace(NEW, revision="newer"), pod(0), pod(1), status=failed)
    assert list(other.actions) == [CreateSlot(2, "newer")]
    assert other.status.failed is None
    assert decide(wish(), pod(0), pod(1), status=failed).status.failed is None


@pytest.mark.parametrize(
    "slot",
    [
        fresh(2, phase=Phase.UNSCHEDULABLE, serving=False, since=NOW - 9000),
        fresh(2, phase=Phase.DEAD, serving=False, since=NOW - 9000),
        fresh(2, serving=False, since=NOW - 9000, lease=LeaseState.UNKNOWN),
        fresh(2, serving=False, since=NOW - 299),
    ],
    ids=["no place", "node lost", "store away", "young"],
)
def test_what_is_not_the_fault_of_the_revision_does_not_stop_the_roll(slot: SlotObservation) -> None:
    assert decide(NEW, pod(0), pod(1), slot, status=ROLLING).status.failed is None


def test_the_time_in_which_the_store_was_away_is_not_held_against_a_revision() -> None:
    back = Condition("StoreAvailable", "True", "Reachable", "", int(NOW - 20), 3)
    slot = fresh(2, serving=False, lease=LeaseState.NONE, since=NOW - 9000)
    assert decide(NEW, pod(0), pod(1), slot, status=replace(ROLLING, conditions=(back,))).status.failed is None
    long_back = replace(back, since=int(NOW - 300))
    assert decide(NEW, pod(0), pod(1), slot, status=replace(ROLLING, conditions=(long_back,))).status.failed == "new"


def test_a_roll_of_a_version_is_done_only_when_the_leases_say_so() -> None:
    versioned = replace(NEW, version="2")
    wrong = fresh(2, since=NOW - 60)
    assert steps(versioned, pod(0), pod(1), wrong, status=ROLLING) == []
    stale = replace(wrong, since=NOW - 300)
    assert decide(versioned, pod(0), pod(1), stale, status=ROLLING).status.failed_message == (
        "set-2: runs version 1 instead of 2"
    )
    right = fresh(2, version="2")
    assert steps(versioned, pod(0), pod(1), right, status=ROLLING) == [Cordon(1, "u1"), Drain(1, "u1")]


def test_a_surge_without_a_place_is_said_and_the_roll_goes_on_without() -> None:
    homeless = unborn(2, revision="new", phase=Phase.UNSCHEDULABLE, message="no node has room")
    result = decide(NEW, pod(0), pod(1), homeless, status=ROLLING)
    assert list(result.actions) == [Cordon(1, "u1"), Drain(1, "u1")]
    assert condition(result, "SurgeBlocked") == (
        "True",
        "Unschedulable",
        "the roll goes on without set-2 (no node has room)",
    )


def test_a_third_revision_in_mid_roll_goes_from_the_top_again_and_frees_the_slot_that_waits() -> None:
    newest = wish(revision="newest", replicas=3)
    status = replace(ROLLING, replicas=3, partition=2, drains=(DrainStart(1, "u1", NOW - 5),))
    slots = (pod(0), leaving(1, active=1), fresh(2), fresh(3))
    first = decide(newest, *slots, status=status)
    assert list(first.actions) == [Uncordon(1, "u1")]
    assert (first.status.rolling, first.status.revision, first.status.partition) == ("newest", "old", 4)
    second = steps(newest, pod(0), pod(1, active=1), fresh(2), fresh(3), status=first.status)
    assert second == [Cordon(3, "u3"), Drain(3, "u3")]


def test_growth_in_a_roll_that_is_not_proven_makes_pods_of_what_worked() -> None:
    more = replace(NEW, replicas=4)
    result = decide(more, pod(0), pod(1), unborn(2, revision="new"), status=ROLLING)
    assert list(result.actions) == [CreateSlot(3, "old"), CreateSlot(4, "new")]
    assert result.status.partition == 4


def test_growth_in_a_roll_that_is_proven_makes_pods_of_the_new_revision() -> None:
    status = replace(ROLLING, partition=1)
    actions = steps(replace(NEW, replicas=4), pod(0), fresh(1), fresh(2), status=status)
    assert [action for action in actions if isinstance(action, CreateSlot)] == [
        CreateSlot(3, "new"),
        CreateSlot(4, "new"),
    ]


def test_an_automatic_scale_in_waits_for_the_roll_a_manual_one_does_not() -> None:
    status = replace(ROLLING, replicas=3, recommended=1, partition=3)
    slots = (pod(0), pod(1), pod(2), unborn(3, revision="new"))
    automatic = replace(NEW, replicas=None, autoscale=rule())
    assert decide(automatic, *slots, status=status).status.replicas == 3
    assert decide(NEW, *slots, status=status).status.replicas == 2


def test_broken_pods_of_the_old_revision_do_not_hold_up_the_roll_that_repairs_them() -> None:
    sick = {"phase": Phase.FAILED, "serving": False, "ready": False, "lease": LeaseState.NONE}
    assert steps(NEW, pod(0, **sick), pod(1, **sick)) == [CreateSlot(2, "new")]
    repaired = decide(NEW, pod(0, **sick), pod(1, **sick), fresh(2), status=ROLLING)
    assert list(repaired.actions) == [Replace(1, "u1", "new")]


def test_a_roll_of_no_pods_is_done_at_once_and_one_of_draining_pods_when_they_are_gone() -> None:
    none = wish(revision="new", replicas=0)
    assert decide(none, status=replace(STANDING, replicas=0)).status.revision == "new"
    draining = decide(none, leaving(0, active=1), status=replace(STANDING, replicas=0))
    assert draining.status.revision == "old"
    dead = leaving(0, active=1, phase=Phase.DEAD, lease=LeaseState.LOST)
    assert steps(none, dead, status=draining.status) == [Replace(0, "u0", "old")]


def test_a_pod_on_a_cordoned_node_is_replaced_with_surge_first_and_out_of_order() -> None:
    slots = (pod(0, evict=True, active=1), pod(1))
    first = decide(wish(), *slots)
    assert list(first.actions) == [CreateSlot(2, "old")]
    assert steps(wish(), *slots, pod(2), status=first.status) == [Cordon(0, "u0"), Drain(0, "u0")]
    away = decide(wish(), leaving(0, evict=True), pod(1), pod(2), status=first.status)
    assert list(away.actions) == [Replace(0, "u0", "old")]
    assert steps(wish(), unborn(0), pod(1), pod(2), status=away.status) == []
    assert steps(wish(), pod(0), pod(1), pod(2), status=away.status) == [Cordon(2, "u2"), Drain(2, "u2")]


def test_a_first_revision_that_never_served_is_nothing_to_go_back_to() -> None:
    broken = {"phase": Phase.FAILED, "serving": False, "lease": LeaseState.NONE}
    status = SetStatus(replicas=3, revision="first", rolling="second", partition=1, surge=1)
    slots = (pod(0, revision="first", **broken), pod(1, revision="second"), pod(2, revision="second"))
    result = decide(wish(revision="third", replicas=3), *slots, status=status)
    assert (result.status.revision, result.status.rolling) == ("second", "third")
