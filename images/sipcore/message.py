"""SIP messages as a proxy sees them: bytes in lines, a few of which are read and a few spliced (RFC 3261 7, 16).

The header block is split once, each name is looked up in one table (compact forms and common spellings are keys of
it), and nothing else is read until it is asked for. What a proxy does not touch leaves as it came, byte for byte.
"""

from __future__ import annotations

import re

from sipcore.uri import UriError, name_addr
from sipcore.via import BadMessage, Via

MAX_LINES = 256
MAX_CSEQ = 2**31 - 1

(
    VIA,
    ROUTE,
    RECORD_ROUTE,
    MAX_FORWARDS,
    FROM,
    TO,
    CALL_ID,
    CSEQ,
    CONTACT,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    PROXY_REQUIRE,
    ALLOW,
    SUPPORTED,
    SESSION_EXPIRES,
    RETRY_AFTER,
    TIMESTAMP,
) = range(1, 18)

_NAMES: dict[int, tuple[str, ...]] = {
    VIA: ("Via", "v"),
    ROUTE: ("Route",),
    RECORD_ROUTE: ("Record-Route",),
    MAX_FORWARDS: ("Max-Forwards",),
    FROM: ("From", "f"),
    TO: ("To", "t"),
    CALL_ID: ("Call-ID", "i"),
    CSEQ: ("CSeq",),
    CONTACT: ("Contact", "m"),
    CONTENT_LENGTH: ("Content-Length", "l"),
    CONTENT_TYPE: ("Content-Type", "c"),
    PROXY_REQUIRE: ("Proxy-Require",),
    ALLOW: ("Allow",),
    SUPPORTED: ("Supported", "k"),
    SESSION_EXPIRES: ("Session-Expires", "x"),
    RETRY_AFTER: ("Retry-After",),
    TIMESTAMP: ("Timestamp",),
}
_PASSED_ON = (
    "Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow-Events Authentication-Info "
    "Authorization Call-Info Content-Disposition Content-Encoding Content-Language Date Diversion Error-Info "
    "Event Expires Geolocation History-Info In-Reply-To Identity Join Min-Expires Min-SE MIME-Version "
    "Organization P-Access-Network-Info P-Asserted-Identity P-Preferred-Identity Path Priority Privacy "
    "Proxy-Authenticate Proxy-Authorization RAck Reason Refer-To Referred-By Remote-Party-ID Replaces Reply-To "
    "Request-Disposition Require RSeq Server Service-Route SIP-ETag SIP-If-Match Subject Subscription-State "
    "Unsupported User-Agent Warning WWW-Authenticate "
)
_SINGLE = frozenset({FROM, TO, CALL_ID, CSEQ, MAX_FORWARDS, CONTENT_TYPE})
_REQUIRED = (VIA, FROM, TO, CALL_ID, CSEQ)

_LOWER = {name.lower().encode(): kind for kind, names in _NAMES.items() for name in names}
_KIND: dict[bytes, int] = {
    spelling.encode(): kind
    for kind, names in (*_NAMES.items(), (0, tuple(_PASSED_ON.split())))
    for name in names
    for spelling in (name, name.lower(), name.upper(), name.title())
}

_TOKEN = re.compile(rb"[A-Za-z0-9.!%*_+`'~-]+\Z")
_FOLD = re.compile(rb"\r\n[ \t]+")
_TAG = re.compile(rb";[ \t]*tag[ \t]*=[ \t]*([^;,\s]+)", re.IGNORECASE)
_DOWN = tuple(range(MAX_LINES - 1, -1, -1))
_METHODS = frozenset(
    b"INVITE ACK BYE CANCEL OPTIONS REGISTER PRACK SUBSCRIBE NOTIFY PUBLISH INFO REFER MESSAGE UPDATE".split()
)


class Message:
    """A request or a response. Whoever holds it may splice `lines`; the positions in `first` then no longer hold."""

    __slots__ = ("body", "call_id", "cseq", "cseq_method", "first", "lines", "method", "more", "status", "uri")

    lines: list[bytes]
    """Start line and header lines, unfolded, without CRLF."""
    body: bytes
    method: bytes
    """Empty in a response."""
    uri: bytes
    """Request-URI, empty in a response."""
    status: int
    """0 in a request."""
    first: dict[int, int]
    """Kind of header -> number of its first line."""
    more: list[tuple[int, int]]
    """(kind, number) of the further lines of a kind."""
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
        values = split_values(self.value(kind))
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
        if at is None:
            return 70
        value = self.lines[at].partition(b":")[2].strip()
        if not value.isdigit() or len(value) > 3 or int(value) > 255:
            raise BadMessage("Max-Forwards: 0 to 255 expected", message=self)
        return int(value)

    def set_body(self, body: bytes) -> None:
        """Another body, with its Content-Length."""
        self.body = body
        line = b"Content-Length: %d" % len(body)
        at = self.first.get(CONTENT_LENGTH)
        if at is None:
            self.first[CONTENT_LENGTH] = len(self.lines)
            self.lines.append(line)
        else:
            self.lines[at] = line

    def drop_via(self) -> None:
        """Take our own Via off a response (RFC 3261 16.7 step 3). The positions in `first` no longer hold."""
        at = self.first[VIA]
        line = self.lines[at]
        if b"," in line:
            rest = split_values(line.partition(b":")[2])[1:]
            if rest:
                self.lines[at] = b"Via: " + b", ".join(rest)
                return
        del self.lines[at]

    def __bytes__(self) -> bytes:
        return b"\r\n".join((*self.lines, b"", self.body))


def parse(data: bytes) -> Message:
    """Read a datagram.

    Raises `BadMessage`. Octets behind Content-Length are dropped, too few are an error (RFC 3261 18.3).
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise BadMessage("no end of the header block", 0)
    head = data[:end]
    message = Message()
    lines = message.lines = head.split(b"\r\n")
    message.body = data[end + 4 :]
    message.call_id = message.cseq = message.cseq_method = message.method = message.uri = b""
    message.status = 0
    count = len(lines)
    if count > MAX_LINES:
        raise BadMessage(f"more than {MAX_LINES} header lines", 0)
    # One comprehension and one dict() because a loop over the lines in Python costs twice as much.
    get = _KIND.get
    kinds = [get(line.partition(b":")[0]) for line in lines]
    kinds[0] = 0
    fault = None
    if None in kinds:
        if any(line[:1] in (b" ", b"\t") for line in lines[1:]):
            return parse(_FOLD.sub(b" ", head) + data[end:])
        fault = _unusual(kinds, lines)
    first = message.first = dict(zip(kinds[::-1], _DOWN[-count:], strict=True))  # type: ignore[arg-type]
    if len(first) + kinds.count(0) - 1 < count:
        message.more = [(kind, i) for i, kind in enumerate(kinds) if kind and first[kind] != i]
    else:
        message.more = []
    start = lines[0]
    if start[:8] == b"SIP/2.0 ":
        _status_line(message, start)
    else:
        _request_line(message, start)
    _check(message, fault)
    return message


def _unusual(kinds: list[int | None], lines: list[bytes]) -> str | None:
    """Fill in the kind of headers whose spelling is not in the table; what is wrong with a line that is no header."""
    fault = None
    for i, kind in enumerate(kinds):
        if kind is None:
            name, colon, _ = lines[i].partition(b":")
            name = name.rstrip(b" \t").lower()
            if not colon or not _TOKEN.match(name):
                fault = "header line without a name"
            kinds[i] = _LOWER.get(name, 0)
    return fault


def _status_line(message: Message, start: bytes) -> None:
    code = start[8:11]
    if not code.isdigit() or start[11:12] not in (b" ", b"") or not 100 <= int(code) <= 699:
        raise BadMessage("Status-Line: code of 100 to 699 expected", 0)
    message.status = int(code)


def _request_line(message: Message, start: bytes) -> None:
    parts = start.split(b" ")
    if len(parts) != 3:
        message.method = parts[0]
        raise BadMessage("Request-Line: method, Request-URI and version with one blank between expected", 400, message)
    method, uri, version = parts
    message.method, message.uri = method, uri
    if version.upper() != b"SIP/2.0":
        is_sip = version[:4].upper() == b"SIP/"
        raise BadMessage("Version Not Supported" if is_sip else "Request-Line: no SIP", 505 if is_sip else 0, message)
    if method not in _METHODS and not _TOKEN.match(method):
        raise BadMessage("Request-Line: method is no token", 400, message)
    if uri[:1] == b"<" or not uri:
        raise BadMessage("Request-URI: no brackets allowed", 400, message)


def _check(message: Message, fault: str | None) -> None:
    """What every message needs (RFC 3261 8.1.1, 16.3 step 1)."""
    first, lines = message.first, message.lines
    try:
        message.call_id = lines[first[CALL_ID]].partition(b":")[2].strip()
        cseq = lines[first[CSEQ]]
        from_, to = lines[first[FROM]], lines[first[TO]]
        first[VIA]
    except KeyError:
        missing = next(_NAMES[k][0] for k in _REQUIRED if k not in first)
        raise BadMessage(f"{missing} is missing", 400, message) from None
    words = cseq.partition(b":")[2].split()
    if len(words) != 2 or not words[0].isdigit() or int(words[0][:11]) > MAX_CSEQ:
        raise BadMessage("CSeq: number below 2^31 and method expected", 400, message)
    message.cseq, message.cseq_method = words
    if fault is not None or not message.call_id:
        raise BadMessage(fault or "empty Call-ID", 400, message)
    if message.method and message.method != message.cseq_method:
        raise BadMessage("CSeq: method differs from the Request-Line", 400, message)
    if message.more:
        for kind, _ in message.more:
            if kind in _SINGLE or (kind == CONTENT_LENGTH and len(set(map(_number, message.all_lines(kind)))) > 1):
                raise BadMessage(f"{_NAMES[kind][0]} more than once", 400, message)
    for line in (from_, to):
        if b"<" not in line or (b'"' in line and (b"\\" in line or line.count(b'"') != 2)):
            _check_name_addr(line, message)
    at = first.get(CONTENT_LENGTH)
    if at is not None:
        length = _number(lines[at])
        size = len(message.body)
        if length != size:
            if not 0 <= length <= size:
                raise BadMessage("Content-Length: octets of the body expected", 400, message)
            message.body = message.body[:length]


def _check_name_addr(line: bytes, message: Message) -> None:
    name, _, value = line.partition(b":")
    try:
        name_addr(value)
    except UriError as error:
        raise BadMessage(f"{name.decode('ascii', 'replace')}: {error}", 400, message) from None


def _number(line: bytes) -> int:
    text = line.partition(b":")[2].strip()
    return int(text) if text.isdigit() and len(text) < 10 else -1


def split_values(value: bytes) -> list[bytes]:
    """The values of a comma-separated header; commas in quotes and brackets do not count."""
    if b"," not in value:
        value = value.strip()
        return [value] if value else []
    if b'"' not in value and b"<" not in value:
        return [part.strip() for part in value.split(b",") if part.strip()]
    return [part.strip() for part in _VALUE.findall(value) if part.strip()]


_VALUE = re.compile(rb'((?:"(?:[^"\\]|\\.)*"|<[^<>]*>|[^,"<]|["<])+)')
