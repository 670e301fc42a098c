"""rtpengine's ng control protocol: `cookie SP bencoded dictionary` in one UDP datagram, both ways.

Both ends are here: a proxy makes requests and reads replies, a relay reads requests and makes replies. Keys and words
are those of rtpengine (https://rtpengine.readthedocs.io/en/latest/ng_control_protocol.html); a blank in a key is the
same as a hyphen.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sipcore import bencode
from sipcore.bencode import Encodable, Value
from sipcore.errors import BencodeError, NgError

MAX_DATAGRAM = 65_507
MAX_COOKIE = 128

LOAD_LIMIT = "Load limit reached"
"""`error-reason` of the reply `result: load limit`."""


class Request(msgspec.Struct):
    """A command as it came."""

    cookie: bytes
    command: str
    fields: dict[bytes, Value]
    """All of the dictionary; keys lower-cased, blanks made hyphens."""

    def text(self, key: bytes) -> bytes:
        """The byte string under `key`, empty when it is absent or something else."""
        value = self.fields.get(key)
        return value if isinstance(value, bytes) else b""

    def words(self, key: bytes) -> list[bytes]:
        """The strings of a list (a lone string counts as a list of one), hyphened and lower-cased."""
        value = self.fields.get(key)
        items = value if isinstance(value, list) else [value]
        return [item.lower().replace(b" ", b"-") for item in items if isinstance(item, bytes)]


class Reply(msgspec.Struct):
    """The answer of a relay."""

    cookie: bytes
    result: str
    """`ok`, `pong`, `error` or `load limit`."""
    fields: dict[bytes, Value]

    @property
    def sdp(self) -> bytes:
        value = self.fields.get(b"sdp")
        return value if isinstance(value, bytes) else b""

    @property
    def reason(self) -> str:
        """Why it failed, empty when it did not."""
        value = self.fields.get(b"error-reason")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def split(datagram: bytes) -> tuple[bytes, bytes]:
    """(cookie, body).

    Raises `NgError` without a cookie: such a datagram gets no answer.
    """
    cookie, space, body = datagram.partition(b" ")
    if not space or not cookie or len(cookie) > MAX_COOKIE:
        raise NgError("no cookie", b"")
    return cookie, body


def parse_request(datagram: bytes) -> Request:
    """Read a command.

    Raises `NgError`; its `cookie` is empty when nothing can be answered, its text is the `error-reason`.
    """
    cookie, body = split(datagram)
    fields = _dictionary(cookie, body)
    command = fields.get(b"command")
    if not isinstance(command, bytes):
        raise NgError('Dictionary contains no key "command"', cookie)
    return Request(cookie, command.decode("utf-8", "replace"), {_key(key): value for key, value in fields.items()})


def parse_reply(datagram: bytes) -> Reply:
    """Read an answer.

    Raises `NgError`.
    """
    cookie, body = split(datagram)
    fields = _dictionary(cookie, body)
    result = fields.get(b"result")
    if not isinstance(result, bytes):
        raise NgError('Dictionary contains no key "result"', cookie)
    return Reply(cookie, result.decode("utf-8", "replace"), fields)


def request(cookie: bytes, command: str, fields: Mapping[str, Encodable]) -> bytes:
    """A command as a datagram."""
    return cookie + b" " + bencode.encode({**fields, "command": command})


def reply(cookie: bytes, fields: Mapping[str, Encodable]) -> bytes:
    """An answer as a datagram; `fields` holds `result`."""
    return cookie + b" " + bencode.encode(fields)


def error(reason: str) -> dict[str, Encodable]:
    """Fields of an answer that refuses."""
    return {"result": "error", "error-reason": reason}


def load_limit(reason: str = LOAD_LIMIT) -> dict[str, Encodable]:
    """Fields of an answer that takes no new session; the asker tries another relay."""
    return {"result": "load limit", "error-reason": reason}


def _key(key: bytes) -> bytes:
    return key.lower().replace(b" ", b"-")


def _dictionary(cookie: bytes, body: bytes) -> dict[bytes, Value]:
    try:
        fields = bencode.decode(body)
    except BencodeError:
        raise NgError("Invalid NG data format", cookie) from None
    if not isinstance(fields, dict):
        raise NgError("Invalid NG data format", cookie)
    return fields
