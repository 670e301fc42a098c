"""RESP2, the wire protocol of Redis: commands packed, replies read, no I/O.

Written out because a packed pipeline on a raw socket costs a tenth of a client library's call; off the call path
redis-py is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union  # a recursive alias cannot be written with |

from sipcore.errors import RespError

Value = Union[bytes, int, None, list["Value"], "ErrorReply"]

MAX_BULK = 64 * 1024 * 1024
MAX_DEPTH = 8


class ErrorReply(Exception):  # noqa: N818 - a reply, raised by nobody here
    """An error that the store answered; it is a value in the list of replies, in the place of its command."""

    @property
    def code(self) -> str:
        return str(self.args[0]).split(" ", 1)[0]


def pack(command: Iterable[bytes | str | int | float]) -> bytes:
    """One command as RESP2: an array of bulk strings. Bytes are a command that is packed already."""
    if type(command) is bytes:
        return command
    parts = [p if type(p) is bytes else str(p).encode() for p in command]
    out = [b"*%d\r\n" % len(parts)]
    out += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"".join(out)


_COMMON: dict[bytes, tuple[Value, int]] = {b"+OK\r": (b"OK", 5), b":1\r\n": (1, 4), b":0\r\n": (0, 4)}
"""First four bytes of the replies that nearly all writes get -> (value, length)."""


class Reader:
    """Replies out of a stream of bytes: `feed` what came, `replies` gives what is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def replies(self) -> list[Value]:
        """All complete replies so far, in order.

        Raises `RespError` when the bytes are not RESP; the connection is then useless.
        """
        out: list[Value] = []
        data = bytes(self._buffer)
        position = 0
        while position < len(data):
            known = _COMMON.get(data[position : position + 4])
            if known is not None and (known[1] == 4 or data[position + 4 : position + 5] == b"\n"):
                out.append(known[0])
                position += known[1]
                continue
            parsed = _parse(data, position, 0)
            if parsed is None:
                break
            value, position = parsed
            out.append(value)
        if position:
            del self._buffer[:position]
        return out


def _parse(data: bytes, start: int, depth: int) -> tuple[Value, int] | None:
    end = data.find(b"\r\n", start)
    if end < 0:
        return None
    kind, line, after = data[start], data[start + 1 : end], end + 2
    if kind == 0x2B:  # +
        return line, after
    if kind == 0x2D:  # -
        return ErrorReply(line.decode("utf-8", "replace")), after
    try:
        number = int(line)
    except ValueError:
        raise RespError(f"RESP: {data[start : end + 2][:40]!r} given, one of + - : $ * and a number expected") from None
    if kind == 0x3A:  # :
        return number, after
    if kind == 0x24:  # $
        if number < 0:
            return None, after
        if number > MAX_BULK:
            raise RespError(f"RESP: bulk string of {number} bytes, at most {MAX_BULK} allowed")
        if len(data) < after + number + 2:
            return None
        return data[after : after + number], after + number + 2
    if kind == 0x2A:  # *
        if number < 0:
            return None, after
        if depth >= MAX_DEPTH:
            raise RespError(f"RESP: arrays nested deeper than {MAX_DEPTH}")
        items: list[Value] = []
        for _ in range(number):
            parsed = _parse(data, after, depth + 1)
            if parsed is None:
                return None
            item, after = parsed
            items.append(item)
        return items, after
    raise RespError(f"RESP: {data[start : end + 2][:40]!r} given, one of + - : $ * expected")
