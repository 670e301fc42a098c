"""Manifests as small as they can be, and what is wrong with changed ones."""

from __future__ import annotations

import copy
from typing import Any

from sipfleet.api import ManifestError, validated

CLUSTER: dict[str, Any] = {
    "apiVersion": "sipfleet.io/v1alpha1",
    "kind": "SipCluster",
    "metadata": {"name": "demo"},
    "spec": {"domains": ["example.test"], "replicas": 2},
}
POOL: dict[str, Any] = {
    "apiVersion": "sipfleet.io/v1alpha1",
    "kind": "MediaPool",
    "metadata": {"name": "media"},
    "spec": {"replicas": 2},
}


def changed(manifest: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """A copy with these fields of `spec` set; None takes a field away."""
    copied = copy.deepcopy(manifest)
    copied["spec"].update(spec)
    copied["spec"] = {key: value for key, value in copied["spec"].items() if value is not None}
    return copied


def faults(manifest: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(path, given, allowed) of all that is wrong."""
    try:
        validated(manifest)
    except ManifestError as error:
        return [(fault.path, fault.given, fault.allowed) for fault in error.faults]
    return []
