"""The SipClusters and MediaPools of one supervisor: manifests, what revisions were made of, what the planner remembers.

All of it stands in the state directory, so that a supervisor that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from sipfleet.api import MediaPool, Resource, SipCluster, revision
from sipfleet.local.state import StateDirectory
from sipfleet.plan.types import Desired, Observed, SetStatus
from sipfleet.setkey import SetKey

KINDS: dict[str, type[SipCluster] | type[MediaPool]] = {"SipCluster": SipCluster, "MediaPool": MediaPool}


def key_of(resource: Resource) -> SetKey:
    return SetKey(resource.kind, resource.namespace, resource.name)


@dataclass(slots=True, eq=False)
class SetState:
    """One SipCluster or MediaPool."""

    key: SetKey
    resource: Resource
    """The manifest of today."""
    generation: int = 1
    """One more with each change of `spec`."""
    deleting: bool = False
    status: SetStatus = field(default_factory=SetStatus)
    desired: Desired | None = None
    observed: Observed | None = None
    """What the planner was last told."""
    revisions: dict[str, Resource] = field(default_factory=dict)
    """What each revision that is still named was made of."""
    problem: tuple[str, str] | None = None
    """(reason, message) when the manifest of today cannot be followed; the last good one is."""

    @property
    def revision(self) -> str:
        return revision(self.resource)

    def keep_revisions(self, in_use: set[str]) -> None:
        """Forget what no pod and no status names any more."""
        named = in_use | {self.revision, self.status.revision, self.status.rolling or ""}
        self.revisions[self.revision] = self.resource
        for name in set(self.revisions) - named:
            del self.revisions[name]


class Sets:
    """All sets, kept in the state directory."""

    def __init__(self, state: StateDirectory) -> None:
        self.by_key: dict[SetKey, SetState] = {}
        self._state = state
        self._written: dict[str, str] = {}

    def __iter__(self) -> Any:
        return iter(list(self.by_key.values()))

    def find(self, kind: str, name: str, namespace: str | None = None) -> SetState | None:
        for one in self.by_key.values():
            if one.key.kind == kind and one.key.name == name and namespace in (None, one.key.namespace):
                return one
        return None

    def clusters(self) -> list[SipCluster]:
        return [one.resource for one in self if isinstance(one.resource, SipCluster)]

    def apply(self, resource: Resource) -> str:
        """Take a manifest in; -> `created`, `configured` or `unchanged`."""
        key = key_of(resource)
        known = self.by_key.get(key)
        if known is None:
            known = self.by_key[key] = self._load(key, resource)
            result = "created"
        elif known.resource.spec == resource.spec and not known.deleting:
            known.resource = resource
            result = "unchanged"
        else:
            if known.resource.spec != resource.spec:
                known.generation += 1
            known.resource, known.deleting = resource, False
            result = "configured"
        known.revisions[known.revision] = resource
        self.save(known)
        return result

    def forget(self, one: SetState) -> None:
        """The set is gone, with all that was kept of it."""
        self.by_key.pop(one.key, None)
        for folder in ("specs", "status"):
            self._written.pop(f"{folder}/{_file(one.key)}", None)
            self._state.remove(f"{folder}/{_file(one.key)}")

    def save(self, one: SetState) -> None:
        """Write what changed."""
        self._write(
            f"specs/{_file(one.key)}",
            {
                "generation": one.generation,
                "deleting": one.deleting,
                "manifest": _manifest(one.resource),
                "revisions": {name: _manifest(made_of) for name, made_of in one.revisions.items()},
            },
        )
        self._write(f"status/{_file(one.key)}", msgspec.to_builtins(one.status))

    def stored(self) -> list[Resource]:
        """The manifests that an earlier run left behind, those being deleted left out."""
        found = []
        for path in sorted((self._state / "specs").glob("*.json")):
            kept = self._state.read_json(f"specs/{path.name}") or {}
            if not kept.get("deleting") and (resource := _read(kept.get("manifest"))) is not None:
                found.append(resource)
        return found

    def drop_strangers(self) -> None:
        """Remove what an earlier run kept of sets that this one does not have."""
        ours = {_file(key) for key in self.by_key}
        for folder in ("specs", "status"):
            for path in (self._state / folder).glob("*.json"):
                if path.name not in ours:
                    self._state.remove(f"{folder}/{path.name}")

    def _load(self, key: SetKey, resource: Resource) -> SetState:
        """The set with what an earlier run remembered of it."""
        one = SetState(key, resource)
        kept = self._state.read_json(f"specs/{_file(key)}") or {}
        before = _read(kept.get("manifest"))
        if before is None or kept.get("deleting"):
            return one
        one.generation = int(kept.get("generation", 1)) + (before.spec != resource.spec)
        for name, manifest in (kept.get("revisions") or {}).items():
            if (made_of := _read(manifest)) is not None:
                one.revisions[name] = made_of
        with contextlib.suppress(msgspec.ValidationError):
            one.status = msgspec.convert(self._state.read_json(f"status/{_file(key)}") or {}, SetStatus)
        one.status = _without_pods(one.status, one.revision, one.revisions)
        return one

    def _write(self, name: str, value: Any) -> None:
        text = msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"
        if self._written.get(name) != text:
            self._state.write_text(name, text)
            self._written[name] = text


def _without_pods(status: SetStatus, wanted: str, known: Mapping[str, Resource]) -> SetStatus:
    """What an earlier run remembers, now that none of its pods is left: there is nothing to roll or to drain, so pods
    are made of the wanted revision at once, unless that one is known to be bad."""
    status = replace(status, rolling=None, roll_start=None, drains=(), srv_records=())
    if status.failed == wanted and status.revision in known:
        return status
    return replace(status, revision="", failed=None, failed_message="")


def _file(key: SetKey) -> str:
    return f"{key.kind.lower()}.{key.namespace}.{key.name}.json"


def _manifest(resource: Resource) -> dict[str, Any]:
    wire = resource.to_wire()
    wire.pop("status", None)
    return wire


def _read(manifest: Any) -> Resource | None:
    """A manifest of our own making; None when this version does not take it any more."""
    if not isinstance(manifest, dict) or manifest.get("kind") not in KINDS:
        return None
    try:
        return KINDS[manifest["kind"]].model_validate(manifest)
    except ValueError:
        return None
