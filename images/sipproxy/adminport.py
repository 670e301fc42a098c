"""The admin port: asyncio carries the bytes, `sipcore.admin` understands them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

from sipcore.admin import AdminConnection, Handler

MAX_CONNECTIONS = 64
IDLE_LIMIT = 120.0
"""Seconds after which a silent connection is closed."""

Table = Mapping[tuple[str, str], Handler]


class _Protocol(asyncio.Protocol):
    def __init__(self, table: Table, connections: set[_Protocol]) -> None:
        self._connection = AdminConnection(table)
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        self._connections.add(self)
        self._wait()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._wait()
        self._transport.write(self._connection.feed(data))
        if self._connection.closed:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def _wait(self) -> None:
        assert self._transport is not None
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_LIMIT, self._transport.abort)


async def serve_admin(address: tuple[str, int], table: Table) -> asyncio.Server:
    """Listen on `address`.

    Raises `OSError`.
    """
    connections: set[_Protocol] = set()
    return await asyncio.get_running_loop().create_server(lambda: _Protocol(table, connections), *address)
