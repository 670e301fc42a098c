"""Flows as they stand in the store: who holds which client (DESIGN 2.2, docs/decisions/0002).

A flow is the number of a listener and the address of a client. Its name is a field of a hash, its value says who
holds it and since when; the log repeats both, so that a reader who was there needs no look at the hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from struct import Struct

from sipcore.errors import RecordError
from sipcore.uri import Address

Flow = tuple[int, Address]
"""(number of the listener, address of the client)."""

_NAME = Struct("!BH")
_VALUE_BYTES = 8


def pack(flow: Flow) -> bytes:
    """Listener 1 byte, port 2, address 4 or 16. Raises `ValueError` for what is no address."""
    listener, (host, port) = flow
    return _NAME.pack(listener, port) + ip_address(host).packed


def unpack(name: bytes) -> Flow:
    """Raises `RecordError` for anything that is no flow."""
    if len(name) not in (_NAME.size + 4, _NAME.size + 16):
        raise RecordError(f"flow: a name of {len(name)} bytes given, {_NAME.size + 4} or {_NAME.size + 16} expected")
    listener, port = _NAME.unpack_from(name)
    return listener, (str(ip_address(name[_NAME.size :])), port)


def pack_value(holder: int, seen: int) -> bytes:
    """Index of the holder 2 bytes (0: nobody, the flow is forgotten), when its packet came 6 (store's clock, ms)."""
    return holder.to_bytes(2, "big") + seen.to_bytes(6, "big")


def unpack_value(value: bytes) -> tuple[int, int]:
    """(holder, ms). Raises `RecordError`."""
    if len(value) != _VALUE_BYTES:
        raise RecordError(f"flow: a value of {len(value)} bytes given, {_VALUE_BYTES} expected")
    return int.from_bytes(value[:2], "big"), int.from_bytes(value[2:], "big")


def entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, value) of each flow in an entry of the log: length of the name 1 byte, name, value.

    Raises `RecordError` when it is cut.
    """
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end + _VALUE_BYTES > len(data):
            raise RecordError(f"flow: an entry of {len(data)} bytes is cut at {at}")
        yield data[at + 1 : end], data[end : end + _VALUE_BYTES]
        at = end + _VALUE_BYTES
