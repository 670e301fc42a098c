"""From a resource to what the planner reads: `revision` and `desired`."""

from __future__ import annotations

import hashlib
import json

from sipfleet.plan.types import Autoscale, Desired, FreeCapacity, Kind, Rollout, SrvPolicy

from .common import SetSpec
from .mediapool import MediaPool, MediaPoolSpec
from .sipcluster import SipCluster, SipClusterSpec

ROLLS: dict[type[SetSpec], frozenset[str]] = {
    SipClusterSpec: frozenset({"capacity", "exposure", "listeners", "media_pools", "store", "version"}),
    MediaPoolSpec: frozenset({"capacity", "exposure", "interfaces", "ports", "store", "timeouts", "version"}),
}
"""The fields that a running pod cannot change; all others take effect in place."""

SHARED_ADDRESS = frozenset({"auto", "clusterIP", "loadBalancer", "virtualIP"})
"""Exposures with one address for all pods; `auto` has one unless the runtime says otherwise."""


def revision(resource: SipCluster | MediaPool) -> str:
    """Eight hex digits that change exactly when pods have to be replaced.

    A field that has its default is left out, so that a release that adds fields rolls nothing.
    """
    fields = ROLLS[type(resource.spec)]
    values = resource.spec.model_dump(mode="json", include=set(fields), exclude_defaults=True, exclude_none=True)
    text = json.dumps([resource.kind, values], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=4, person=b"revision").hexdigest()


def desired(
    resource: SipCluster | MediaPool,
    *,
    generation: int | None = None,
    deleting: bool | None = None,
    shared_address: bool | None = None,
    problem: tuple[str, str] | None = None,
    remark: tuple[str, str] | None = None,
) -> Desired:
    """What the planner reads.

    `generation` and `deleting` are taken from the metadata where they are not given. `shared_address` is what the
    runtime made of `exposure.type`. `problem` is (reason, message) when the manifest of today cannot be followed and
    `resource` is the last good one; `remark` is (reason, message) for a part of it that the runtime has no use for.
    """
    spec, metadata = resource.spec, resource.metadata
    accepted, reason, message = True, "Accepted", ""
    if problem is not None:
        accepted, (reason, message) = False, problem
    else:
        remarks = [remark] if remark is not None else []
        if spec.rollout.migrate_after is not None:
            text = "migrateAfter is ignored: a drain waits for its calls to end"
            remarks.insert(0, ("MigrationNotAvailable", text))
        if remarks:
            reason, message = remarks[0][0], "; ".join(text for _, text in remarks)
    return Desired(
        kind=Kind.PROXY if isinstance(resource, SipCluster) else Kind.RELAY,
        name=resource.name,
        replicas=spec.replicas,
        autoscale=_autoscale(spec),
        capacity=spec.capacity,
        rollout=Rollout(
            surge=spec.rollout.surge,
            drain_timeout=spec.rollout.drain_timeout,
            cut=spec.rollout.drain_timeout_action == "Cut",
            progress_deadline=spec.rollout.progress_deadline,
        ),
        revision=revision(resource),
        version=spec.version,
        generation=(metadata.generation or 0) if generation is None else generation,
        deleting=metadata.deletion_timestamp is not None if deleting is None else deleting,
        srv=_srv(resource, shared_address) if isinstance(resource, SipCluster) else None,
        accepted=accepted,
        accepted_reason=reason,
        accepted_message=message,
    )


def _autoscale(spec: SetSpec) -> Autoscale | None:
    if spec.autoscale is None:
        return None
    free = spec.autoscale.free_capacity
    return Autoscale(
        min=spec.autoscale.min,
        max=spec.autoscale.max,
        free_capacity=FreeCapacity(amount=free) if isinstance(free, int) else FreeCapacity(percent=int(free[:-1])),
        down_window=spec.autoscale.scale_down.window,
        up_pods=spec.autoscale.scale_up.pods,
        up_period=spec.autoscale.scale_up.period,
    )


def _srv(cluster: SipCluster, shared_address: bool | None) -> SrvPolicy:
    return SrvPolicy(
        domains=cluster.spec.domains,
        services=tuple((listener.transport, listener.port) for listener in cluster.spec.listeners),
        shared=cluster.spec.exposure.type in SHARED_ADDRESS if shared_address is None else shared_address,
        ttl=cluster.spec.dns.ttl,
    )


def scaled(resource: SipCluster | MediaPool, replicas: int) -> SipCluster | MediaPool:
    """The resource as `scale` would leave it, validated. An autoscaled one becomes a manual one.

    Raises `ManifestError`.
    """
    from .manifest import validated

    wire = resource.to_wire()
    wire["spec"].pop("autoscale", None)
    wire["spec"]["replicas"] = replicas
    return validated(wire)
