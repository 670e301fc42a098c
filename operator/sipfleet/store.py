"""The store of a fleet, read: leases of all sets in one round trip, calls, call detail records. By redis-py, off the
call path; both runtimes read it the same way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sipcore.errors import SipcoreError
from sipcore.lease import LeaseView
from sipcore.record import DialogRecord, unseal
from sipcore.store import LEASES, Keys, StoreUrl, without_password

TIMEOUT = 2.0
"""Seconds that an answer of the store may take."""
SENTINEL_TIMEOUT = 0.5
"""Seconds that a sentinel may take; then the next one is asked."""
MAX_ROWS = 10_000
MAX_KEYS = 2_000_000
ENDED = b"X"
"""First byte of a dialog that has ended and is remembered for a while (docs/decisions/0002)."""
SCAN = 1000
"""Keys that one SCAN looks at."""


class StoreError(Exception):
    """The store does not answer."""


def redis_client(url: str, **options: Any) -> Redis:
    """A client of redis-py for any store URL of ours (`sipcore.store.StoreUrl`), which tries nothing twice by itself.

    With `sentinel://` it asks which server is the master before each connection. Raises `ConfigError`, `ValueError`.
    """
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
    if not url.startswith("sentinel://"):
        return Redis.from_url(url, **once, **options)
    parsed = StoreUrl.parse(url)
    limits: dict[str, Any] = {
        "socket_timeout": SENTINEL_TIMEOUT,
        "socket_connect_timeout": SENTINEL_TIMEOUT,
        **once,
    }
    sentinel = Sentinel(list(parsed.sentinels), sentinel_kwargs=limits)  # type: ignore[no-untyped-call]
    if parsed.password:
        # Whether sentinels want a password nobody says; those of the list are asked one after the other.
        sentinel.sentinels += [
            Redis(host=host, port=port, password=parsed.password, **limits) for host, port in parsed.sentinels
        ]
    client = sentinel.master_for(parsed.master, password=parsed.password or None, db=parsed.db, **once, **options)
    assert isinstance(client, Redis)
    return client


async def close_client(client: Redis) -> None:
    """Close a client that `redis_client` made, and what it asks sentinels with."""
    await client.aclose()
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


class StoreReader:
    """What a runtime reads from the store. Every failure is an answer: `available` says whether there is one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.available: bool | None = None
        """None before the first attempt."""
        self._redis = redis_client(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, max_connections=8)
        self._elected = url.startswith("sentinel://")
        self._run_id = ""
        self.views: dict[tuple[str, str], LeaseView] = {}

    async def close(self) -> None:
        await close_client(self._redis)

    async def ping(self) -> bool:
        try:
            await self._redis.ping()
        except (RedisError, OSError):
            return False
        return True

    def lost(self, now: float) -> None:
        """The store is known to be away (its process ended)."""
        self.available = False
        for view in self.views.values():
            view.store_changed(False, now)

    async def read_leases(
        self, sets: Sequence[tuple[str, str]], orphans: Iterable[tuple[tuple[str, str], str]], now: float
    ) -> dict[tuple[tuple[str, str], str], int]:
        """Take in the leases of all sets (namespace, name) in one round trip; -> by orphan the sessions left in the
        store: `orphans` are (set, pod) of relays whose process does not answer for itself."""
        waiting = list(orphans)
        for key in sets:
            if key not in self.views:
                self.views[key] = LeaseView(Keys(*key))
                self.views[key].store_changed(bool(self.available), now)
        for key in set(self.views) - set(sets):
            del self.views[key]
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for key in sets:
                keys = self.views[key].keys
                pipeline.eval(LEASES.text, 2, keys.leases, keys.beats)
            for key, pod in waiting:
                pipeline.hlen(Keys(*key).sessions(pod).decode())
            pipeline.role()
            pipeline.info("server")
            *replies, role, server = await pipeline.execute()
            if self._elected and role[0] != b"master":
                await self._redis.connection_pool.disconnect()
                raise ConnectionError("the master of a moment ago is one no more")
        except (RedisError, OSError):
            if self.available is not False:
                self.lost(now)
            return {}
        run_id = str(server.get("run_id"))
        if not self.available or run_id != self._run_id:
            self.available, self._run_id = True, run_id
            for view in self.views.values():
                view.store_changed(True, now)
        for key, reply in zip(sets, replies, strict=False):
            if (view_of := self.views.get(key)) is not None:
                view_of.update(reply, now)
        return {orphan: int(n) for orphan, n in zip(waiting, replies[len(sets) :], strict=True)}

    async def forget_sessions(self, namespace: str, pool: str, pod: str) -> None:
        """The sessions of a relay are not restored any more; a store that is away has none."""
        with contextlib.suppress(RedisError, OSError):
            await self._redis.delete(Keys(namespace, pool).sessions(pod).decode())

    async def calls(
        self, namespace: str, cluster: str, limit: int = MAX_ROWS, keys: int = MAX_KEYS
    ) -> list[dict[str, Any]]:
        """The confirmed dialogs of a cluster, oldest first; at most `limit`, looked for among about `keys` keys.

        Raises `StoreError`.
        """
        rows: list[dict[str, Any]] = []
        view = self.views.get((namespace, cluster))
        owners = {lease.index: lease.pod for lease in view.alive.values()} if view is not None else {}
        pattern = Keys(namespace, cluster).prefix + b":dialog:*"
        try:
            names: list[Any] = []
            cursor, looked = 0, 0
            while looked < keys and len(names) < limit:
                cursor, found = await self._redis.scan(cursor, match=pattern, count=SCAN)
                names += found
                looked += SCAN
                if cursor == 0:
                    break
            values: list[Any] = await self._redis.mget(names[:limit]) if names else []
        except (RedisError, OSError) as error:
            raise StoreError(f"the store at {without_password(self.url)} does not answer: {error}") from None
        for value in values:
            if value is None or value[:1] == ENDED:
                continue
            try:
                owner, epoch, record = unseal(value, DialogRecord)
            except SipcoreError as error:
                rows.append({"callId": "?", "error": str(error)})
                continue
            rows.append(
                {
                    "callId": record.call_id.decode("utf-8", "replace"),
                    "from": record.caller.uri.decode("utf-8", "replace"),
                    "to": record.request_uri.decode("utf-8", "replace"),
                    "started": record.started,
                    "answered": record.answered,
                    "owner": owners.get(owner, f"index {owner}"),
                    "epoch": epoch,
                    "relay": record.relay_pod,
                }
            )
        return sorted(rows, key=lambda row: row.get("started", 0.0))

    async def cdrs(self, namespace: str, cluster: str, since: str, limit: int) -> list[dict[str, Any]]:
        """Call detail records after the stream id `since` (`-` for the first), oldest first; `streamId` is each one's.

        Readers of an at-least-once stream de-duplicate by `id` (DESIGN 2.8). Raises `StoreError`.
        """
        start = since if since == "-" else f"({since}"
        try:
            entries: Any = await self._redis.xrange(Keys(namespace, cluster).cdr.decode(), start, "+", count=limit)
        except (RedisError, OSError) as error:
            raise StoreError(f"the store at {without_password(self.url)} does not answer: {error}") from None
        rows = []
        for stream_id, fields in entries or []:
            try:
                row = json.loads(fields[b"cdr"])
            except (KeyError, ValueError):
                continue
            rows.append({**row, "streamId": stream_id.decode()})
        return rows
