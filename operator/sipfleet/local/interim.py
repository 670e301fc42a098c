"""INTERIM: what sipfleet.api will offer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sipfleet.api import MediaPoolStatus, Resource, SipClusterStatus
from sipfleet.plan.types import Desired, Kind, Observed, Rollout


def revision_of(resource: Resource) -> str:
    wire = resource.to_wire()["spec"]
    for name in ("replicas", "autoscale", "domains", "routing", "mediaPools", "rollout", "dns"):
        wire.pop(name, None)
    return hashlib.blake2b(json.dumps(wire, sort_keys=True).encode(), digest_size=4).hexdigest()


def desired_of(resource: Resource, one: Any) -> Desired:
    return Desired(
        kind=Kind.PROXY if resource.kind == "SipCluster" else Kind.RELAY,
        name=resource.name,
        replicas=resource.spec.replicas,
        autoscale=None,
        capacity=resource.spec.capacity,
        rollout=Rollout(1, 10800, False, 300),
        revision=revision_of(resource),
        version=resource.spec.version,
        generation=one.generation,
        deleting=one.deleting,
    )


def status_of(one: Any, observed: Observed | None, address: str | None) -> Any:
    model = SipClusterStatus if one.key.kind == "SipCluster" else MediaPoolStatus
    conditions = [
        dict(type=c.type, status=c.status, reason=c.reason, message=c.message, lastTransitionTime=str(c.since))
        for c in one.status.conditions
    ]
    return model.model_validate({"conditions": conditions, "address": address})
