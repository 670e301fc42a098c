"""What the planner is told of a slot."""

from __future__ import annotations

import pytest

from sipcore.lease import LeaseView
from sipcore.record import Lease, encode
from sipcore.store import Keys
from sipfleet.local.observe import lease_state, observation, take_in_leases
from sipfleet.local.slots import Leave, Slot
from sipfleet.plan.types import LeaseState, Phase
from sipfleet.setkey import SetKey

MEDIA = SetKey("MediaPool", "default", "media")
DEMO = SetKey("SipCluster", "default", "demo")


class Running:
    """Stands for a process that is there; only `alive` and `pid` are read."""

    alive = True
    pid = 4711


def slot(owner: SetKey = MEDIA, running: bool = True) -> Slot:
    one = Slot(owner, 0, "rev", "127.20.0.10", uid="u1")
    one.phase = Phase.RUNNING
    if running:
        one.child = Running()  # type: ignore[assignment]
    return one


def lease(uid: str = "u1", **more: object) -> Lease:
    return Lease(kind="relay", pod="media-0", uid=uid, set="media", ordinal=0, index=7, version="0.1.0", **more)  # type: ignore[arg-type]


def view_of(*leases: Lease) -> LeaseView:
    """A view of a store that has been there for a minute."""
    view = LeaseView(Keys("default", "media"))
    view.store_changed(True, 0.0)
    rows: list[object] = []
    beats: list[object] = []
    for one in leases:
        rows += [one.id.encode(), encode(one)]
        beats += [one.id.encode(), b"1000"]
    view.update([b"1500", 0, rows, beats], 60.0)  # type: ignore[list-item]
    return view


def test_a_slot_speaks_with_the_words_of_its_own_lease() -> None:
    one = slot()
    take_in_leases([one], view_of(lease(active=4, capacity=500, cordoned=True, draining=True, empty=False)))
    seen = observation(one, LeaseState.ALIVE)
    assert (seen.active, seen.capacity, seen.version) == (4, 500, "0.1.0")
    assert (seen.cordoned, seen.draining, seen.empty) == (True, True, False)


def test_the_lease_of_an_earlier_incarnation_says_nothing_about_this_one() -> None:
    one = slot()
    take_in_leases([one], view_of(lease(uid="before", active=4, empty=True)))
    seen = observation(one, LeaseState.NONE)
    assert (seen.active, seen.empty, seen.version) == (None, False, None)


@pytest.mark.parametrize(
    ("available", "now", "had", "alive", "expected"),
    [
        (False, 60.0, True, True, LeaseState.UNKNOWN),
        (True, 60.0, True, True, LeaseState.ALIVE),
        (True, 60.0, True, False, LeaseState.LOST),
        (True, 60.0, False, False, LeaseState.NONE),
        (True, 2.9, True, False, LeaseState.UNKNOWN),
    ],
)
def test_a_missing_lease_counts_only_after_a_whole_life_of_the_same_store(
    available: bool, now: float, had: bool, alive: bool, expected: LeaseState
) -> None:
    one = slot()
    one.lease, one.lease_alive = lease() if had else None, alive
    assert lease_state(one, view_of(), available, now) is expected


def test_while_the_store_is_away_the_pods_own_words_count() -> None:
    one = slot()
    one.lease, one.reported = lease(active=4), lease(active=6)
    assert observation(one, LeaseState.UNKNOWN).active == 6


def test_a_relay_without_a_process_is_empty_only_when_the_store_holds_no_session_of_it() -> None:
    one = slot(running=False)
    for stored, active, empty in ((None, None, False), (3, 3, False), (0, 0, True)):
        one.stored_sessions = stored
        seen = observation(one, LeaseState.LOST)
        assert (seen.active, seen.empty) == (active, empty)


def test_a_proxy_without_a_process_holds_nothing() -> None:
    seen = observation(slot(DEMO, running=False), LeaseState.LOST)
    assert (seen.active, seen.empty) == (0, True)


def test_a_pod_that_was_told_to_end_is_terminating() -> None:
    one = slot()
    one.leave = Leave(None, 0.0)
    assert observation(one, LeaseState.ALIVE).phase is Phase.TERMINATING


def test_with_the_switch_that_skips_drains_a_full_pod_is_given_out_as_drained_and_empty() -> None:
    one = slot()
    take_in_leases([one], view_of(lease(active=4, empty=False)))
    one.skip_drain = True
    seen = observation(one, LeaseState.ALIVE)
    assert (seen.cordoned, seen.draining, seen.active, seen.empty) == (True, True, 0, True)
