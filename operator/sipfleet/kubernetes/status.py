"""What is told of one set: its `status`, and events for conditions that changed."""

from __future__ import annotations

import asyncio
import time

from sipfleet.api import SipCluster
from sipfleet.api.report import report
from sipfleet.kubernetes import names
from sipfleet.kubernetes.client import Object
from sipfleet.kubernetes.fleet import STATUS_INTERVAL, Fleet
from sipfleet.kubernetes.objects import services
from sipfleet.kubernetes.sets import Resource, SetState
from sipfleet.plan import Desired, Observed, Plan, SetStatus


async def write(fleet: Fleet, state: SetState, wanted: Desired, seen: Observed, decided: Plan) -> None:
    """Store the status: at once where more than numbers changed, for a plan must be known before it is carried out."""
    made_of = (seen, state.exposure)
    if made_of == state.reported:
        return
    made = report(wanted, seen, decided.status, names.selector_text(state.key))
    wire = made.model_copy(update={"exposure": state.exposure}).model_dump(mode="json", exclude_none=True)
    if await _apply(fleet, state, wire):
        state.reported = made_of


async def _apply(fleet: Fleet, state: SetState, wire: Object) -> bool:
    """Apply a status; -> False for one in which only numbers changed and which waits until the last write is old
    enough."""
    matter = _without_numbers(wire)
    old_matter, old_wire, when = state.written
    now = asyncio.get_running_loop().time()
    if wire == old_wire:
        return True
    if matter == old_matter and now - when < STATUS_INTERVAL:
        return False
    body = {
        "apiVersion": "sipfleet.io/v1alpha1",
        "kind": state.key.kind,
        "metadata": {"name": state.key.name, "namespace": state.key.namespace},
        "status": wire,
    }
    await fleet.api.apply(body, sub="status")
    state.written = (matter, wire, now)
    return True


def _without_numbers(wire: Object) -> Object:
    """The status without what changes with every call."""
    numbers = ("activeDialogs", "activeSessions", "freeCapacity")
    rest = {name: value for name, value in wire.items() if name not in numbers}
    rest["pods"] = [{k: v for k, v in pod.items() if k != "active"} for pod in wire.get("pods") or []]
    return rest


async def refuse(fleet: Fleet, state: SetState, problem: tuple[str, str]) -> None:
    """Nothing to go on with: the status says what is wrong with the manifest."""
    reason, message = problem
    await _conditions(fleet, state, [("Accepted", "False", reason, message), ("Ready", "False", reason, "")])
    await fleet.events.add(state.key, state.uid, reason, message, warning=True)


async def wait_for_address(fleet: Fleet, state: SetState, resource: Resource) -> None:
    name = (
        services.sip_service_name(state.key) if isinstance(resource, SipCluster) else services.slot_name(state.key, 0)
    )
    message = (
        f"service/{name} has no address yet; something in this cluster has to give addresses to LoadBalancer Services"
    )
    await _conditions(
        fleet, state, [("Accepted", "True", "Accepted", ""), ("Ready", "False", "AddressPending", message)]
    )


async def _conditions(fleet: Fleet, state: SetState, verdicts: list[tuple[str, str, str, str]]) -> None:
    """A status of conditions alone, beside what the planner remembers."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    generation = int(state.manifest["metadata"].get("generation", 0))
    before = {one["type"]: one for one in (state.manifest.get("status") or {}).get("conditions") or []}
    told = []
    for kind, status, reason, message in verdicts:
        old = before.pop(kind, None)
        since = old["lastTransitionTime"] if old is not None and old["status"] == status else stamp
        told.append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
            | {"observedGeneration": generation}
        )
    wire = dict(state.manifest.get("status") or {})
    wire |= {"conditions": told + list(before.values()), "observedGeneration": generation}
    if state.exposure:
        wire["exposure"] = state.exposure
    if _timeless(wire) == state.written[0]:
        return
    await _apply(fleet, state, wire)
    state.reported = None
    state.written = (_timeless(wire), None, 0.0)


def _timeless(wire: Object) -> Object:
    return {**wire, "conditions": [{**one, "lastTransitionTime": ""} for one in wire["conditions"]]}


async def tell(fleet: Fleet, state: SetState, before: SetStatus, after: SetStatus) -> None:
    """Events for conditions that changed."""
    for one in after.conditions:
        told, new = state.told_conditions.get(one.type), (one.status, one.reason)
        if told == new or (told is None and one.status != "True"):
            state.told_conditions[one.type] = new
            continue
        state.told_conditions[one.type] = new
        bad = (one.status == "True") == (one.type in ("Degraded", "SurgeBlocked", "DrainBlocked"))
        quiet = one.type == "Progressing" or one.status == "Unknown"
        text = f"{one.type}={one.status}: {one.message}".rstrip(": ")
        await fleet.events.add(state.key, state.uid, one.reason, text, warning=bad and not quiet)
