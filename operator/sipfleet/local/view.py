"""What a running cluster looks like from outside: rows of JSON, made from slots, leases and the planner's status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sipfleet.local.interim import status_of
from sipfleet.local.sets import SetState
from sipfleet.local.slots import Slot

if TYPE_CHECKING:
    from sipfleet.local.supervisor import Supervisor


def pod_row(up: Supervisor, one: SetState, slot: Slot) -> dict[str, Any]:
    """One pod."""
    said = slot.said if slot.pid is not None else None
    observed = up.observed.get(one.key)
    phase = next((p.phase for p in status_of(one, observed, up.address).pods if p.ordinal == slot.ordinal), None)
    return {
        "name": slot.name,
        "set": slot.owner.name,
        "kind": slot.owner.kind,
        "ordinal": slot.ordinal,
        "uid": slot.uid,
        "pid": slot.pid,
        "phase": phase or str(slot.phase),
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


def resource_row(up: Supervisor, one: SetState) -> dict[str, Any]:
    """A manifest with its status, as kubectl would give it."""
    wire = one.resource.to_wire()
    wire["metadata"] = {**wire["metadata"], "generation": one.generation}
    status = status_of(one, up.observed.get(one.key), up.address).model_dump(mode="json", exclude_none=True)
    if one.problem is not None:
        reason, message = one.problem
        since = datetime.fromtimestamp(int(one.problem_since), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        refused = {
            "type": "Accepted",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
            "observedGeneration": one.generation,
        }
        status["conditions"] = [refused if c["type"] == "Accepted" else c for c in status["conditions"]]
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
