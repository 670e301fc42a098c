"""Via (RFC 3261 20.42, RFC 3581): who sent a message to us and where its responses go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sipcore.errors import SipcoreError
from sipcore.uri import Address, ip_of

if TYPE_CHECKING:
    from sipcore.message import Message

_VIA = re.compile(
    rb"[ \t]*SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*([^\s/;,]+)[ \t]+"
    rb"((\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?:[ \t]*:[ \t]*([0-9]{1,5}))?)[ \t]*((?:;.*)?)\Z",
    re.IGNORECASE | re.DOTALL,
)
_SENT_BY = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?\Z", re.IGNORECASE)
_BRANCH = re.compile(rb";[ \t]*branch[ \t]*=[ \t]*([^;,\s]+)", re.IGNORECASE)
_RPORT = re.compile(rb";[ \t]*rport[ \t]*(?:=[ \t]*[0-9]*)?(?=[;\s]|\Z)", re.IGNORECASE)
_RECEIVED = re.compile(rb";[ \t]*received[ \t]*=[^;,\s]*", re.IGNORECASE)
_RECEIVED_IP = re.compile(rb";received=([^;,\s]+)")
_RPORT_NUMBER = re.compile(rb";rport=([0-9]{1,5})(?=[;\s]|\Z)")
_SF = re.compile(rb";sf=([0-9a-f]{4})([0-9a-f]{4})")

_CACHE = 8192
_known: dict[bytes, tuple[bytes, int]] = {}
"""sent-by -> (host, port): the same neighbours send again and again."""


class BadMessage(SipcoreError):  # noqa: N818 - the name of the thing, as in 400 Bad Request
    """A message that cannot be processed. `status` is what a request gets (400, 505), 0 = silence.

    `message` is what could be read of it, for the answer's headers; None when not even that.
    """

    def __init__(self, reason: str, status: int = 400, message: Message | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.message = message


class Via:
    """One Via value."""

    __slots__ = ("branch", "host", "params", "port", "rest", "sent_by", "transport", "value")

    transport: bytes
    sent_by: bytes
    """`host` or `host:port`, as written."""
    host: bytes
    port: int
    """0 when none is written."""
    params: bytes
    """With the leading semicolon."""
    branch: bytes
    """Empty when there is none."""

    def __init__(self, value: bytes, rest: bytes = b"") -> None:
        """`value` is one Via value, `rest` what followed it on its line after the comma.

        Raises `BadMessage`.
        """
        self.value = value
        self.rest = rest
        if value[:12] == b"SIP/2.0/UDP ":
            sent_by, semicolon, params = value[12:].partition(b";")
            where = _known.get(sent_by) or _read_sent_by(sent_by)
            at = params.find(b"branch=")
            branch = params[at + 7 :].partition(b";")[0]
            if where and (at == 0 or params[at - 1 : at] == b";") and b" " not in branch and b"\t" not in branch:
                self.transport = b"UDP"
                self.sent_by = sent_by
                self.host, self.port = where
                self.params = semicolon + params
                self.branch = branch
                return
        match = _VIA.match(value)
        if match is None or b";;" in value:
            raise BadMessage("Via: SIP/2.0/transport host[:port];branch=... expected")
        self.transport, self.sent_by, self.host, port, self.params = match.groups()
        self.port = int(port) if port else 0
        found = _BRANCH.search(self.params)
        self.branch = found[1] if found else b""

    @property
    def cookie(self) -> bool:
        """Whether the branch is one of RFC 3261: the cookie and something behind it (RFC 4475 3.2.1)."""
        branch = self.branch
        return len(branch) > 7 and (branch[:7] == b"z9hG4bK" or branch[:7].lower() == b"z9hg4bk")

    @property
    def owner(self) -> tuple[int, int] | None:
        """(owner index, relay index) when this Via was written by our cluster (docs/decisions/0002)."""
        match = _SF.search(self.params)
        return (int(match[1], 16), int(match[2], 16)) if match else None

    @property
    def rport(self) -> bool:
        """Whether responses are wanted at the port that the request came from (RFC 3581)."""
        params = self.params
        return b";rport" in params or (b"rport" in params.lower() and _RPORT.search(params) is not None)

    def filled(self, source: Address) -> bytes:
        """The value with `received` and `rport` as RFC 3261 18.2.1 and RFC 3581 4 say."""
        ip, port = source
        value, params = self.value, self.params
        if b"received" not in params:
            if value[-6:] == b";rport":
                return b"%b=%d;received=%b" % (value, port, ip.encode())
            if not self.rport:
                return value if ip_of(self.host) == ip else b"%b;received=%b" % (value, ip.encode())
        params = _RECEIVED.sub(b"", params)
        if self.rport:
            params = _RPORT.sub(b";rport=%d" % port, params, count=1)
        return b"SIP/2.0/%b %b%b;received=%b" % (self.transport, self.sent_by, params, ip.encode())

    def reply_to(self, source: Address) -> Address:
        """Where responses go: the source's address, and its port when `rport` asks for that (RFC 3581 4)."""
        return source if self.rport else (source[0], self.port or 5060)

    @property
    def next_hop(self) -> Address | None:
        """Where a response with this Via on top goes (RFC 3261 18.2.2); None when that is no address."""
        received = _RECEIVED_IP.search(self.params)
        rport = _RPORT_NUMBER.search(self.params)
        ip = ip_of(received[1] if received else self.host)
        port = int(rport[1]) if rport else self.port or 5060
        return (ip, port) if ip and 0 < port < 65536 else None


def _read_sent_by(text: bytes) -> tuple[bytes, int] | None:
    match = _SENT_BY.match(text)
    if match is None:
        return None
    if len(_known) >= _CACHE:
        _known.clear()
    host, port = match.groups()
    where = _known[text] = (host, int(port or 0))
    return where
