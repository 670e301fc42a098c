"""The bytes that a proxy writes itself: answers, ACK and CANCEL, and the head of what it forwards."""

from __future__ import annotations

from sipcore.message import CALL_ID, CSEQ, FROM, TIMESTAMP, TO, VIA, Message
from sipcore.via import BadMessage

from .context import Branch, Context

REASONS = {
    100: b"Trying",
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    416: b"Unsupported URI Scheme",
    420: b"Bad Extension",
    481: b"Call/Transaction Does Not Exist",
    482: b"Loop Detected",
    483: b"Too Many Hops",
    487: b"Request Terminated",
    488: b"Not Acceptable Here",
    500: b"Server Internal Error",
    503: b"Service Unavailable",
    505: b"Version Not Supported",
}

ALLOW = b"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO, UPDATE, PRACK, PUBLISH"


def trying(context: Context) -> bytes:
    """The 100 of an INVITE (RFC 3261 8.2.6.1: Timestamp is copied, there is no To-tag)."""
    head = [b"SIP/2.0 100 Trying", *context.vias, context.from_line, context.to_line, b"Call-ID: " + context.call_id]
    head += (b"CSeq: %b %b" % (context.cseq, context.method), b"Content-Length: 0", b"", b"")
    if context.message is not None and TIMESTAMP in context.message.first:
        head.insert(1, context.message.lines[context.message.first[TIMESTAMP]])
    return b"\r\n".join(head)


def final(context: Context, status: int, tag: bytes, reason: bytes = b"") -> bytes:
    """A final response of our own to a request of which there is a context."""
    to = context.to_line
    if b";tag=" not in to:
        to = b"%b;tag=%b" % (to, tag)
    return b"\r\n".join(
        (
            b"SIP/2.0 %d %b" % (status, reason or REASONS[status]),
            *context.vias,
            context.from_line,
            to,
            b"Call-ID: " + context.call_id,
            b"CSeq: %b %b" % (context.cseq, context.method),
            b"Content-Length: 0",
            b"",
            b"",
        )
    )


def stateless(message: Message, vias: list[bytes], status: int, tag: bytes, reason: bytes, extra: list[bytes]) -> bytes:
    """An answer to a request of which nothing is kept; headers that it does not have are left out (RFC 3261 8.2.6)."""
    to = message.lines[message.first[TO]] if TO in message.first else b""
    if to and not message.tag(TO):
        to = b"%b;tag=%b" % (to, tag)
    copied = [message.lines[message.first[kind]] for kind in (FROM, CALL_ID, CSEQ) if kind in message.first]
    head = [b"SIP/2.0 %d %b" % (status, reason or REASONS[status]), *vias, *copied]
    if to:
        head.append(to)
    return b"\r\n".join((*head, *extra, b"Content-Length: 0", b"", b""))


def ack(branch: Branch, response: Message) -> bytes:
    """The ACK of a non-2xx (RFC 3261 17.1.1.3)."""
    return _same_hop(branch, b"ACK", response.lines[response.first[TO]])


def cancel(branch: Branch) -> bytes:
    """The CANCEL of an INVITE that we forwarded (RFC 3261 9.1)."""
    return _same_hop(branch, b"CANCEL", branch.context.to_line)


def _same_hop(branch: Branch, method: bytes, to_line: bytes) -> bytes:
    context = branch.context
    lines = [b"%b %b SIP/2.0" % (method, branch.target.uri), branch.via, b"Max-Forwards: 70"]
    if context.lines:
        lines += [line for line in context.lines if line[:6].lower() == b"route:"]
    lines += (
        context.from_line,
        to_line,
        b"Call-ID: " + context.call_id,
        b"CSeq: %b %b" % (context.cseq, method),
        b"Content-Length: 0",
        b"",
        b"",
    )
    return b"\r\n".join(lines)


def filled_vias(message: Message, filled: bytes) -> list[bytes]:
    """All Via lines, the top value replaced by `filled`."""
    lines = message.all_lines(VIA)
    first = b"Via: " + filled
    try:
        rest = message.via().rest if b"," in lines[0] else b""
    except BadMessage:
        rest = b""
    lines[0] = b"%b, %b" % (first, rest) if rest else first
    return lines
