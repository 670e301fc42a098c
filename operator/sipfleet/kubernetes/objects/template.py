"""The pod template of a revision: restricted Pod Security profile, probes, spread over nodes, a long grace period."""

from __future__ import annotations

from typing import Any

from sipfleet.api import MediaPool, SipCluster
from sipfleet.kubernetes import names
from sipfleet.kubernetes.settings import Settings
from sipfleet.setkey import SetKey

from . import security
from .meta import Object

GRACE = 30
"""Seconds beyond the drain timeout (DESIGN 4.5)."""
CONFIG_DIR = "/etc/sipfleet/config"
CONFIG_FILE = f"{CONFIG_DIR}/config.json"
KEY_DIR = "/etc/sipfleet/key"
KEY_FILE = f"{KEY_DIR}/cluster.key"
SLOTS_DIR = "/etc/sipfleet/slots"
SLOTS_FILE = f"{SLOTS_DIR}/slots.json"
REQUESTS = {"sipproxy": {"cpu": "250m", "memory": "128Mi"}, "rtprelay": {"cpu": "250m", "memory": "96Mi"}}
"""What a pod asks for. No limit on CPU: throttling is loss of audio."""

_FROM_POD = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_UID": "metadata.uid",
    "POD_IP": "status.podIP",
    "HOST_IP": "status.hostIP",
}


def config_name(key: SetKey, revision: str) -> str:
    """ConfigMap of a revision."""
    return f"{key.name}-{revision}"


def slots_name(key: SetKey) -> str:
    """ConfigMap with the advertised address of each slot."""
    return f"{key.name}-slots"


def key_name(key: SetKey) -> str:
    """Secret with the cluster key."""
    return f"{key.name}-key"


def pod_template(resource: SipCluster | MediaPool, revision: str, settings: Settings) -> Object:
    """`spec.template` of the StatefulSet, for this revision."""
    key = SetKey(resource.kind, resource.namespace, resource.name)
    app = names.APPS[key.kind]
    image = settings.proxy_image if app == "sipproxy" else settings.relay_image
    host_network = resource.spec.exposure.type == "hostNetwork"
    return {
        "metadata": {
            "labels": {
                **names.labels(key),
                names.REVISION: revision,
                names.TRAFFIC: "on",
                names.LISTED: "true",
                names.PROTECTED: "true",
            },
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(names.ADMIN_PORTS[key.kind]),
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # The first process of a container ignores SIGTERM until it has a handler: told to end while it starts, it
            # would stay for the whole grace period. Here the pause container's process is the first.
            "shareProcessNamespace": True,
            "terminationGracePeriodSeconds": resource.spec.rollout.drain_timeout + GRACE,
            "hostNetwork": host_network,
            **({"dnsPolicy": "ClusterFirstWithHostNet"} if host_network else {}),
            **({"priorityClassName": settings.priority_class} if settings.priority_class else {}),
            "securityContext": security.POD,
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_no_tombstone()]}},
            "topologySpreadConstraints": [
                _spread(key, "kubernetes.io/hostname"),
                _spread(key, "topology.kubernetes.io/zone"),
            ],
            "tolerations": [
                # A node that does not answer keeps its pods until the planner, who sees leases and probes, says
                # otherwise.
                {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": "NoExecute"}
                for name in ("not-ready", "unreachable")
            ],
            "containers": [
                _container(resource, app, f"{image}:{resource.spec.version or settings.image_tag}", settings)
            ],
            "volumes": _volumes(resource, key, revision),
        },
    }


def _no_tombstone() -> Object:
    """Not on a node that has just died (`sipfleet.kubernetes.avoid`)."""
    return {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {names.AVOID: "true"}}}


def _spread(key: SetKey, topology: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(key)},
    }


def _container(resource: SipCluster | MediaPool, app: str, image: str, settings: Settings) -> Object:
    mounts = [{"name": "config", "mountPath": CONFIG_DIR, "readOnly": True}]
    if isinstance(resource, SipCluster):
        mounts.append({"name": "key", "mountPath": KEY_DIR, "readOnly": True})
    else:
        mounts.append({"name": "slots", "mountPath": SLOTS_DIR, "readOnly": True})
    return {
        "name": app,
        "image": image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["--config", CONFIG_FILE],
        "env": [
            *(
                {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
                for name, path in _FROM_POD.items()
            ),
            *([_password()] if resource.spec.store.managed is not None else []),
        ],
        "ports": _ports(resource),
        "readinessProbe": _probe("/readyz", period=1, failures=3),
        "livenessProbe": _probe("/livez", period=5, failures=3),
        "startupProbe": _probe("/livez", period=1, failures=60),
        "resources": {"requests": dict(REQUESTS[app])},
        "securityContext": security.CONTAINER,
        "volumeMounts": mounts,
    }


def _password() -> Object:
    return {
        "name": "STORE_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": names.STORE_SECRET, "key": names.STORE_SECRET_KEY}},
    }


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "admin", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _ports(resource: SipCluster | MediaPool) -> list[Object]:
    ports: list[Object] = [{"name": "admin", "containerPort": names.ADMIN_PORTS[resource.kind], "protocol": "TCP"}]
    if isinstance(resource, SipCluster):
        ports.append({"name": "hop", "containerPort": names.HOP_PORT, "protocol": "UDP"})
        ports += [
            {"name": f"sip-{number}", "containerPort": port, "protocol": "UDP"}
            for number, port in enumerate(sorted({listener.port for listener in resource.spec.listeners}))
        ]
    else:
        ports.append({"name": "ng", "containerPort": names.NG_PORT, "protocol": "UDP"})
        ports.append({"name": "ng-tcp", "containerPort": names.NG_PORT, "protocol": "TCP"})
    return ports


def _volumes(resource: SipCluster | MediaPool, key: SetKey, revision: str) -> list[Object]:
    config: dict[str, Any] = {
        "name": config_name(key, revision),
        "items": [{"key": "config.json", "path": "config.json"}],
        "defaultMode": 0o444,
    }
    volumes: list[Object] = [{"name": "config", "configMap": config}]
    if isinstance(resource, SipCluster):
        volumes.append({"name": "key", "secret": {"secretName": key_name(key), "defaultMode": 0o440}})
    else:
        volumes.append({"name": "slots", "configMap": {"name": slots_name(key), "defaultMode": 0o444}})
    return volumes
