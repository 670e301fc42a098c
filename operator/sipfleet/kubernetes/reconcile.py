"""One pass over one set: observe, plan, store the status, apply what should be there, carry the actions out.

It decides nothing: `sipfleet.plan` does. It may be ended at any point; the next pass, by whomever, goes on from what
stands.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from sipfleet.api import MediaPool, SipCluster, desired, revision
from sipfleet.api.report import remembered, report
from sipfleet.api.status import MediaPoolStatus, SipClusterStatus
from sipfleet.kubernetes import exposures, names, observe, pods, prometheus
from sipfleet.kubernetes.client import SECRETS, SETS, ApiError, Object
from sipfleet.kubernetes.execute import Execution
from sipfleet.kubernetes.fleet import STATUS_INTERVAL, Fleet
from sipfleet.kubernetes.layout import SetLayout, revision_of_slot
from sipfleet.kubernetes.names import SetKey
from sipfleet.kubernetes.objects import config, monitor, protection, services, store, template
from sipfleet.kubernetes.observe import PodMemory
from sipfleet.kubernetes.sets import (
    KEPT_REVISIONS,
    Resource,
    Revision,
    SetState,
    last_good,
    revisions_of,
    wire_manifest,
)
from sipfleet.plan import Desired, Kind, LeaseState, Observed, Phase, Plan, Probe, SetStatus, SlotObservation, plan

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
        resource = last_good(state, _revisions(fleet, state))
    if resource is None:
        assert problem is not None
        await _refuse(fleet, state, problem)
        return await _deleted(fleet, state) if state.deleting else CALM
    made_of = _made_of(fleet, state, resource, problem)
    if state.prepared is None or state.prepared[0] != made_of:
        state.prepared = None
        prepared = await _prepare(fleet, state, resource, problem)
        if prepared is None:
            # What never had an address never had a pod: nothing has to be drained.
            return await _deleted(fleet, state) if state.deleting and _current(fleet, state) is None else HURRY
        state.prepared = made_of, prepared
    wanted = state.prepared[1]
    seen = await _observe(fleet, state, resource)
    decided = plan(wanted, seen, time.time())
    before = seen.status
    state.status = decided.status
    await _write(fleet, state, wanted, replace(seen, status=decided.status), decided)
    await _tell(fleet, state, before, decided.status)
    await Execution(fleet, state, resource, seen, decided, _current(fleet, state)).run()
    if state.deleting and (not seen.slots or _past_deadline(state, wanted)):
        return await _deleted(fleet, state)
    return HURRY if _busy(wanted, seen, decided) else CALM


def _made_of(fleet: Fleet, state: SetState, resource: Resource, problem: tuple[str, str] | None) -> object:
    """All that the objects around the pods are made of. Making and comparing them costs more than the rest of a pass,
    and most passes find nothing new here."""
    key = state.key
    current = _current(fleet, state)
    return (
        state.read_at,
        state.drift,
        problem,
        state.exposure,
        fleet.monitors.looks,
        fleet.members if resource.spec.store.managed is not None else 0,
        current.slots if current is not None else 0,
        _in_use(fleet, state),
        [(name, one["metadata"]["resourceVersion"]) for name, one in fleet.of(fleet.services, key).items()],
        [(name, one["metadata"]["resourceVersion"]) for name, one in fleet.of(fleet.configmaps, key).items()],
    )


async def _prepare(
    fleet: Fleet, state: SetState, resource: Resource, problem: tuple[str, str] | None
) -> Desired | None:
    """Store, Services, budget, policy and configuration are there; -> what is wanted, None while something has to be
    waited for."""
    url = await _store(fleet, state, resource)
    if url is None:
        return None
    exposure = await _addresses(fleet, state, resource)
    if exposure is None:
        await _wait_for_address(fleet, state, resource)
        return None
    for body in (
        protection.disruption_budget(state.key, state.uid),
        protection.network_policy(state.key, state.uid, resource, fleet.settings.namespace),
    ):
        await fleet.ensure(state, body)
    await _monitor(fleet, state)
    wanted = desired(
        resource,
        generation=int(state.manifest["metadata"].get("generation", 0)),
        deleting=state.deleting,
        shared_address=exposure != "hostNetwork",
        problem=problem,
    )
    if wanted.srv is not None:  # the headless Service
        wanted = replace(wanted, srv=replace(wanted.srv, named_inside=True))
    if state.deleting:  # nobody will be there to say `Cut` later
        wanted = replace(wanted, rollout=replace(wanted.rollout, cut=True))
    await _configure(fleet, state, resource, wanted.revision)
    return wanted


async def _monitor(fleet: Fleet, state: SetState) -> None:
    """Who collects metrics is told where the pods are, where there is somebody. That a ServiceMonitor is not taken is
    said and keeps nothing else from being done."""
    key, uid = state.key, state.uid
    name = monitor.metrics_service_name(key)
    if fleet.monitors.served:
        await fleet.ensure(state, monitor.metrics_service(key, uid))
        try:
            await fleet.ensure(state, monitor.service_monitor(key, uid))
        except ApiError as error:
            if error.status not in (400, 403, 404, 422):
                raise
            if error.status == 404:
                fleet.monitors.gone()
            else:
                text = f"servicemonitor/{key.name}: the API server refused: {error}"
                await fleet.events.add(key, uid, "MonitorRefused", text, warning=True)
    if fleet.monitors.served is False and name in fleet.of(fleet.services, key):
        await fleet.remove(state, "Service", name)


def _remember(state: SetState) -> None:
    """What the operator before us, or we ourselves, stored."""
    kept = state.manifest.get("status") or {}
    model = SipClusterStatus if state.key.kind == "SipCluster" else MediaPoolStatus
    try:
        status = model.model_validate(kept)
    except ValueError as error:
        log.error("%s: the stored status cannot be read and is made anew: %s", state.key, error)
        status = model()
    state.status = remembered(status)
    state.exposure = status.exposure
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


def _past_deadline(state: SetState, wanted: Desired) -> bool:
    """A deletion waits for calls to end as long as a drain may take, and then for nobody."""
    asked = observe.unix(state.manifest["metadata"].get("deletionTimestamp"))
    return time.time() - asked > wanted.rollout.drain_timeout + DELETION_SLACK


async def _deleted(fleet: Fleet, state: SetState) -> float:
    """Nothing of it is left that carries calls, or nobody waits for them any more: the resource may go, and the garbage
    collector takes the rest."""
    resource = state.resource or last_good(state, _revisions(fleet, state))
    if isinstance(resource, SipCluster) and not await fleet.zones.withdraw(state, resource):
        return RETRY
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


async def _store(fleet: Fleet, state: SetState, resource: Resource) -> str | None:
    """The store of the set is there, or on its way; -> its URL as pods read it, None when it cannot be named yet."""
    wanted = resource.spec.store
    if wanted.url is not None:
        fleet.stores.use(state.key, wanted.url)
        return wanted.url
    password = await fleet.managed_store(state.key.namespace)
    if password is None:
        return None
    fleet.stores.use(state.key, store.store_url(state.key.namespace, store.encoded(password)))
    return store.store_url(state.key.namespace, "${STORE_PASSWORD}")


async def _addresses(fleet: Fleet, state: SetState, resource: Resource) -> str | None:
    """The Services are there; -> what the exposure comes to, None while no address is known."""
    key, uid = state.key, state.uid
    wanted = resource.spec.exposure.type
    trial = state.exposure or ("loadBalancer" if wanted == "auto" else wanted)
    cluster = resource if isinstance(resource, SipCluster) else None
    await fleet.ensure(state, services.headless_service(key, uid, cluster))
    if wanted == "hostNetwork":
        state.exposure, state.address = wanted, None
        if cluster is None:
            await fleet.ensure(state, config.slots_map(key, uid, {}))
        return wanted
    if cluster is not None:
        await fleet.ensure(state, services.sip_service(key, uid, cluster, trial))
        first = services.sip_service_name(key)
    else:
        assert isinstance(resource, MediaPool)
        ahead = [services.slot_name(key, n) for n in range(slots_ahead(resource, _current(fleet, state)))]
        for ordinal in range(len(ahead)):
            await fleet.ensure(state, services.slot_service(key, uid, resource, trial, ordinal))
        for name in services.slots_of(key, fleet.of(fleet.services, key)) - set(ahead):
            # A load balancer's address costs money.
            await fleet.remove(state, "Service", name)
        first = services.slot_name(key, 0)
    made = fleet.services.get(key.namespace, first)
    address = services.address_of(made, trial)
    waited = time.time() - observe.unix(made["metadata"].get("creationTimestamp")) if made is not None else 0.0
    chosen = exposures.resolve(wanted, state.exposure, address is not None, waited)
    if chosen is None or (chosen == trial and address is None):
        return None
    if chosen != trial:  # `auto` came to something else: the Service changes its type in the next pass
        state.exposure = chosen
        return None
    state.exposure = chosen
    if cluster is not None:
        state.address = address
    else:
        assert isinstance(resource, MediaPool)
        await fleet.ensure(state, config.slots_map(key, uid, _slot_addresses(fleet, state, resource, chosen)))
    return chosen


def slots_ahead(pool: MediaPool, current: SetLayout | None) -> int:
    """So many media slots have a Service: those that there may be, and one surge; none is taken away under a pod."""
    spec = pool.spec
    most = spec.autoscale.max if spec.autoscale is not None else (spec.replicas or 0)
    return max(most + spec.rollout.surge, current.slots if current is not None else 0, 1)


def _slot_addresses(fleet: Fleet, state: SetState, pool: MediaPool, exposure: str) -> dict[int, str]:
    found = {}
    for ordinal in range(slots_ahead(pool, _current(fleet, state))):
        service = fleet.services.get(state.key.namespace, services.slot_name(state.key, ordinal))
        if (address := services.address_of(service, exposure)) is not None:
            found[ordinal] = address
    return found


def _revisions(fleet: Fleet, state: SetState) -> dict[str, Revision]:
    return revisions_of(state, fleet.of(fleet.configmaps, state.key))


def _in_use(fleet: Fleet, state: SetState) -> frozenset[str | None]:
    """Revisions that a pod or the planner names."""
    assert state.status is not None
    return frozenset(
        (
            state.status.revision,
            state.status.rolling,
            *(
                pod["metadata"].get("labels", {}).get(names.REVISION)
                for pod in fleet.of(fleet.pods, state.key).values()
            ),
        )
    )


async def _configure(fleet: Fleet, state: SetState, resource: Resource, wanted: str) -> None:
    """The ConfigMap of each revision in use, with today's routing; a new one is made, an old one removed."""
    key, uid = state.key, state.uid
    known: Mapping[str, Revision] = _revisions(fleet, state)
    if isinstance(resource, SipCluster) and key not in fleet.keyed:
        await _key(fleet, state)
        fleet.keyed.add(key)
    if wanted not in known:
        made = template.pod_template(resource, wanted, fleet.settings)
        known = {**known, wanted: Revision(wanted, resource, made, wire_manifest(resource), "")}
    in_use = {wanted} | _in_use(fleet, state)
    url = resource.spec.store.url or store.store_url(key.namespace, "${STORE_PASSWORD}")
    for one in known.values():
        if one.name in in_use and one.resource is not None:
            text = config.revision_config(
                one.resource, resource, one.name, url, state.address or "", state.exposure or ""
            )
            await fleet.ensure(state, config.revision_map(key, uid, one.name, text, one.template, one.manifest))
    fleet.templates[key] = {one.name: one.template for one in known.values()}
    idle = sorted((one for one in known.values() if one.name not in in_use), key=lambda one: one.created)
    for one in idle[: max(0, len(idle) - KEPT_REVISIONS)]:
        await fleet.remove(state, "ConfigMap", template.config_name(key, one.name))


async def _key(fleet: Fleet, state: SetState) -> None:
    """The cluster key is made once; another one would make all tokens of standing calls void. Raises `ApiError` while
    that of an earlier cluster of the same name waits for the garbage collector."""
    body = config.key_secret(state.key, state.uid, secrets.token_hex(32))
    await fleet.create_once(body)
    name = body["metadata"]["name"]
    found = await fleet.api.get(SECRETS, state.key.namespace, name)
    owners = {one["uid"] for one in found["metadata"].get("ownerReferences") or []} if found is not None else set()
    if found is None or (owners and state.uid not in owners):
        raise ApiError(409, "Conflict", f"secret/{name} is of a cluster that is gone, and goes with it")


def _current(fleet: Fleet, state: SetState) -> SetLayout | None:
    """What the StatefulSet says now."""
    found = fleet.statefulsets.get(state.key.namespace, state.key.name)
    if found is None:
        return None
    spec = found["spec"]
    partition = spec.get("updateStrategy", {}).get("rollingUpdate", {}).get("partition", 0)
    label = spec["template"]["metadata"].get("labels", {}).get(names.REVISION, "")
    return SetLayout(int(spec.get("replicas", 0)), label, int(partition))


async def _observe(fleet: Fleet, state: SetState, resource: Resource) -> Observed:
    """What stands now, of one set."""
    key = state.key
    relay = key.kind == "MediaPool"
    found = observe.by_ordinal(fleet.of(fleet.pods, key))
    reader, view = fleet.stores.reader(key), fleet.stores.view(key)
    if reader is not None and (view is None or reader.available is None):
        await fleet.stores.read_now(key)
        view = fleet.stores.view(key)
    available = bool(reader is not None and reader.available)
    clock = asyncio.get_running_loop().time()
    for name in set(state.memory) - {pod["metadata"]["name"] for pod in found.values()}:
        del state.memory[name]
    states: dict[int, LeaseState] = {}
    unproved = []
    for ordinal, pod in found.items():
        name, uid = pod["metadata"]["name"], observe.pod_uid(pod)
        memory = state.memory.get(name)
        if memory is None or memory.uid != uid:
            memory = state.memory[name] = PodMemory(uid)
        living = observe.lease_of(view, name, uid)
        states[ordinal] = observe.lease_state(memory, living, view, available, clock)
        if observe.never_started(pod):  # whatever the store says or cannot say
            states[ordinal] = LeaseState.NONE
        memory.lease = living or memory.lease
        memory.stored = fleet.stores.stored.get((key, name))
        running = observe.phase_of(pod, fleet.node_of(pod))[0] is Phase.RUNNING
        quiet = living is not None and living.draining
        # While the store is away nobody is judged, and there is nothing to prove.
        silent = states[ordinal] in (LeaseState.LOST, LeaseState.NONE)
        if not running:
            memory.serving, memory.misses = False, 0
        elif not quiet and (not memory.serving or silent) and (observe.is_ready(pod) or memory.serving):
            unproved.append(pods.look(memory, pod, resource))
    if unproved:
        await asyncio.gather(*unproved)
    now = time.time()
    current = _current(fleet, state)
    slots: list[SlotObservation] = []
    for ordinal, pod in found.items():
        node = fleet.node_of(pod)
        memory = state.memory[pod["metadata"]["name"]]
        evict = observe.must_leave(node) or pod["metadata"].get("annotations", {}).get(names.EVICT) == "true"
        seen = observe.observation(pod, node, memory, states[ordinal], relay, now, evict)
        gone = seen.phase is Phase.TERMINATING and seen.lease is LeaseState.LOST and not observe.node_ready(node)
        slots.append(replace(seen, phase=Phase.DEAD, message="its node does not answer") if gone else seen)
    assert state.status is not None
    for ordinal in range(current.slots if current is not None else 0):
        if ordinal not in found:
            stored = fleet.stores.stored.get((key, services.slot_name(key, ordinal)))
            slots.append(observe.unborn(ordinal, revision_of_slot(ordinal, state.status, current), stored, relay, now))
    probes: tuple[Probe, ...] = ()
    asked = prometheus.source(resource) if not state.deleting else None
    reading = fleet.measurements.use(key, asked)
    if asked is not None:
        slots = prometheus.measured(slots, reading, key.name)
        probes = (prometheus.verdict(asked, reading, slots, key.name, now),)
    return Observed(
        slots=tuple(sorted(slots, key=lambda slot: slot.ordinal)),
        status=state.status,
        store_available=reader.available if reader is not None else None,
        published=state.published or (),
        address=state.address,
        probes=probes,
    )


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


async def _write(fleet: Fleet, state: SetState, wanted: Desired, seen: Observed, decided: Plan) -> None:
    """Store the status: at once where more than numbers changed, for a plan must be known before it is carried out."""
    made_of = (seen, state.exposure)
    if made_of == state.reported:
        return
    made = report(wanted, seen, decided.status, names.selector_text(state.key))
    wire = made.model_copy(update={"exposure": state.exposure}).model_dump(mode="json", exclude_none=True)
    if await write_status(fleet, state, wire):
        state.reported = made_of


async def write_status(fleet: Fleet, state: SetState, wire: Object) -> bool:
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
    rest["srvRecords"] = wire.get("srvRecords")
    return rest


async def _refuse(fleet: Fleet, state: SetState, problem: tuple[str, str]) -> None:
    """Nothing to go on with: the status says what is wrong with the manifest."""
    reason, message = problem
    await _conditions(fleet, state, [("Accepted", "False", reason, message), ("Ready", "False", reason, "")])
    await fleet.events.add(state.key, state.uid, reason, message, warning=True)


async def _wait_for_address(fleet: Fleet, state: SetState, resource: Resource) -> None:
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
    await write_status(fleet, state, wire)
    state.reported = None
    state.written = (_timeless(wire), None, 0.0)


def _timeless(wire: Object) -> Object:
    return {**wire, "conditions": [{**one, "lastTransitionTime": ""} for one in wire["conditions"]]}


async def _tell(fleet: Fleet, state: SetState, before: SetStatus, after: SetStatus) -> None:
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


__all__ = ["Kind", "SetKey", "reconcile", "revision", "write_status"]
