"""What the planner is told of this machine: slots as `SlotObservation`s. Pure: no process is looked at here."""

from __future__ import annotations

from collections.abc import Iterable

from sipcore.lease import LeaseView
from sipfleet.local.slots import Slot
from sipfleet.plan.types import LeaseState, Phase, SlotObservation


def take_in_leases(slots: Iterable[Slot], view: LeaseView) -> None:
    """Give each slot the lease of the incarnation that is in it."""
    leases = view.leases
    for slot in slots:
        lease = leases.get(slot.lease_id)
        slot.lease_alive = lease is not None
        if lease is not None:
            slot.lease, slot.reported = lease, None


def lease_state(slot: Slot, view: LeaseView | None, store_available: bool, now: float) -> LeaseState:
    """`now` is the clock of `view` (DESIGN 2.7: a missing lease counts only after a whole life of the same store)."""
    if not store_available or view is None:
        return LeaseState.UNKNOWN
    if slot.lease_alive:
        return LeaseState.ALIVE
    if not view.trusted(now):
        return LeaseState.UNKNOWN
    return LeaseState.NONE if slot.lease is None else LeaseState.LOST


def observation(slot: Slot, lease: LeaseState) -> SlotObservation:
    """One slot as the planner sees it."""
    running = slot.pid is not None
    said = slot.said if running else None
    relay = slot.owner.kind == "MediaPool"
    opened = "/uncordon" in slot.busy  # told just now: a lease from before does not show the calls that come since
    if slot.skip_drain:
        active, transactions, empty = 0, 0, True
    elif said is not None:
        active, transactions, empty = said.active, said.transactions, said.empty
    elif running:
        active, transactions, empty = None, None, False
    else:  # no process: a relay's sessions wait in the store, a proxy's dialogs for another proxy
        active = slot.stored_sessions if relay else 0
        transactions, empty = 0, active == 0
    return SlotObservation(
        ordinal=slot.ordinal,
        uid=slot.uid,
        revision=slot.revision,
        version=said.version if said is not None else None,
        phase=Phase.TERMINATING if slot.leave is not None else slot.phase,
        ready=slot.ready,
        serving=slot.serving,
        lease=lease,
        cordoned=slot.skip_drain or (said is not None and said.cordoned and not opened),
        draining=slot.skip_drain or (said is not None and said.draining and not opened),
        active=active,
        transactions=transactions,
        capacity=said.capacity if said is not None else None,
        empty=empty and not opened,
        address=slot.address,
        since=slot.since,
        evict=slot.evict,
        message=slot.message,
    )
