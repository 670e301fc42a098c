"""Between the planner's status and the `status` of a resource, both ways."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, cast

from sipfleet.plan import pod_phase
from sipfleet.plan.slots import available, load
from sipfleet.plan.types import (
    Condition,
    Desired,
    DrainStart,
    Kind,
    Observed,
    Recommendation,
    SetStatus,
    SlotObservation,
    SrvRecord,
)

from .status import (
    ConditionStatus,
    DrainStatus,
    MediaPoolStatus,
    PlanStatus,
    PodStatus,
    RecommendationStatus,
    SipClusterStatus,
    SrvRecordStatus,
)


def report(
    desired: Desired, observed: Observed, status: SetStatus, selector: str = ""
) -> SipClusterStatus | MediaPoolStatus:
    """The `status` of the resource: what the planner decided (`status`) and what it looked at (`observed`)."""
    loads = [load(slot, desired.kind) for slot in observed.slots]
    calls = sum(n for n in loads if n is not None) if any(n is not None for n in loads) or not loads else None
    common: dict[str, Any] = {
        "observed_generation": status.observed_generation,
        "conditions": [_condition(condition) for condition in status.conditions],
        "replicas": len(observed.slots),
        "desired_replicas": status.replicas,
        "ready_replicas": sum(available(slot) for slot in observed.slots),
        "selector": selector,
        "free_capacity": _free(desired, observed),
        "version": _versions(observed, status),
        "address": observed.address,
        "pods": [_pod(desired, status, slot) for slot in sorted(observed.slots, key=lambda slot: slot.ordinal)],
        "plan": _plan(status),
    }
    if desired.kind is Kind.RELAY:
        return MediaPoolStatus(**common, active_sessions=calls)
    return SipClusterStatus(
        **common,
        active_dialogs=calls,
        srv_records=[
            SrvRecordStatus(
                name=record.name,
                priority=record.priority,
                weight=record.weight,
                port=record.port,
                target=record.target,
                ttl=record.ttl,
                address=record.address,
            )
            for record in status.srv_records
        ],
    )


def remembered(status: SipClusterStatus | MediaPoolStatus) -> SetStatus:
    """What the planner left in the `status` of a resource; `report` wrote it."""
    plan = status.plan
    records = status.srv_records if isinstance(status, SipClusterStatus) else []
    return SetStatus(
        replicas=plan.replicas,
        recommended=plan.recommended,
        recommendations=tuple(Recommendation(entry.until, entry.replicas) for entry in plan.recommendations),
        last_scale_time=plan.last_scale_time,
        last_scale_up_time=plan.last_scale_up_time,
        revision=plan.revision,
        rolling=plan.rolling,
        partition=plan.partition,
        surge=plan.surge,
        roll_start=plan.roll_start,
        failed=plan.failed,
        failed_message=plan.failed_message,
        drains=tuple(DrainStart(drain.ordinal, drain.uid, drain.since) for drain in plan.drains),
        conditions=tuple(
            Condition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
                since=int(datetime.fromisoformat(condition.last_transition_time).timestamp()),
                observed_generation=condition.observed_generation,
            )
            for condition in status.conditions
        ),
        srv_records=tuple(
            SrvRecord(
                name=record.name,
                target=record.target,
                port=record.port,
                address=record.address,
                priority=record.priority,
                weight=record.weight,
                ttl=record.ttl,
            )
            for record in records
        ),
        observed_generation=status.observed_generation,
    )


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(condition: Condition) -> ConditionStatus:
    return ConditionStatus(
        type=condition.type,
        status=cast(Literal["True", "False", "Unknown"], condition.status),
        reason=condition.reason,
        message=condition.message,
        last_transition_time=_rfc3339(condition.since),
        observed_generation=condition.observed_generation,
    )


def _free(desired: Desired, observed: Observed) -> int | None:
    rooms = [
        max(0, (slot.capacity or desired.capacity) - slot.active)
        for slot in observed.slots
        if available(slot) and slot.active is not None
    ]
    return sum(rooms) if rooms or not observed.slots else None


def _versions(observed: Observed, status: SetStatus) -> str | None:
    """Versions that pods report, those of the stable revision first."""
    ordered = sorted(observed.slots, key=lambda slot: (slot.revision != status.revision, slot.ordinal))
    names = dict.fromkeys(slot.version for slot in ordered if slot.version is not None)
    return " -> ".join(names) or None


def _pod(desired: Desired, status: SetStatus, slot: SlotObservation) -> PodStatus:
    since = next((drain.since for drain in status.drains if drain.ordinal == slot.ordinal), None)
    return PodStatus(
        name=f"{desired.name}-{slot.ordinal}",
        ordinal=slot.ordinal,
        uid=slot.uid,
        phase=pod_phase(slot),
        revision=slot.revision,
        version=slot.version,
        active=slot.active,
        capacity=slot.capacity,
        address=slot.address,
        draining_since=None if since is None else _rfc3339(since),
        message=slot.message or None,
    )


def _plan(status: SetStatus) -> PlanStatus:
    return PlanStatus(
        replicas=status.replicas,
        recommended=status.recommended,
        recommendations=[
            RecommendationStatus(until=entry.until, replicas=entry.replicas) for entry in status.recommendations
        ],
        last_scale_time=status.last_scale_time,
        last_scale_up_time=status.last_scale_up_time,
        revision=status.revision,
        rolling=status.rolling,
        partition=status.partition,
        surge=status.surge,
        roll_start=status.roll_start,
        failed=status.failed,
        failed_message=status.failed_message,
        drains=[DrainStatus(ordinal=drain.ordinal, uid=drain.uid, since=drain.since) for drain in status.drains],
    )
