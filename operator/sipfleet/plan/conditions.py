"""The conditions of `status`: what people and scripts wait for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .rollout import Goal, Layout, broken
from .slots import available, dead, pod_phase
from .types import Condition, Desired, LeaseState, Observed, Phase, Probe, SlotObservation

NOT_PROBED = ("Unknown", "NotProbed", "")
PROBED = ("EgressAddress", "SourceAddressPreserved")
METRICS = "MetricsAvailable"
"""Only of sets whose load is measured by a monitoring system."""
MOST_NAMED = 5
"""So many pods are named in a message; the rest is counted."""

Verdict = tuple[str, str, str]
"""Status, reason, message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the planner decided, as far as conditions speak of it."""

    goal: Goal
    layout: Layout
    leaving: Sequence[SlotObservation]
    overdue: Sequence[SlotObservation]
    acting: bool
    """There are actions to carry out."""
    now: float


def conditions(desired: Desired, observed: Observed, outcome: Outcome) -> tuple[Condition, ...]:
    """All conditions, in a fixed order. The time of a condition changes only with its status."""
    earlier = {condition.type: condition for condition in observed.status.conditions}
    out = []
    for kind, (status, reason, message) in _verdicts(desired, observed, outcome):
        before = earlier.get(kind)
        since = before.since if before is not None and before.status == status else int(outcome.now)
        out.append(Condition(kind, status, reason, message, since, desired.generation))
    return tuple(out)


def _verdicts(desired: Desired, observed: Observed, outcome: Outcome) -> Iterator[tuple[str, Verdict]]:
    probes = {probe.type: probe for probe in observed.probes}
    yield "Accepted", (str(desired.accepted), desired.accepted_reason, desired.accepted_message)
    yield "Ready", _ready(desired, observed, outcome.layout)
    yield "Progressing", _progressing(desired, observed, outcome)
    yield "Degraded", _degraded(desired, observed, outcome)
    yield "StoreAvailable", _store(observed)
    if METRICS in probes:
        yield METRICS, _probed(probes[METRICS])
    for kind in PROBED:
        yield kind, _probed(probes.get(kind))
    yield "SurgeBlocked", _surge_blocked(desired, observed, outcome.layout)
    yield "DrainBlocked", _drain_blocked(desired, outcome)
    yield "CallsKept", _calls_kept(probes)


def _names(desired: Desired, slots: Sequence[SlotObservation]) -> str:
    parts = [f"{desired.name}-{slot.ordinal} ({slot.message or pod_phase(slot)})" for slot in slots[:MOST_NAMED]]
    return ", ".join(parts) + (f" and {len(slots) - MOST_NAMED} more" if len(slots) > MOST_NAMED else "")


def _ready(desired: Desired, observed: Observed, layout: Layout) -> Verdict:
    wanted = layout.replicas
    serving = sum(available(slot) for slot in observed.slots)
    if serving >= wanted:
        was_ready = any(one.type == "Ready" and one.status == "True" for one in observed.status.conditions)
        if wanted and observed.store_available is False and not was_ready:
            # Pods that have a store go on without it; those that come up without it know nothing of each other's calls.
            return "False", "StorePending", "the store has not been reached yet: calls would not be kept"
        return "True", "PodsServe" if wanted else "ScaledToZero", f"{wanted} wanted"
    idle = [slot for slot in observed.slots if not available(slot)]
    message = f"{serving} of {wanted} pods take calls"
    return "False", "PodsMissing", f"{message}: {_names(desired, idle)}" if idle else message


def _progressing(desired: Desired, observed: Observed, outcome: Outcome) -> Verdict:
    if outcome.goal.rolling:
        done = sum(slot.revision == outcome.goal.revision for slot in observed.slots)
        return "True", "RollingOut", f"{done} of {outcome.layout.total} pods have the new revision"
    if any(slot.revision != outcome.goal.revision for slot in observed.slots):
        return "True", "RollingBack" if outcome.goal.failed else "Replacing", _names(desired, outcome.leaving)
    if outcome.leaving:
        return "True", "Draining", _names(desired, outcome.leaving)
    if outcome.acting or outcome.layout.surge:
        return "True", "Scaling", ""
    coming = [slot for slot in observed.slots if not available(slot) and not broken(slot, desired, outcome.now)]
    if coming:
        return "True", "Starting", _names(desired, coming)
    return "False", "Settled", ""


def _degraded(desired: Desired, observed: Observed, outcome: Outcome) -> Verdict:
    if outcome.goal.failed is not None:
        return "True", "RolloutFailed", outcome.goal.failed_message
    lost = [slot for slot in observed.slots if dead(slot) or slot.phase is Phase.FAILED]
    if lost:
        return "True", "PodsFailed", _names(desired, lost)
    silent = [slot for slot in observed.slots if slot.lease is LeaseState.LOST]
    if silent:
        return "True", "LeaseLost", _names(desired, silent)
    return "False", "AsExpected", ""


def _store(observed: Observed) -> Verdict:
    if observed.store_available is None:
        return NOT_PROBED
    if observed.store_available:
        return "True", "Reachable", ""
    return "False", "Unreachable", "calls go on; nothing is scaled in, replaced or adopted until the store is back"


def _probed(probe: Probe | None) -> Verdict:
    return (probe.status, probe.reason, probe.message) if probe is not None else NOT_PROBED


def _calls_kept(probes: dict[str, Probe]) -> Verdict:
    """DESIGN 6: True only when the source that a peer sees and the source that we see are both the real ones."""
    if "CallsKept" in probes:
        return _probed(probes["CallsKept"])
    found = [_probed(probes.get(kind)) for kind in PROBED]
    for status in ("False", "Unknown"):
        for kind, (given, reason, message) in zip(PROBED, found, strict=True):
            if given == status:
                return (status, f"{kind}{reason}", message) if status == "False" else NOT_PROBED
    return "True", "AddressesPreserved", ""


def _surge_blocked(desired: Desired, observed: Observed, layout: Layout) -> Verdict:
    blocked = [
        slot
        for slot in observed.slots
        if slot.phase is Phase.UNSCHEDULABLE and layout.replicas <= slot.ordinal < layout.total
    ]
    if blocked:
        return "True", "Unschedulable", f"the roll goes on without {_names(desired, blocked)}"
    return "False", "NotBlocked", ""


def _drain_blocked(desired: Desired, outcome: Outcome) -> Verdict:
    if not outcome.overdue:
        return "False", "NotBlocked", ""
    parts = [
        f"{desired.name}-{slot.ordinal} has {'unknown' if slot.active is None else slot.active} calls left"
        for slot in outcome.overdue[:MOST_NAMED]
    ]
    timeout = f"{desired.rollout.drain_timeout:.0f} s"
    return "True", "DrainTimeout", f"after {timeout}: {', '.join(parts)}"
