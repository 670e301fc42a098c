"""One DNS message out, one back: UDP, or TCP where the message is long or the answer was cut short (RFC 7766).

The bytes are handed over as they come: a server that refuses may do so without a signature, and what it said counts
even then.
"""

from __future__ import annotations

import asyncio
import struct
from typing import cast

SAFE_UDP = 512
"""Octets that every server takes in one datagram (RFC 1035 4.2.1)."""
TRUNCATED = 0x0200
"""The TC bit, in the second pair of octets."""


class _Answer(asyncio.DatagramProtocol):
    """The first datagram from the connected peer that carries our message's id."""

    def __init__(self, ident: bytes) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._ident = ident

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) >= 12 and data[:2] == self._ident and not self.came.done():
            self.came.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.came.done():
            self.came.set_exception(exc)


async def exchange(wire: bytes, host: str, port: int, limit: float) -> bytes:
    """The answer of the server at an IP address; `limit` is in seconds, for each of the two ways.

    Raises `OSError`, `TimeoutError` among them.
    """
    if len(wire) > SAFE_UDP:
        return await _over_tcp(wire, host, port, limit)
    answer = await _over_udp(wire, host, port, limit)
    return await _over_tcp(wire, host, port, limit) if _truncated(answer) else answer


def _truncated(answer: bytes) -> bool:
    return bool(struct.unpack_from("!H", answer, 2)[0] & TRUNCATED)


async def _over_udp(wire: bytes, host: str, port: int, limit: float) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Answer(wire[:2]), remote_addr=(host, port))
    try:
        transport.sendto(wire)
        async with asyncio.timeout(limit):
            return await protocol.came
    finally:
        transport.close()


async def _over_tcp(wire: bytes, host: str, port: int, limit: float) -> bytes:
    async with asyncio.timeout(limit):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(struct.pack("!H", len(wire)) + wire)
            await writer.drain()
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = await reader.readexactly(cast(int, length))
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the server closed the connection before it answered") from None
        finally:
            writer.close()
    if len(answer) < 12 or answer[:2] != wire[:2]:
        raise ConnectionResetError("the server answered something else")
    return answer
