"""The managed store: Redis with Sentinel, one for each namespace, shared by its sets (docs/decisions/0007).

Three pods, each with a Redis and a Sentinel, on different nodes where there are three, with a volume each. Names, not
addresses, are what they know each other by: a pod's address changes, and all may change at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from sipfleet.kubernetes import names
from sipfleet.kubernetes.settings import Settings
from sipfleet.setkey import SetKey

from . import security
from .meta import Object

NAME = "sipfleet-store"
CONFIG = f"{NAME}-config"
MASTER = "sipfleet"
MEMBERS = 3
REDIS_PORT, SENTINEL_PORT = 6379, 26379
DOWN_AFTER_MS = 1500
"""Silence after which a Sentinel takes the master for dead; a failover took 2.5 s with 1 s."""
VOLUME = "1Gi"

_JINJA = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
_LABELS = {names.MANAGED_BY: names.FIELD_MANAGER, names.APP_NAME: NAME}


def store_url(namespace: str, password: str) -> str:
    """Where programs and operator find the master; `password` is as it stands in the URL (a placeholder or
    percent-encoded)."""
    hosts = ",".join(f"{NAME}-{n}.{NAME}.{namespace}.svc:{SENTINEL_PORT}" for n in range(MEMBERS))
    return f"sentinel://:{password}@{hosts}/{MASTER}"


def encoded(password: str) -> str:
    return quote(password, safe="")


def store_objects(namespace: str, owners: Sequence[Object], settings: Settings) -> list[Object]:
    """All objects of the store but its password; `owners` are the sets that use it, as owner references (none a
    controller)."""
    texts = _texts(namespace)
    objects = [
        _head("v1", "ConfigMap", CONFIG, namespace) | {"data": texts},
        _head("v1", "Service", NAME, namespace)
        | {
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": dict(_LABELS),
                "ports": [
                    {"name": "redis", "port": REDIS_PORT, "targetPort": REDIS_PORT, "protocol": "TCP"},
                    {"name": "sentinel", "port": SENTINEL_PORT, "targetPort": SENTINEL_PORT, "protocol": "TCP"},
                ],
            }
        },
        _head("policy/v1", "PodDisruptionBudget", NAME, namespace)
        | {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": dict(_LABELS)}}},
        _head("networking.k8s.io/v1", "NetworkPolicy", NAME, namespace)
        | {
            "spec": {
                "podSelector": {"matchLabels": dict(_LABELS)},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [
                            {"podSelector": {"matchLabels": {names.MANAGED_BY: names.FIELD_MANAGER}}},
                            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}}},
                        ]
                    }
                ],
            }
        },
        _head("apps/v1", "StatefulSet", NAME, namespace) | {"spec": _stateful_set(texts, settings)},
    ]
    for one in objects:
        one["metadata"]["ownerReferences"] = [
            dict(owner, controller=False, blockOwnerDeletion=False) for owner in owners
        ]
    return objects


def password_secret(namespace: str, password: str) -> Object:
    """Created once; goes with the last set of the namespace (by `owners`, applied apart)."""
    body = _head("v1", "Secret", names.STORE_SECRET, namespace)
    body["type"] = "Opaque"
    body["stringData"] = {names.STORE_SECRET_KEY: password}
    return body


def owner_references(key: SetKey, uid: str) -> Object:
    return {"apiVersion": "sipfleet.io/v1alpha1", "kind": key.kind, "name": key.name, "uid": uid}


def _head(api_version: str, kind: str, name: str, namespace: str) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": dict(_LABELS)},
    }


def _texts(namespace: str) -> dict[str, str]:
    values = {
        "name": NAME,
        "service": NAME,
        "namespace": namespace,
        "members": MEMBERS,
        "quorum": MEMBERS // 2 + 1,
        "master": MASTER,
        "redis_port": REDIS_PORT,
        "sentinel_port": SENTINEL_PORT,
        "down_after_ms": DOWN_AFTER_MS,
    }
    folder = files("sipfleet.kubernetes.objects") / "templates"
    return {
        name: _JINJA.from_string((folder / f"{name}.j2").read_text()).render(values)
        for name in ("redis.sh", "redis.conf", "sentinel.sh")
    }


def _stateful_set(texts: dict[str, str], settings: Settings) -> Object:
    """A change of the texts rolls the pods, one at a time, highest first."""
    mark = hashlib.blake2b("".join(texts.values()).encode(), digest_size=4).hexdigest()
    return {
        "replicas": MEMBERS,
        "serviceName": NAME,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": dict(_LABELS)},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
        "template": {
            "metadata": {"labels": dict(_LABELS), "annotations": {"sipfleet.io/config": mark}},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 20,
                "securityContext": security.POD,
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 100,
                                "podAffinityTerm": {
                                    "topologyKey": "kubernetes.io/hostname",
                                    "labelSelector": {"matchLabels": dict(_LABELS)},
                                },
                            }
                        ]
                    }
                },
                "containers": [
                    _container("redis", REDIS_PORT, "/etc/sipfleet/store/redis.sh", settings),
                    _container("sentinel", SENTINEL_PORT, "/etc/sipfleet/store/sentinel.sh", settings),
                ],
                "volumes": [
                    {"name": "config", "configMap": {"name": CONFIG, "defaultMode": 0o555}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                ],
            },
        },
        "volumeClaimTemplates": [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": VOLUME}},
                },
            }
        ],
    }


def _container(name: str, port: int, script: str, settings: Settings) -> Object:
    probe = {"tcpSocket": {"port": port}, "timeoutSeconds": 2}
    return {
        "name": name,
        "image": settings.store_reference,
        "imagePullPolicy": settings.pull_policy,
        "command": ["/bin/sh", script],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {
                "name": "STORE_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": names.STORE_SECRET, "key": names.STORE_SECRET_KEY}},
            },
        ],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"}],
        "readinessProbe": dict(probe, periodSeconds=2, failureThreshold=2, successThreshold=1),
        "livenessProbe": dict(probe, periodSeconds=10, failureThreshold=6, successThreshold=1, initialDelaySeconds=20),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": security.CONTAINER,
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/sipfleet/store", "readOnly": True},
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
