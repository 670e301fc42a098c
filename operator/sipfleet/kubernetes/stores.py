"""The stores of all sets: one reader for each URL, read once a second in one round trip for all of its sets."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable

from sipcore.errors import SipcoreError
from sipcore.lease import LeaseView
from sipfleet.setkey import SetKey
from sipfleet.store import StoreReader

log = logging.getLogger("sipfleet.store")

INTERVAL = 1.0

Orphans = Callable[[SetKey], list[str]]
"""The relays of a set of which no living lease speaks."""


class Stores:
    """Leases as the stores last told them."""

    def __init__(self, changed: Callable[[SetKey], None], moved: Callable[[SetKey], None], orphans: Orphans) -> None:
        """`changed` is called when what is known of a set is another than before, `moved` when only numbers of calls
        are."""
        self.stored: dict[tuple[SetKey, str], int] = {}
        """Sessions that a relay without a living lease left in the store."""
        self._changed = changed
        self._moved = moved
        self._orphans = orphans
        self._readers: dict[str, StoreReader] = {}
        self._sets: dict[SetKey, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[SetKey, tuple[object, object]] = {}

    def use(self, key: SetKey, url: str) -> StoreReader | None:
        """The reader of this set's store; it is read from now on. None for a URL that nobody can read."""
        if self._sets.get(key) != url:
            self.forget(key)
            try:
                reader = self._readers.get(url) or StoreReader(url)
            except (SipcoreError, ValueError) as error:
                log.error("%s: %s", key.qualified, error)
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
            try:
                await self._look(url)
            except Exception:  # a fault in one look must not be the last look
                log.error("reading the store: %s", traceback.format_exc())
            await asyncio.sleep(max(0.05, INTERVAL - (loop.time() - began)))

    async def _look(self, url: str) -> None:
        reader = self._readers[url]
        keys = [key for key, used in self._sets.items() if used == url]
        orphans = [(key, pod) for key in keys for pod in self._orphans(key)]
        waiting = [(key.store, pod) for key, pod in orphans]
        clock = asyncio.get_running_loop().time
        left = await reader.read_leases(list({key.store for key in keys}), waiting, clock())
        # What was counted while a relay had no process says nothing of the next time that it has none.
        stored = {mark: count for mark, count in self.stored.items() if self._sets.get(mark[0]) not in (url, None)}
        stored |= {(key, pod): left[key.store, pod] for key, pod in orphans if (key.store, pod) in left}
        counted = {key: tuple(item for item in stored.items() if item[0][0] == key) for key in {k for k, _ in stored}}
        self.stored = stored
        for key in keys:
            view = reader.views.get(key.store)
            trusted = view is not None and view.trusted(clock())
            version = view.generation if view is not None else -1
            mark = (reader.available, trusted, version, counted.get(key))
            old_mark, old_matter = self._seen.get(key, (None, None))
            if mark == old_mark:
                continue
            matter = (reader.available, trusted, counted.get(key), _matter(view))
            self._seen[key] = mark, matter
            if matter != old_matter:
                self._changed(key)
            else:
                self._moved(key)


def _matter(view: LeaseView | None) -> frozenset[object]:
    """What leases say but for the number of calls; that a pod is empty matters only when it is to be."""
    return frozenset(
        (
            name,
            one.capacity,
            one.cordoned,
            one.draining,
            one.empty and (one.cordoned or one.draining),
            one.version,
            one.ready,
        )
        for name, one in (view.leases.items() if view is not None else ())
    )
