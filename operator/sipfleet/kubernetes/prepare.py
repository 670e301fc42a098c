"""What stands around the pods of one set: store, Services, budget, policy, the configuration of each revision."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from sipfleet.api import MediaPool, SipCluster, desired
from sipfleet.kubernetes import exposures, names, observe, status
from sipfleet.kubernetes.client import SECRETS, ApiError
from sipfleet.kubernetes.fleet import Fleet
from sipfleet.kubernetes.layout import SetLayout
from sipfleet.kubernetes.objects import config, monitor, protection, services, store, template
from sipfleet.kubernetes.sets import KEPT_REVISIONS, Resource, Revision, SetState, revisions_of, wire_manifest
from sipfleet.plan import Desired


def made_of(fleet: Fleet, state: SetState, resource: Resource, problem: tuple[str, str] | None) -> object:
    """All that the objects around the pods are made of. Making and comparing them costs more than the rest of a pass,
    and most passes find nothing new here."""
    key = state.key
    current = fleet.layout_of(state.key)
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


async def prepare(fleet: Fleet, state: SetState, resource: Resource, problem: tuple[str, str] | None) -> Desired | None:
    """Store, Services, budget, policy and configuration are there; -> what is wanted, None while something has to be
    waited for."""
    url = await _store(fleet, state, resource)
    if url is None:
        return None
    exposure = await _addresses(fleet, state, resource)
    if exposure is None:
        await status.wait_for_address(fleet, state, resource)
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
        ahead = [services.slot_name(key, n) for n in range(slots_ahead(resource, fleet.layout_of(state.key)))]
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
    for ordinal in range(slots_ahead(pool, fleet.layout_of(state.key))):
        service = fleet.services.get(state.key.namespace, services.slot_name(state.key, ordinal))
        if (address := services.address_of(service, exposure)) is not None:
            found[ordinal] = address
    return found


def revisions(fleet: Fleet, state: SetState) -> dict[str, Revision]:
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
    known: Mapping[str, Revision] = revisions(fleet, state)
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
