"""What can be said of one pod by itself: does it take calls, is it dead, may it be ended without harm.

A pod whose lease is unknown (the store is away) is never judged: it may be ended by nothing here.
"""

from __future__ import annotations

from .types import Kind, LeaseState, Phase, SlotObservation

NO_PROCESS = frozenset({Phase.PENDING, Phase.UNSCHEDULABLE, Phase.FAILED, Phase.DEAD})


def serves(slot: SlotObservation) -> bool:
    """It is up and calls go through it, whether it takes new ones or not."""
    return (
        slot.phase is Phase.RUNNING
        and slot.ready
        and slot.serving
        and slot.lease in (LeaseState.ALIVE, LeaseState.UNKNOWN)
    )


def available(slot: SlotObservation) -> bool:
    """It serves and takes new calls."""
    return serves(slot) and not slot.cordoned and not slot.draining


def dead(slot: SlotObservation) -> bool:
    """It will not come back by itself. A lost lease alone does not prove it (DESIGN 3.5): the probe must find nothing
    too."""
    if slot.phase is Phase.TERMINATING:
        return False
    return slot.phase is Phase.DEAD or (
        slot.lease is LeaseState.LOST and not slot.serving and slot.phase is Phase.RUNNING
    )


def never_used(slot: SlotObservation) -> bool:
    """It has not come up, so nobody can have given it a call; what the slot had before is said by `empty`."""
    return slot.lease is LeaseState.NONE and not slot.serving


def drained(slot: SlotObservation) -> bool:
    """It takes no new calls and has none left, by its own word and a living lease."""
    return slot.empty and slot.cordoned and slot.lease is LeaseState.ALIVE


def replaceable(slot: SlotObservation, stuck: bool) -> bool:
    """Ending it and starting another in its slot cuts no call: no process is there to cut, or no call is left on it.

    A dead relay's sessions stand in the store, and the next incarnation of the slot restores them. One that may be
    doing just this is left alone, unless it is `stuck`: it has not come up in all the time that it was given.
    """
    if slot.phase is Phase.TERMINATING:
        return False
    if slot.phase is Phase.PENDING or never_used(slot):
        return slot.empty or stuck
    return slot.phase in NO_PROCESS or dead(slot) or drained(slot)


def removable(slot: SlotObservation, kind: Kind) -> bool:
    """Ending it with its slot cuts no call. A dead proxy's dialogs are adopted by its peers; a dead relay's sessions
    need the slot until none is left."""
    return replaceable(slot, stuck=kind is Kind.PROXY) and (slot.empty or kind is Kind.PROXY)


def load(slot: SlotObservation, kind: Kind) -> int | None:
    """Its dialogs or sessions; None when that is not known now."""
    if slot.lease is LeaseState.ALIVE:
        return slot.active
    if kind is Kind.PROXY and (dead(slot) or slot.phase is Phase.FAILED):
        return 0
    if slot.lease is LeaseState.NONE or (slot.lease is LeaseState.LOST and slot.phase in NO_PROCESS):
        return 0 if slot.empty else slot.active
    return None


def scaling_load(slot: SlotObservation, kind: Kind) -> tuple[int | None, bool]:
    """(load, whether it may be relied on) where the number of pods is decided.

    What was measured takes the place of the lease's word for a pod that has a process. A pod of which one of the two
    is missing is not relied on: what is known of it is a reason to grow and no reason to shrink.
    """
    said = load(slot, kind)
    if slot.measured is None or slot.phase in NO_PROCESS:
        return said, said is not None
    if slot.measured.load is None:
        return said, False
    return slot.measured.load, said is not None


def pod_phase(slot: SlotObservation) -> str:
    """The one word for people (`status.pods[].phase`)."""
    if slot.phase is not Phase.RUNNING:
        return slot.phase.value
    if slot.lease is LeaseState.LOST:
        return "Lost"
    if not serves(slot):
        return "Starting"
    if slot.draining:
        return "Empty" if slot.empty else "Draining"
    return "Cordoned" if slot.cordoned else "Serving"
