"""What the operator has in memory of each set. All of it can be found out again: from the API server, the store, the
pods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sipfleet.api import ManifestError, MediaPool, SipCluster, revision
from sipfleet.api.manifest import validated
from sipfleet.kubernetes import names
from sipfleet.kubernetes.client import Object
from sipfleet.kubernetes.objects.config import MANIFEST, TEMPLATE
from sipfleet.kubernetes.observe import PodMemory
from sipfleet.plan.types import Desired, SetStatus, SrvRecord
from sipfleet.setkey import SetKey

Resource = SipCluster | MediaPool

KEPT_REVISIONS = 5
"""Revisions that nothing names are kept up to so many: a StatefulSet may still make a pod of one."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What a revision was made of, as its ConfigMap keeps it."""

    name: str
    resource: Resource | None
    """None when this version of the operator does not take that manifest any more."""
    template: Object
    manifest: Object
    created: str


@dataclass(slots=True, eq=False)
class SetState:
    """One SipCluster or MediaPool."""

    key: SetKey
    manifest: Object
    """As the API server has it."""
    resource: Resource | None = None
    """The manifest read; None when it is not good."""
    refused: tuple[str, str] | None = None
    """(reason, message) of a manifest that cannot be read."""
    read_at: tuple[int, str] = (-1, "")
    status: SetStatus | None = None
    """What the planner remembers, as it is stored."""
    exposure: str | None = None
    """What the exposure came to."""
    published: tuple[SrvRecord, ...] | None = None
    address: str | None = None
    memory: dict[str, PodMemory] = field(default_factory=dict)
    """By name of the pod."""
    applied: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(kind, name) -> (what was applied, the mark that the API server gave it)."""
    drift: int = 0
    """Goes up when something of what was applied is no longer as it was applied."""
    prepared: tuple[object, Desired] | None = None
    """What the objects around the pods were last made of, and what the planner was told then."""
    revisions: dict[str, tuple[str, Revision | None]] = field(default_factory=dict)
    """By ConfigMap: its resourceVersion and the revision that was read of it."""
    reported: object = None
    """What the status was last made of."""
    written: tuple[Object | None, Object | None, float] = (None, None, 0.0)
    """Status as it was last written: what matters, all of it, and when (loop time)."""
    busy: set[tuple[str, str]] = field(default_factory=set)
    """(pod UID, path): orders to pods that are under way or were just given."""
    told_conditions: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    @property
    def deleting(self) -> bool:
        return bool(self.manifest["metadata"].get("deletionTimestamp"))

    def read(self) -> None:
        """Bring `resource` and `refused` up to date."""
        metadata = self.manifest["metadata"]
        at = (int(metadata.get("generation", 0)), f"{metadata.get('deletionTimestamp')} {metadata.get('annotations')}")
        if at == self.read_at:
            return
        self.read_at = at
        try:
            self.resource, self.refused = validated(bare(self.manifest)), None
        except ManifestError as error:
            self.resource, self.refused = None, ("InvalidSpec", "; ".join(error.lines))


def bare(manifest: Object) -> Object:
    """The manifest as a user would write it: without status and without what the API server adds."""
    metadata = manifest["metadata"]
    wanted = ("name", "namespace", "labels", "annotations", "uid", "generation", "deletionTimestamp")
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {name: metadata[name] for name in wanted if name in metadata},
        "spec": manifest.get("spec", {}),
    }


def revisions_of(state: SetState, configmaps: Mapping[str, Object]) -> dict[str, Revision]:
    """What is kept of each revision, from the ConfigMaps of the set. Each version of one is read once."""
    read = {}
    for name, one in configmaps.items():
        version = one["metadata"].get("resourceVersion", "")
        before = state.revisions.get(name)
        read[name] = before if before is not None and before[0] == version else (version, revision_of(one))
    state.revisions = read
    return {one.name: one for _, one in read.values() if one is not None}


def revision_of(configmap: Object) -> Revision | None:
    """The revision that a ConfigMap keeps; None when it is another ConfigMap, or broken."""
    metadata, data = configmap["metadata"], configmap.get("data") or {}
    name = metadata.get("labels", {}).get(names.REVISION)
    if name is None or TEMPLATE not in data or MANIFEST not in data:
        return None
    try:
        template, manifest = json.loads(data[TEMPLATE]), json.loads(data[MANIFEST])
    except ValueError:
        return None
    try:
        resource: Resource | None = validated(manifest)
    except ManifestError:
        resource = None
    return Revision(name, resource, template, manifest, str(metadata.get("creationTimestamp", "")))


def wire_manifest(resource: Resource) -> dict[str, Any]:
    """What is kept of a manifest: enough to make its pods' configuration again."""
    wire = resource.to_wire()
    wire.pop("status", None)
    wire["metadata"] = {"name": resource.name, "namespace": resource.namespace}
    return wire


def last_good(state: SetState, known: Mapping[str, Revision]) -> Resource | None:
    """The manifest to go on with when that of today cannot be followed."""
    status = state.status
    for name in (status.rolling, status.revision) if status is not None else ():
        one = known.get(name or "")
        if one is not None and one.resource is not None:
            return one.resource
    return None


__all__ = [
    "KEPT_REVISIONS",
    "Resource",
    "Revision",
    "SetState",
    "bare",
    "last_good",
    "revision",
    "revision_of",
    "revisions_of",
    "wire_manifest",
]
