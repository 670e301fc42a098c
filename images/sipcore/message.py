"""SIP messages as a proxy sees them: bytes in lines, a few of which are read and a few spliced (RFC 3261 7, 16).

The header block is split once, each name is looked up in one table (compact forms and common spellings are keys of
it), and nothing else is read until it is asked for. What a proxy does not touch leaves as it came, byte for byte.
"""

from __future__ import annotations

import re

from sipcore.layout import (
    ALLOW,
    CALL_ID,
    CONTACT,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CSEQ,
    FROM,
    MAX_FORWARDS,
    PROXY_REQUIRE,
    RECORD_ROUTE,
    RETRY_AFTER,
    ROUTE,
    SESSION_EXPIRES,
    SUPPORTED,
    TIMESTAMP,
    TO,
    VIA,
    Layout,
    layout_of,
)
from sipcore.uri import UriError, name_addr
from sipcore.via import BadMessage, Via

__all__ = [
    "ALLOW",
    "CALL_ID",
    "CONTACT",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "CSEQ",
    "FROM",
    "MAX_FORWARDS",
    "PROXY_REQUIRE",
    "RECORD_ROUTE",
    "RETRY_AFTER",
    "ROUTE",
    "SESSION_EXPIRES",
    "SUPPORTED",
    "TIMESTAMP",
    "TO",
    "VIA",
    "BadMessage",
    "Message",
    "Via",
    "parse",
    "split_values",
]

MAX_CSEQ = 2**31 - 1
MAX_FORWARDS_LEFT = 255

_TOKEN = re.compile(rb"[A-Za-z0-9.!%*_+`'~-]+\Z")
_FOLD = re.compile(rb"\r\n[ \t]+")
_TAG = re.compile(rb";[ \t]*tag[ \t]*=[ \t]*([^;,\s]+)", re.IGNORECASE)
_VALUE = re.compile(rb'((?:"(?:[^"\\]|\\.)*"|<[^<>]*>|[^,"<]|["<])+)')
_METHODS = frozenset(
    b"INVITE ACK BYE CANCEL OPTIONS REGISTER PRACK SUBSCRIBE NOTIFY PUBLISH INFO REFER MESSAGE UPDATE".split()
)
_ONE_LESS = {b"Max-Forwards: %d" % n: (n, b"Max-Forwards: %d" % (n - 1)) for n in range(1, MAX_FORWARDS_LEFT + 1)}


class Message:
    """A request or a response. Whoever holds it may splice `lines`; the positions in `first` then no longer hold."""

    __slots__ = (
        "body",
        "call_id",
        "cseq",
        "cseq_method",
        "first",
        "layout",
        "lines",
        "method",
        "more",
        "status",
        "uri",
    )

    lines: list[bytes]
    """Start line and header lines, unfolded, without CRLF."""
    body: bytes
    method: bytes
    """Empty in a response."""
    uri: bytes
    """Request-URI, empty in a response."""
    status: int
    """0 in a request."""
    layout: Layout
    """As it came."""
    first: dict[int, int]
    """Kind of header -> number of its first line; call `own` before changing it."""
    more: list[tuple[int, int]]
    """(kind, number) of the further lines of a kind; the same."""
    call_id: bytes
    cseq: bytes
    """The number, as written."""
    cseq_method: bytes

    def value(self, kind: int) -> bytes:
        """The value of the first header of a kind, stripped; empty when there is none."""
        at = self.first.get(kind)
        return b"" if at is None else self.lines[at].partition(b":")[2].strip()

    def all_lines(self, kind: int) -> list[bytes]:
        """All header lines of a kind, in order."""
        at = self.first.get(kind)
        if at is None:
            return []
        return [self.lines[at]] + [self.lines[i] for k, i in self.more if k == kind]

    def values(self, kind: int) -> list[bytes]:
        """All values of a comma-separated header, in order."""
        return [v for line in self.all_lines(kind) for v in split_values(line.partition(b":")[2])]

    def via(self) -> Via:
        """The top Via.

        Raises `BadMessage`.
        """
        value = self.lines[self.first[VIA]].partition(b":")[2].strip()
        if b"," not in value:
            return Via(value)
        head, *rest = split_values(value)
        if not all(via[:3].upper() == b"SIP" for via in rest):
            raise BadMessage("Via: SIP/2.0/transport expected after each comma", 400, self)
        return Via(head, b", ".join(rest))

    def tag(self, kind: int) -> bytes:
        """The tag of From or To, empty when there is none."""
        line = self.lines[self.first[kind]]
        _, found, tail = line.rpartition(b";tag=")
        if found and b">" not in tail:
            return tail.partition(b";")[0].strip() if b";" in tail else tail.strip()
        if b"tag" not in line and b"TAG" not in line and b"Tag" not in line:
            return b""
        match = _TAG.search(line, line.rfind(b">") + 1)
        return match[1] if match else b""

    def uri_of(self, kind: int) -> bytes:
        """The URI of the first From, To or Contact value; empty when it cannot be read."""
        value = self.value(kind)
        if value.count(b"<") == 1 and b"," not in value:
            return value.partition(b"<")[2].partition(b">")[0]
        values = split_values(value)
        if not values:
            return b""
        try:
            return name_addr(values[0])[0]
        except UriError:
            return b""

    @property
    def max_forwards(self) -> int:
        """RFC 3261 16.6 step 3: 70 when there is none. Raises `BadMessage`."""
        at = self.first.get(MAX_FORWARDS)
        return 70 if at is None else self._forwards(self.lines[at])[0]

    def one_hop_less(self) -> tuple[int, bytes]:
        """(Max-Forwards as it came, the line to forward) of a request that has the header. Raises `BadMessage`."""
        line = self.lines[self.layout.max_forwards]
        return _ONE_LESS.get(line) or self._forwards(line)

    def _forwards(self, line: bytes) -> tuple[int, bytes]:
        value = line.partition(b":")[2].strip()
        if not value.isdigit() or len(value) > 9 or int(value) > MAX_FORWARDS_LEFT:
            raise BadMessage("Max-Forwards: 0 to 255 expected", message=self)
        return int(value), b"Max-Forwards: %d" % (int(value) - 1)

    def own(self) -> None:
        """Positions of its own, to be changed: those of a message that was just parsed belong to its layout."""
        self.first, self.more = dict(self.first), list(self.more)

    def set_body(self, body: bytes) -> None:
        """Another body, with its Content-Length."""
        self.body = body
        line = b"Content-Length: %d" % len(body)
        at = self.first.get(CONTENT_LENGTH)
        if at is None:
            self.own()
            self.first[CONTENT_LENGTH] = len(self.lines)
            self.lines.append(line)
        else:
            self.lines[at] = line

    def __bytes__(self) -> bytes:
        return b"\r\n".join((*self.lines, b"", self.body))


def parse(data: bytes) -> Message:
    """Read a datagram.

    Raises `BadMessage`. Octets behind Content-Length are dropped, too few are an error (RFC 3261 18.3).
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise BadMessage("no end of the header block", 0)
    lines = data[:end].split(b"\r\n")
    layout = layout_of(tuple([line.partition(b":")[0] for line in lines]))
    if layout.folded:
        return parse(_FOLD.sub(b" ", data[:end]) + data[end:])
    message = Message()
    message.lines = lines
    message.body = data[end + 4 :]
    message.layout = layout
    message.first = layout.first
    message.more = layout.more
    message.call_id = message.cseq = message.cseq_method = b""
    start = lines[0]
    if start[:8] == b"SIP/2.0 ":
        _status_line(message, start)
    else:
        _request_line(message, start)
    if layout.fault:
        raise BadMessage(layout.fault, 400, message)
    call_id = message.call_id = lines[layout.call_id].partition(b":")[2].strip()
    if not call_id:
        raise BadMessage("empty Call-ID", 400, message)
    words = lines[layout.cseq].partition(b":")[2].split()
    if len(words) != 2 or not words[0].isdigit() or (len(words[0]) > 9 and int(words[0][:11]) > MAX_CSEQ):
        raise BadMessage("CSeq: number below 2^31 and method expected", 400, message)
    message.cseq, message.cseq_method = words
    if message.method != words[1] and not message.status:
        raise BadMessage("CSeq: method differs from the Request-Line", 400, message)
    for line in (lines[layout.from_], lines[layout.to]):
        if b"<" not in line or (b'"' in line and (b"\\" in line or line.count(b'"') != 2)):
            _check_name_addr(line, message)
    if layout.content_length:
        _check_length(message, layout)
    return message


def _status_line(message: Message, start: bytes) -> None:
    code = start[8:11]
    if not code.isdigit() or start[11:12] not in (b" ", b"") or not 100 <= int(code) <= 699:
        raise BadMessage("Status-Line: code of 100 to 699 expected", 0)
    message.status = int(code)
    message.method = message.uri = b""


def _request_line(message: Message, start: bytes) -> None:
    message.status = 0
    parts = start.split(b" ")
    message.method, message.uri = parts[0], b""
    if len(parts) != 3:
        raise BadMessage("Request-Line: method, Request-URI and version with one blank between expected", 400, message)
    method, uri, version = parts
    message.uri = uri
    if version != b"SIP/2.0" and version.upper() != b"SIP/2.0":
        is_sip = version[:4].upper() == b"SIP/"
        raise BadMessage("Version Not Supported" if is_sip else "Request-Line: no SIP", 505 if is_sip else 0, message)
    if method not in _METHODS and not _TOKEN.match(method):
        raise BadMessage("Request-Line: method is no token", 400, message)
    if uri[:1] == b"<" or not uri:
        raise BadMessage("Request-URI: no brackets allowed", 400, message)


def _check_length(message: Message, layout: Layout) -> None:
    text = message.lines[layout.content_length].partition(b":")[2].strip()
    size = len(message.body)
    if text == b"%d" % size and len(layout.lengths) == 1:
        return
    length = _number(text)
    if any(_number(message.lines[at].partition(b":")[2].strip()) != length for at in layout.lengths):
        raise BadMessage("Content-Length more than once", 400, message)
    if not 0 <= length <= size:
        raise BadMessage("Content-Length: octets of the body expected", 400, message)
    message.body = message.body[:length]


def _check_name_addr(line: bytes, message: Message) -> None:
    name, _, value = line.partition(b":")
    try:
        name_addr(value)
    except UriError as error:
        raise BadMessage(f"{name.decode('ascii', 'replace')}: {error}", 400, message) from None


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else -1


def split_values(value: bytes) -> list[bytes]:
    """The values of a comma-separated header; commas in quotes and brackets do not count."""
    if b"," not in value:
        value = value.strip()
        return [value] if value else []
    if b'"' not in value and b"<" not in value:
        return [part.strip() for part in value.split(b",") if part.strip()]
    return [part.strip() for part in _VALUE.findall(value) if part.strip()]
