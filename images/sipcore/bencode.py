"""Bencode, the encoding of rtpengine's ng protocol (BEP 3): integers, byte strings, lists and dictionaries.

Strings stay bytes both ways; `encode` takes `str` too, as UTF-8. Dictionaries are written with sorted keys and read in
any order.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import cast

from sipcore.errors import BencodeError

Value = int | bytes | list["Value"] | dict[bytes, "Value"]
Encodable = int | bytes | str | Sequence["Encodable"] | Mapping[bytes, "Encodable"] | Mapping[str, "Encodable"]

MAX_DEPTH = 16
MAX_DIGITS = 20


def encode(value: Encodable) -> bytes:
    """The value as bencode.

    Raises `BencodeError` for a type that bencode does not have.
    """
    out: list[bytes] = []
    _encode(value, out)
    return b"".join(out)


def _encode(value: Encodable, out: list[bytes]) -> None:
    if isinstance(value, bytes):
        out.append(b"%d:%b" % (len(value), value))
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogateescape")
        out.append(b"%d:%b" % (len(text), text))
    elif isinstance(value, int):
        out.append(b"i%de" % value)
    elif isinstance(value, Mapping):
        out.append(b"d")
        table = cast(Mapping[str, Encodable], value)
        for key in sorted(table):  # text sorts as its UTF-8 does
            out.append(_key(key))
            _encode(table[key], out)
        out.append(b"e")
    elif isinstance(value, Sequence):
        out.append(b"l")
        for item in value:
            _encode(item, out)
        out.append(b"e")
    else:
        raise BencodeError(f"bencode: {type(value).__name__} given, int, bytes, str, list or dict expected")


@functools.lru_cache(maxsize=1024)
def _key(key: bytes | str) -> bytes:
    text = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
    return b"%d:%b" % (len(text), text)


def decode(data: bytes) -> Value:
    """Read one value that takes the whole of `data`.

    Raises `BencodeError` with the position of the fault.
    """
    try:
        value, end = _decode(data, 0, 0)
    except IndexError:
        raise BencodeError(f"bencode: ends too early, after {len(data)} bytes") from None
    if end != len(data):
        raise BencodeError(f"bencode: {len(data) - end} bytes after the end of the value at {end}")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    kind = data[at]
    if 0x30 <= kind <= 0x39:
        return _string(data, at)
    if kind == 0x69:  # i
        end = data.find(b"e", at, at + MAX_DIGITS + 2)
        digits = data[at + 1 : end] if end > 0 else b""
        if not digits.removeprefix(b"-").isdigit():
            raise BencodeError(f"bencode: no integer at {at}")
        return int(digits), end + 1
    if depth >= MAX_DEPTH:
        raise BencodeError(f"bencode: nested deeper than {MAX_DEPTH} at {at}")
    at += 1
    if kind == 0x6C:  # l
        items: list[Value] = []
        while data[at] != 0x65:
            item, at = _decode(data, at, depth + 1)
            items.append(item)
        return items, at + 1
    if kind == 0x64:  # d
        table: dict[bytes, Value] = {}
        while data[at] != 0x65:
            key, at = _string(data, at)
            table[key], at = _decode(data, at, depth + 1)
        return table, at + 1
    raise BencodeError(f"bencode: {data[at - 1 : at]!r} at {at - 1}, one of i l d or a digit expected")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    colon = data.find(b":", at, at + MAX_DIGITS)
    digits = data[at:colon] if colon > 0 else b""
    if not digits.isdigit():
        raise BencodeError(f"bencode: no string length at {at}")
    start = colon + 1
    end = start + int(digits)
    if end > len(data):
        raise BencodeError(f"bencode: string of {int(digits)} bytes at {at}, {len(data) - start} bytes left")
    return data[start:end], end
