"""Pods, nodes, leases and resources for the tests of the Kubernetes runtime, as short as a test can say them."""

from __future__ import annotations

import copy
from typing import Any

from sipcore.lease import LeaseView
from sipcore.record import Lease, encode
from sipcore.store import Keys
from sipfleet.api import MediaPool, SipCluster, validated
from sipfleet.kubernetes import names
from sipfleet.kubernetes.settings import Settings
from sipfleet.setkey import SetKey
from tests.unit.api.manifests import CLUSTER, POOL, changed

Object = dict[str, Any]

NOW = 1_700_000_000.0
UID = "b8a7"
SETTINGS = Settings(namespace="operators")
SIP_KEY = SetKey("SipCluster", "voice", "demo")
POOL_KEY = SetKey("MediaPool", "voice", "media")
SHARED = {"mode": "shared", "base": 30000, "count": 2}


def cluster(**spec: object) -> SipCluster:
    """A SipCluster in the namespace `voice`."""
    found = validated(_in_namespace(changed(CLUSTER, {"exposure": {"type": "clusterIP"}, **spec})))
    assert isinstance(found, SipCluster)
    return found


def pool(**spec: object) -> MediaPool:
    """A MediaPool in the namespace `voice`, on shared ports."""
    given = {"exposure": {"type": "clusterIP"}, "ports": SHARED, **spec}
    found = validated(_in_namespace(changed(POOL, given)))
    assert isinstance(found, MediaPool)
    return found


def _in_namespace(manifest: Object) -> Object:
    manifest["metadata"] = {**manifest["metadata"], "namespace": "voice"}
    return manifest


def pod(name: str = "media-0", **status: object) -> Object:
    """A pod that runs and is ready, on node `a`."""
    return {
        "metadata": {
            "name": name,
            "namespace": "voice",
            "uid": f"uid-{name}",
            "labels": {names.REVISION: "old"},
        },
        "spec": {"nodeName": "a"},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "rtprelay", "state": {"running": {}}}],
            **status,
        },
    }


def node(ready: str = "True", **spec: object) -> Object:
    """A node that answers, unless `ready` says otherwise."""
    return {
        "metadata": {"name": "a"},
        "spec": {"unschedulable": False, "taints": [], **spec},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": []},
    }


def lease(name: str = "media-0", **fields: object) -> Lease:
    """What the pod of this name says; its process is the first one in the pod."""
    plain: dict[str, Any] = {
        "kind": "relay",
        "pod": name,
        "uid": f"uid-{name}.00000001",
        "set": name.rpartition("-")[0],
        "ordinal": int(name.rpartition("-")[2]),
        "version": "1",
        "capacity": 10,
        "active": 3,
        "ready": True,
        "empty": False,
    }
    return Lease(**(plain | fields))


def view_of(*leases: Lease, since: float = 0.0, now: float = 100.0) -> LeaseView:
    """What the store says at `now` (boot-time seconds), of which it has been the same since `since`."""
    view = LeaseView(Keys("voice", "media"))
    view.store_changed(True, since)
    view.update(reply(*leases), now)
    return view


def reply(*leases: Lease) -> Any:
    """The store's answer to LEASES."""
    told: list[bytes] = []
    beats: list[bytes] = []
    for one in leases:
        told += [one.id.encode(), encode(one)]
        beats += [one.id.encode(), b"1000"]
    return [b"1000", 0, told, beats]


def without(found: Object, *path: str) -> Object:
    """A copy without one field."""
    copied = copy.deepcopy(found)
    inner = copied
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return copied
