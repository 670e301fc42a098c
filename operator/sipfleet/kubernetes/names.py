"""Names, labels and ports on Kubernetes (docs/decisions/0007): each stands here once."""

from __future__ import annotations

from sipfleet.setkey import SetKey

FIELD_MANAGER = "sipfleet"
FINALIZER = "sipfleet.io/drain"

MANAGED_BY = "app.kubernetes.io/managed-by"
APP_NAME = "app.kubernetes.io/name"
KIND = "sipfleet.io/kind"
SET = "sipfleet.io/set"
REVISION = "sipfleet.io/revision"
TRAFFIC = "sipfleet.io/traffic"
"""`on` while the pod may get packets; taken away only when it is empty or its lease is lost (DESIGN 4.4)."""
LISTED = "sipfleet.io/listed"
"""`true` while DNS in the cluster names the pod; taken away when it is cordoned."""
NAMES = "sipfleet.io/names"
"""`srv` on the headless Service whose SRV records people look up; its EndpointSlices get all its labels."""
PROTECTED = "sipfleet.io/protected"
"""`true` until the pod is cordoned and empty: the disruption budget selects it (DESIGN 4.6)."""
AVOID = "sipfleet.io/avoid"
"""`true` on a tombstone: no pod of ours is put on its node."""
EVICT = "sipfleet.io/evict"
"""Annotation `true`: somebody asked for the pod to be drained and replaced."""
POD_NAME = "statefulset.kubernetes.io/pod-name"

ADMIN_PORTS = {"SipCluster": 9090, "MediaPool": 9091}
"""Two, so that a proxy and a relay on host network fit on one node."""
HOP_PORT = 5070
NG_PORT = 2223
SIP_PORT_NAME = "sip"

STORE_SECRET = "sipfleet-store-password"
STORE_SECRET_KEY = "password"

OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
"""Label selector of everything that this operator made."""
NAMING = f"{OURS},{NAMES}=srv"
"""Of the EndpointSlices from which DNS in the cluster names proxies."""


APPS = {"SipCluster": "sipproxy", "MediaPool": "rtprelay"}


def labels(key: SetKey) -> dict[str, str]:
    """What every object of a set carries, and what its pods are selected by."""
    return {MANAGED_BY: FIELD_MANAGER, APP_NAME: APPS[key.kind], KIND: key.kind, SET: key.name}


def selector(key: SetKey) -> dict[str, str]:
    """The labels that select the pods of a set; a StatefulSet's selector can never be changed."""
    return {KIND: key.kind, SET: key.name}


def selector_text(key: SetKey) -> str:
    """The same as `kubectl` takes it."""
    return ",".join(f"{name}={value}" for name, value in selector(key).items())


def owner_of(labels_of_object: dict[str, str], namespace: str) -> SetKey | None:
    """The set that an object with these labels belongs to."""
    kind, name = labels_of_object.get(KIND), labels_of_object.get(SET)
    return SetKey(kind, namespace, name) if kind in APPS and name else None
