"""What every object begins with."""

from __future__ import annotations

from typing import Any

from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

Object = dict[str, Any]


def head(api_version: str, kind: str, key: SetKey, uid: str, name: str) -> Object:
    """apiVersion, kind and metadata of an object that belongs to the set `key`, whose resource has this UID."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": key.namespace,
            "labels": names.labels(key),
            "ownerReferences": [owner(key, uid)],
        },
    }


def owner(key: SetKey, uid: str) -> Object:
    """The garbage collector removes what the set owns once the set is gone."""
    return {
        "apiVersion": "sipfleet.io/v1alpha1",
        "kind": key.kind,
        "name": key.name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
