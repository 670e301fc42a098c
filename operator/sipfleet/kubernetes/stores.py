"""The stores of all sets: one reader for each URL, read once a second in one round trip for all of its sets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from sipcore.errors import SipcoreError
from sipcore.lease import LeaseView
from sipfleet.kubernetes.names import SetKey
from sipfleet.store import StoreReader

log = logging.getLogger("sipfleet.store")

INTERVAL = 1.0

Orphans = Callable[[SetKey], list[str]]
"""The relays of a set of which no living lease speaks."""


class Stores:
    """Leases as the stores last told them."""

    def __init__(self, changed: Callable[[SetKey], None], orphans: Orphans) -> None:
        """`changed` is called when what is known of a set may be another than before."""
        self.stored: dict[tuple[SetKey, str], int] = {}
        """Sessions that a relay without a living lease left in the store."""
        self._changed = changed
        self._orphans = orphans
        self._readers: dict[str, StoreReader] = {}
        self._sets: dict[SetKey, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[SetKey, object] = {}

    def use(self, key: SetKey, url: str) -> StoreReader | None:
        """The reader of this set's store; it is read from now on. None for a URL that nobody can read."""
        if self._sets.get(key) != url:
            self.forget(key)
            try:
                reader = self._readers.get(url) or StoreReader(url)
            except (SipcoreError, ValueError) as error:
                log.error("%s: %s", key, error)
                return None
            self._readers[url], self._sets[key] = reader, url
            if url not in self._tasks:
                self._tasks[url] = asyncio.ensure_future(self._read(url))
        return self._readers[url]

    def forget(self, key: SetKey) -> None:
        """The set is gone."""
        url = self._sets.pop(key, None)
        self._seen.pop(key, None)
        for mark in [mark for mark in self.stored if mark[0] == key]:
            del self.stored[mark]
        if url is not None and url not in self._sets.values():
            self._tasks.pop(url).cancel()
            asyncio.ensure_future(self._readers.pop(url).close())  # noqa: RUF006  (nothing waits for it)

    def reader(self, key: SetKey) -> StoreReader | None:
        url = self._sets.get(key)
        return self._readers.get(url) if url is not None else None

    def view(self, key: SetKey) -> LeaseView | None:
        reader = self.reader(key)
        return reader.views.get(key.store) if reader is not None else None

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for reader in self._readers.values():
            await reader.close()

    async def read_now(self, key: SetKey) -> None:
        """Before the first plan of a set: what its store says now."""
        url = self._sets.get(key)
        if url is not None:
            await self._look(url)

    async def _read(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._look(url)
            await asyncio.sleep(max(0.05, INTERVAL - (loop.time() - began)))

    async def _look(self, url: str) -> None:
        reader = self._readers[url]
        keys = [key for key, used in self._sets.items() if used == url]
        waiting: list[tuple[tuple[str, str], str]] = []
        whose: dict[str, list[SetKey]] = {}
        for key in keys:
            for pod in self._orphans(key):
                waiting.append((key.store, pod))
                whose.setdefault(pod, []).append(key)
        left = await reader.read_leases(list({key.store for key in keys}), waiting, asyncio.get_running_loop().time())
        for pod, count in left.items():
            for key in whose.get(pod, ()):
                self.stored[key, pod] = count
        for key in keys:
            seen = self._summary(key, reader)
            if seen != self._seen.get(key):
                self._seen[key] = seen
                self._changed(key)

    def _summary(self, key: SetKey, reader: StoreReader) -> object:
        """What of the leases a plan looks at."""
        view = reader.views.get(key.store)
        leases: Iterable[object] = ()
        trusted = False
        if view is not None:
            trusted = view.trusted(asyncio.get_running_loop().time())
            leases = frozenset(
                (
                    one.pod,
                    one.uid,
                    one.active,
                    one.capacity,
                    one.cordoned,
                    one.draining,
                    one.empty,
                    one.version,
                    one.ready,
                )
                for one in view.leases.values()
            )
        return (
            reader.available,
            trusted,
            leases,
            tuple(sorted((k[1], n) for k, n in self.stored.items() if k[0] == key)),
        )
