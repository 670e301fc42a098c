"""SIP messages as a telephone needs them: RFC 3261, on purpose written apart from `sipcore`.

A judge must not share the parser's faults with the judged, so this package reads and prints SIP on its own. Only what a
user agent needs stands here; no transactions, no sockets.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from .errors import MessageError

Address = tuple[str, int]
"""Numeric IP address without brackets, and port."""

_COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
    "k": "supported",
}
_LISTS = frozenset(("via", "record-route", "route", "contact"))
_URI = re.compile(r"sips?:(?:[^@]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s:;?>\]]+)(?::(\d{1,5}))?", re.IGNORECASE)
_ITEM = re.compile(r'(?:"(?:\\.|[^"\\])*"|<[^>]*>|[^,"<])+')


@dataclass(slots=True)
class Message:
    """A request or a response: start line, header lines in order, body."""

    start: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    """(name as written, value), in the order of the message."""
    body: bytes = b""

    @property
    def status(self) -> int:
        """The status code of a response, 0 for a request."""
        return int(self.start[8:11]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """The method of a request, or that of the CSeq of a response."""
        return self.cseq[1] if self.status else self.start.split(" ", 1)[0]

    @property
    def cseq(self) -> tuple[int, str]:
        number, _, method = self.get("cseq").partition(" ")
        if not number.isdecimal() or len(number) > 10:
            raise MessageError(f"CSeq: a number and a method are expected, got {self.get('cseq')!r}")
        return int(number), method.strip()

    def get(self, name: str) -> str:
        """The first value of a header, `""` when there is none."""
        return next((value for key, value in self.headers if canonical(key) == name), "")

    def all(self, name: str) -> list[str]:
        """Every value of a header in order, comma-joined lists taken apart (RFC 3261 7.3.1)."""
        lines = [value for key, value in self.headers if canonical(key) == name]
        if name not in _LISTS:
            return lines
        return [item.strip() for line in lines for item in _ITEM.findall(line) if item.strip()]

    def __bytes__(self) -> bytes:
        written = (f"{name}: {value}" for name, value in self.headers if canonical(name) != "content-length")
        lines = [self.start, *written, f"Content-Length: {len(self.body)}"]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


def canonical(name: str) -> str:
    """The long, lower-case name of a header (RFC 3261 7.3.3)."""
    lower = name.lower()
    return _COMPACT.get(lower, lower)


def parse(data: bytes) -> Message:
    """Read one datagram.

    Raises `MessageError` when it is not SIP or lacks Via, From, To, Call-ID or CSeq.
    """
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        raise MessageError("no empty line ends the headers")
    lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "surrogateescape")).split("\r\n")
    start = lines[0]
    words = start.split(" ")
    if not (start.startswith("SIP/2.0 ") and start[8:11].isdecimal()) and (len(words) != 3 or words[2] != "SIP/2.0"):
        raise MessageError(f"not a SIP start line: {start[:60]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise MessageError(f"a header line without a colon: {line[:60]!r}")
        headers.append((name.strip(), value.strip()))
    message = Message(start, headers, body)
    for name in ("via", "from", "to", "call-id", "cseq"):
        if not message.get(name):
            raise MessageError(f"{name}: missing")
    message.cseq  # noqa: B018 - raises when it is not a number and a method
    length = message.get("content-length")
    if length.isdecimal() and len(length) < 8:
        if int(length) > len(body):
            raise MessageError(f"Content-Length: {length} announced, {len(body)} bytes received")
        message.body = body[: int(length)]
    return message


def uri_of(value: str) -> str:
    """The URI of a From, To, Contact, Route or Record-Route value."""
    opening = value.rfind("<")
    if opening >= 0:
        return value[opening + 1 :].partition(">")[0]
    return value.partition(";")[0].strip()


def parameter(value: str, name: str) -> str | None:
    """A header parameter (not one of the URI): `""` when it has no value, None when it is absent."""
    for item in value.rpartition(">")[2].split(";")[1:] if ">" in value else value.split(";")[1:]:
        key, _, text = item.partition("=")
        if key.strip().lower() == name:
            return text.strip()
    return None


def is_loose(route: str) -> bool:
    """Whether a Route value names a loose router (RFC 3261 12.2.1.1)."""
    return any(item.partition("=")[0].strip().lower() == "lr" for item in uri_of(route).split(";")[1:])


def hop_of(uri: str) -> Address | None:
    """Where a request to that URI is sent over UDP, or None when its host is a name and not an address."""
    match = _URI.match(uri.strip())
    if match is None:
        return None
    return numeric(match[1].strip("[]"), int(match[2] or 5060))


def numeric(host: str, port: int) -> Address | None:
    """The address, when it is one that can be sent to without asking anybody for a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return (host, port) if 0 < port < 65536 else None


def hostport(address: Address) -> str:
    """`127.0.0.1:5060` or `[::1]:5060`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_source(via: str, source: Address) -> str:
    """The top Via of a response: `received` and `rport` say where the request came from (RFC 3581 4)."""
    kept = [item for item in via.split(";") if item.partition("=")[0].strip().lower() not in ("rport", "received")]
    return ";".join([*kept, f"received={source[0]}", f"rport={source[1]}"])
