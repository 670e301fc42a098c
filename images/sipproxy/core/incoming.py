"""A request on its way through the core: what was read of it, and the header lines that it is forwarded with."""

from __future__ import annotations

from sipcore.keys import Token
from sipcore.message import FROM, MAX_FORWARDS, TO, VIA, Message
from sipcore.uri import Address
from sipcore.via import Via

from .context import Context


class Incoming:
    """One request datagram."""

    message: Message
    via: Via
    key = b""
    """Of its server transaction."""
    token: Token | None = None
    token_text = b""
    from_tag = b""
    to_tag = b""
    must_own = False
    """Handed over by a peer: a new call is ours even when we are full (docs/decisions/0002)."""
    hops = 0
    """How often proxies have handed it on."""
    max_forwards = b""
    """The Max-Forwards line to forward, when the request has one."""
    own_route = 0
    """Number of the header line that is our own Route and nothing else; 0 = none."""

    def __init__(self, data: bytes, source: Address, listener: int) -> None:
        self.data = data
        self.source = source
        self.listener = listener

    def header_lines(self) -> list[bytes]:
        """The header lines to forward: received and rport filled in, one hop less, our own Route gone."""
        message, via = self.message, self.via
        first = message.first
        lines = message.lines[1:]
        filled = via.filled(self.source)
        if filled is not via.value:
            at = first[VIA] - 1
            lines[at] = b"Via: %b, %b" % (filled, via.rest) if via.rest else b"Via: " + filled
        hops = first.get(MAX_FORWARDS)
        if hops is None:
            lines.append(b"Max-Forwards: 70")
        else:
            lines[hops - 1] = self.max_forwards
        if self.own_route:
            del lines[self.own_route - 1]
        return lines

    def context(self, lines: list[bytes], started: float) -> Context:
        """What is kept of the request while it is forwarded as `lines`; `started` is Unix time, seconds."""
        message, via = self.message, self.via
        first = message.first
        context = Context()
        context.method = method = message.method
        context.invite = method == b"INVITE"
        context.key = self.key
        context.source = self.source
        context.reply_to = via.reply_to(self.source)
        context.listener = self.listener
        context.uri = message.uri
        context.call_id = message.call_id
        context.cseq = message.cseq
        number = first[VIA]
        top = lines[number - 1 if not self.own_route or number < self.own_route else number - 2]
        if message.more:
            context.vias = [top] + [message.lines[i] for kind, i in message.more if kind == VIA]
        else:
            context.vias = [top]
        context.from_line = message.lines[first[FROM]]
        context.to_line = message.lines[first[TO]]
        context.lines = lines
        context.body = message.body
        context.via_sent_by = via.sent_by
        context.via_branch = via.branch if via.cookie else via.value
        context.message = message
        context.started = started
        return context
