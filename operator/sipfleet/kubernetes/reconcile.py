"""One pass over one set: observe, plan, store the status, apply what should be there, carry the actions out.

It decides nothing: `sipfleet.plan` does. It may be ended at any point; the next pass, by whomever, goes on from what
stands. The steps are rooms of their own: `prepare`, `look`, `status`, `execute`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from sipfleet.api import SipCluster
from sipfleet.api.report import remembered
from sipfleet.api.status import MediaPoolStatus, SipClusterStatus
from sipfleet.kubernetes import exposures, names, observe, status
from sipfleet.kubernetes.client import SETS, ApiError
from sipfleet.kubernetes.execute import Execution
from sipfleet.kubernetes.fleet import Fleet
from sipfleet.kubernetes.look import look_at
from sipfleet.kubernetes.prepare import made_of, prepare, revisions
from sipfleet.kubernetes.sets import Resource, SetState, last_good
from sipfleet.plan import Desired, LeaseState, Observed, Phase, Plan, plan

log = logging.getLogger("sipfleet.reconcile")

HURRY = 0.5
"""Seconds to the next look while something is under way."""
RETRY = 10.0
"""Seconds to the next attempt at what others have to answer for."""
CALM = 15.0
"""Seconds to the next look when nothing changes: windows and deadlines pass by themselves."""
DELETION_SLACK = 60.0
"""Seconds after the drain timeout until a deletion that cannot be carried out in order is over all the same."""


async def reconcile(fleet: Fleet, state: SetState) -> float:
    """One pass; -> seconds until the next one at the latest. Raises `ApiError`."""
    state.read()
    if state.status is None:
        _remember(state)
    if not await _finalizer(fleet, state):
        return CALM
    resource = state.resource
    problem = state.refused or (exposures.problem(resource) if resource is not None else None)
    if problem is None and resource is not None and fleet.name_taken(state.key):
        problem = ("NameTaken", "a SipCluster and a MediaPool of one namespace cannot have the same name")
    if problem is not None:
        resource = last_good(state, revisions(fleet, state))
    if resource is None:
        assert problem is not None
        await status.refuse(fleet, state, problem)
        return await _deleted(fleet, state) if state.deleting else CALM
    sources = made_of(fleet, state, resource, problem)
    if state.prepared is None or state.prepared[0] != sources:
        state.prepared = None
        prepared = await prepare(fleet, state, resource, problem)
        if prepared is None:
            # What never had an address never had a pod: nothing has to be drained.
            over = state.deleting and (fleet.layout_of(state.key) is None or _past_deadline(state, resource))
            return await _deleted(fleet, state) if over else HURRY
        state.prepared = sources, prepared
    wanted = state.prepared[1]
    seen = await look_at(fleet, state, resource)
    decided = plan(wanted, seen, time.time())
    before = seen.status
    state.status = decided.status
    await status.write(fleet, state, wanted, replace(seen, status=decided.status), decided)
    await status.tell(fleet, state, before, decided.status)
    await Execution(fleet, state, resource, seen, decided, fleet.layout_of(state.key)).run()
    if state.deleting and (not seen.slots or _past_deadline(state, resource)):
        return await _deleted(fleet, state)
    return HURRY if _busy(wanted, seen, decided) else CALM


def _remember(state: SetState) -> None:
    """What the operator before us, or we ourselves, stored."""
    kept = state.manifest.get("status") or {}
    model = SipClusterStatus if state.key.kind == "SipCluster" else MediaPoolStatus
    try:
        found = model.model_validate(kept)
    except ValueError as error:
        log.error("%s: the stored status cannot be read and is made anew: %s", state.key.qualified, error)
        found = model()
    state.status = remembered(found)
    state.exposure = found.exposure
    state.published = state.status.srv_records
    state.told_conditions = {one.type: (one.status, one.reason) for one in state.status.conditions}


async def _finalizer(fleet: Fleet, state: SetState) -> bool:
    """Whether the set is ours to handle: it gets our finalizer, so that a deletion drains it first."""
    metadata = state.manifest["metadata"]
    found = metadata.get("finalizers") or []
    if names.FINALIZER in found:
        return True
    if state.deleting:
        return False
    state.manifest = await fleet.api.merge(
        SETS[state.key.kind],
        state.key.namespace,
        state.key.name,
        {"metadata": {"finalizers": [*found, names.FINALIZER], "resourceVersion": metadata["resourceVersion"]}},
    )
    return True


def _past_deadline(state: SetState, resource: Resource) -> bool:
    """A deletion waits for calls to end and for servers to answer as long as a drain may take, and then for nobody."""
    asked = observe.unix(state.manifest["metadata"].get("deletionTimestamp"))
    return time.time() - asked > resource.spec.rollout.drain_timeout + DELETION_SLACK


async def _deleted(fleet: Fleet, state: SetState) -> float:
    """Nothing of it is left that carries calls, or nobody waits for them any more: the resource may go, and the garbage
    collector takes the rest."""
    resource = state.resource or last_good(state, revisions(fleet, state))
    if isinstance(resource, SipCluster) and not await fleet.zones.withdraw(state, resource):
        if not _past_deadline(state, resource):
            return RETRY
        text = "spec.dns: the name server did not take the SRV records back within the drain timeout; remove them there"
        await fleet.events.add(state.key, state.uid, "RecordsLeft", text, warning=True)
    metadata = state.manifest["metadata"]
    left = [one for one in metadata.get("finalizers") or [] if one != names.FINALIZER]
    try:
        await fleet.api.merge(
            SETS[state.key.kind],
            state.key.namespace,
            state.key.name,
            {"metadata": {"finalizers": left, "uid": state.uid}},
        )
    except ApiError as error:
        if error.status not in (404, 409):
            raise
    await fleet.events.add(state.key, state.uid, "Deleted", "drained and gone")
    return CALM


def _busy(wanted: Desired, seen: Observed, decided: Plan) -> bool:
    """Whether something is under way that the next event might not tell of."""
    status = decided.status
    return bool(
        decided.actions
        or status.rolling
        or status.drains
        or wanted.deleting
        or any(
            not slot.serving or slot.lease not in (LeaseState.ALIVE, LeaseState.UNKNOWN)
            for slot in seen.slots
            if slot.phase is not Phase.FAILED
        )
    )
