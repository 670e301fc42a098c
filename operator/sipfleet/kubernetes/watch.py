"""Thin watches: a list, then its changes, kept in memory and told to one listener; they never end by themselves.

Only what is label-selected comes over the wire, and only the parts that somebody reads stay in memory: a cluster has
more pods than ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from sipfleet.kubernetes.client import Api, ApiError, Object, Resource, backoff

log = logging.getLogger("sipfleet.watch")

Listener = Callable[[str, Object], None]
"""Called with `ADDED`, `MODIFIED` or `DELETED` and the object."""


def without_managed_fields(found: Object) -> Object:
    """Half of an object's bytes say who set which field; nobody reads them here."""
    found.get("metadata", {}).pop("managedFields", None)
    return found


class Watch:
    """One kind of object, label-selected, as the API server has it."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        listener: Listener,
        *,
        namespace: str | None = None,
        selector: str = "",
        keep: Callable[[Object], Object] = without_managed_fields,
    ) -> None:
        """`keep` makes what stays in memory of what came."""
        self.objects: dict[tuple[str, str], Object] = {}
        """By (namespace, name)."""
        self.synced = asyncio.Event()
        """The first list is in."""
        self._api = api
        self._resource = resource
        self._listener = listener
        self._namespace = namespace
        self._selector = selector
        self._keep = keep

    def get(self, namespace: str, name: str) -> Object | None:
        return self.objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self.objects.values()))

    async def run(self) -> None:
        """List, watch, and again, until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._follow(version)
                    failures = 0
            except ApiError as error:
                if error.status != 410:  # too old a version is no fault: a list follows
                    failures += 1
                    log.warning("watch of %s: %s; again in a moment", self._resource.plural, error)
                await backoff(failures)

    async def _list(self) -> str:
        found = await self._api.list(self._resource, self._namespace, self._selector)
        present = set()
        for item in found.get("items") or []:
            key = _key(item)
            present.add(key)
            known = self.objects.get(key)
            if known is None:
                self._take("ADDED", item)
            elif known["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
                self._take("MODIFIED", item)
        for key in set(self.objects) - present:
            self._take("DELETED", self.objects[key])
        self.synced.set()
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> str:
        async for kind, item in self._api.watch(self._resource, version, self._namespace, self._selector):
            version = str(item["metadata"]["resourceVersion"])
            if kind != "BOOKMARK":
                self._take(kind, item)
        return version

    def _take(self, kind: str, item: Object) -> None:
        key = _key(item)
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            item = self.objects[key] = self._keep(item)
        self._listener(kind, item)


def _key(item: dict[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
