"""Where CDRs are read from after the calls: the stream of docs/decisions/0002, in any Redis-compatible server."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Collection, Mapping
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .errors import CallsError

PATTERN = "sf:*:cdr"
_BATCH = 1000


class RedisCdrs:
    """Counts CDRs by Call-ID. The stream is at least once with deterministic ids, so equal ids count once."""

    def __init__(self, url: str, stream: str = "") -> None:
        """`url` is `redis://[:password@]host:port[/db]` or `unix:///path`; without `stream` every `sf:*:cdr` is read.

        Raises `CallsError` for a URL that redis-py refuses.
        """
        try:
            self._redis: Redis = Redis.from_url(url, decode_responses=True)
        except ValueError as error:
            raise CallsError(f"--cdr: got {url!r}: {error}") from None
        self._url, self._stream = url, stream
        self._positions: dict[str, str] = {}
        self._since = f"{int((time.time() - 1) * 1000)}-0"
        self._ids: dict[str, set[str]] = {}

    async def __call__(self, call_ids: Collection[str]) -> Mapping[str, int]:
        """How many CDRs there are for each of the Call-IDs that has one.

        Raises `CallsError` when the server does not answer.
        """
        try:
            for stream in await self._streams():
                await self._read(stream)
        except (RedisError, OSError) as error:
            raise CallsError(f"CDRs cannot be read from {self._url}: {error}") from None
        return {call_id: len(self._ids[call_id]) for call_id in call_ids if call_id in self._ids}

    async def close(self) -> None:
        await self._redis.aclose()

    async def _streams(self) -> list[str]:
        if self._stream:
            return [self._stream]
        return [key async for key in self._redis.scan_iter(PATTERN, _type="STREAM")]

    async def _read(self, stream: str) -> None:
        while True:
            position = self._positions.get(stream, self._since)
            entries: list[tuple[str, dict[str, Any]]] = await cast(
                Awaitable[Any], self._redis.xrange(stream, f"({position}", "+", count=_BATCH)
            )
            for entry, fields in entries:
                self._positions[stream] = entry
                self._take(fields.get("cdr", ""))
            if len(entries) < _BATCH:
                return

    def _take(self, text: str) -> None:
        try:
            record = json.loads(text)
            self._ids.setdefault(str(record["call_id"]), set()).add(str(record["id"]))
        except (ValueError, KeyError, TypeError):
            return
