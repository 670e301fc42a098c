"""What a running cluster looks like from outside: rows of JSON, made from slots, leases and the planner's status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sipfleet.api import MediaPoolStatus, SipClusterStatus, report
from sipfleet.local.sets import SetState
from sipfleet.local.slots import Slot
from sipfleet.plan import pod_phase

if TYPE_CHECKING:
    from sipfleet.local.supervisor import Supervisor


def pod_row(up: Supervisor, slot: Slot) -> dict[str, Any]:
    """One pod."""
    said = slot.said if slot.pid is not None else None
    phase = pod_phase(up.sight.of(slot))
    return {
        "name": slot.name,
        "set": slot.owner.name,
        "kind": slot.owner.kind,
        "ordinal": slot.ordinal,
        "uid": slot.uid,
        "pid": slot.pid,
        "phase": phase,
        "process": str(slot.phase),
        "ready": slot.ready,
        "serving": slot.serving,
        "address": slot.address,
        "version": said.version if said is not None else slot.version,
        "revision": slot.revision,
        "index": said.index if said is not None else None,
        "active": said.active if said is not None else slot.stored_sessions,
        "capacity": said.capacity if said is not None else None,
        "transactions": said.transactions if said is not None else None,
        "cordoned": said.cordoned if said is not None else False,
        "draining": said.draining if said is not None else False,
        "empty": said.empty if said is not None else None,
        "restarts": slot.restarts,
        "since": slot.since,
        "message": slot.message,
    }


def _status(one: SetState) -> SipClusterStatus | MediaPoolStatus:
    if one.desired is None or one.observed is None:  # just applied, not looked at yet
        return SipClusterStatus() if one.key.kind == "SipCluster" else MediaPoolStatus()
    return report(one.desired, one.observed, one.status)


def resource_row(one: SetState) -> dict[str, Any]:
    """A manifest with its status, as kubectl would give it."""
    wire = one.resource.to_wire()
    wire["metadata"] = {**wire["metadata"], "generation": one.generation}
    status = _status(one).model_dump(mode="json", exclude_none=True)
    wire["status"] = status
    return wire


def srv_rows(up: Supervisor) -> list[dict[str, Any]]:
    """The SRV records that are published."""
    return [
        {
            "name": record.name,
            "ttl": record.ttl,
            "priority": record.priority,
            "weight": record.weight,
            "port": record.port,
            "target": record.target,
            "address": record.address,
        }
        for records in up.executor.published.values()
        for record in records
    ]
