"""What becomes of a request: whose it is, where it goes, or why it is refused (RFC 3261 16.3 to 16.6, DESIGN 2.5)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sipcore.keys import Token, parse_token
from sipcore.message import (
    FROM,
    MAX_FORWARDS,
    PROXY_REQUIRE,
    ROUTE,
    TO,
    VIA,
    BadMessage,
    Message,
    Via,
    parse,
    split_values,
)
from sipcore.transaction import Event, State
from sipcore.uri import Address, Uri, UriError, name_addr, parse_uri

from . import build
from .context import Context, Dialog
from .dialogs import Dialogs
from .engine import Engine
from .forwarding import RECORD_ROUTED, Forwarding
from .node import MAX_TRANSACTIONS, Node
from .routing import Refusal, Target

if TYPE_CHECKING:
    from sipcore.record import Party

    from .media import Media
    from .ownership import Ownership

_COMPLETED, _CONFIRMED = int(State.COMPLETED), int(State.CONFIRMED)
_ACK = int(Event.ACK)


class Incoming:
    """A request on its way through the core."""

    __slots__ = (
        "data",
        "from_tag",
        "hops",
        "key",
        "listener",
        "message",
        "must_own",
        "source",
        "to_tag",
        "token",
        "token_text",
        "via",
    )

    def __init__(self, data: bytes, source: Address, listener: int) -> None:
        self.data = data
        self.source = source
        self.listener = listener
        self.message: Message
        self.via: Via
        self.key = b""
        """Of its server transaction."""
        self.token: Token | None = None
        self.token_text = b""
        self.from_tag = b""
        self.to_tag = b""
        self.must_own = False
        """Handed over by a peer: a new call is ours even when we are full (docs/decisions/0002)."""
        self.hops = 0
        """How often proxies have handed it on."""


class Requests:
    """The table of what to do stands in `receive`, `_begin` and `serve`."""

    def __init__(self, node: Node, engine: Engine, forwarding: Forwarding, dialogs: Dialogs) -> None:
        self._node = node
        self._engine = engine
        self._forwarding = forwarding
        self._dialogs = dialogs
        self.ownership: Ownership
        self.media: Media
        engine.freed = self._freed

    def receive(self, incoming: Incoming) -> None:
        """A datagram that is no response."""
        node = self._node
        try:
            message = incoming.message = parse(incoming.data)
            via = incoming.via = message.via()
        except BadMessage as error:
            self._bad(error, incoming)
            return
        method = message.method
        invite = method == b"INVITE" or method == b"ACK"
        if via.cookie:
            key = b"%b %b %b" % (via.sent_by, via.branch, b"INVITE" if invite else method)
        else:
            key = self._key_of_2543(incoming, b"INVITE" if invite else method)
        context = node.contexts.get(key)
        if context is not None:
            if method == b"ACK":
                if context.state == _COMPLETED or context.state == _CONFIRMED:
                    self._engine.request_again(context, _ACK)
                    return
            else:
                node.count["retransmissions_received"] += 1
                self._engine.request_again(context)
                return
        incoming.key = key
        try:
            self._begin(incoming, message)
        except BadMessage as error:
            error.message = message
            self._bad(error, incoming)
        except UriError as error:
            self.refuse(incoming, 416 if error.scheme else 400)

    def _key_of_2543(self, incoming: Incoming, method: bytes) -> bytes:
        """RFC 3261 17.2.3 for callers without the cookie: the whole top Via, Call-ID, CSeq and From-tag."""
        message = incoming.message
        return b" ".join((incoming.via.value, message.call_id, message.cseq, message.tag(FROM), method))

    def _begin(self, incoming: Incoming, message: Message) -> None:
        """A request without a transaction. Raises `BadMessage` and `UriError`."""
        node = self._node
        method = message.method
        if method == b"CANCEL":
            self._cancel(incoming)
            return
        first = message.first
        incoming.to_tag = message.tag(TO)
        if ROUTE in first:
            self._pop_own_route(incoming)
        if PROXY_REQUIRE in first:
            self.refuse(incoming, 420, extra=[b"Unsupported: " + message.value(PROXY_REQUIRE)])
            return
        if message.max_forwards == 0 and not self._is_options_to_us(message):
            self.refuse(incoming, 483)
            return
        if incoming.token is not None or incoming.to_tag:
            incoming.from_tag = message.tag(FROM)
            self._in_dialog(incoming)
        elif method == b"ACK":
            node.count["ignored"] += 1
        elif self._is_options_to_us(message):
            self.refuse(incoming, 200, extra=[build.ALLOW, b"Accept: application/sdp"])
        elif ROUTE in first:
            self.refuse(incoming, 403)  # a path that we did not set: no open relay
        else:
            self._initial(incoming)

    def _is_options_to_us(self, message: Message) -> bool:
        if message.method != b"OPTIONS":
            return False
        uri = parse_uri(message.uri)
        return not uri.user and self._node.router.is_own(uri)

    # -- requests outside of a dialog

    def _initial(self, incoming: Incoming) -> None:
        node = self._node
        message = incoming.message
        found = node.router.targets(message.uri)
        if isinstance(found, Refusal):
            self.refuse(incoming, found.status)
            return
        if len(message.all_lines(VIA)) > 1 and self._loops(incoming, found):
            self.refuse(incoming, 482)
            return
        if message.method == b"INVITE" and not incoming.must_own and not self.ownership.takes(incoming):
            return
        if len(node.contexts) >= MAX_TRANSACTIONS:
            node.count["ignored"] += 1
            return
        context = self.context(incoming)
        context.targets = list(found)
        self._engine.open(context)
        if not context.invite:
            context.token = message.method in RECORD_ROUTED
            self._forwarding.launch(context)
            return
        node.count["invites"] += 1
        context.token = True
        self.media.choose(context)
        self.ownership.claim(context, incoming.data)
        if not self.media.request(context):
            self._forwarding.launch(context)

    def _loops(self, incoming: Incoming, targets: list[Target]) -> bool:
        """Whether it was here before and went to the same target: then our branch can be made again (RFC 5393 4.2)."""
        message, key = incoming.message, self._node.key
        values = message.values(VIA)
        for ours, above in pairwise(values):
            if b";sf=" not in ours:
                continue
            try:
                mine, caller = Via(ours), Via(above)
            except BadMessage:
                continue
            for target in targets:
                if mine.branch == key.branch(caller.sent_by, caller.branch, message.call_id, message.cseq, target.text):
                    return True
        return False

    def _cancel(self, incoming: Incoming) -> None:
        """RFC 3261 16.10: answered 200 here, then the branches are cancelled."""
        context = self._node.contexts.get(incoming.key[: -len(b"CANCEL")] + b"INVITE")
        if context is not None:
            self.refuse(incoming, 200)
            self._forwarding.cancel(context)
        elif not self.ownership.foreign_cancel(incoming):
            self.refuse(incoming, 481)

    # -- requests in a dialog

    def _pop_own_route(self, incoming: Incoming) -> None:
        """RFC 3261 16.4: take our own Route values off, remember the token of the first."""
        message, router = incoming.message, self._node.router
        if incoming.to_tag and b"@" in message.uri:
            self._undo_strict_routing(message)
        number = message.first[ROUTE]
        while number is not None:
            line = message.lines[number]
            values = split_values(line.partition(b":")[2])
            while values:
                uri = parse_uri(name_addr(values[0])[0])
                if not router.is_our_route(uri):
                    break
                if incoming.token is None:
                    incoming.token, incoming.token_text = parse_token(uri.user), uri.user
                values.pop(0)
            if values:
                message.lines[number] = b"Route: " + b", ".join(values)
                message.first[ROUTE] = number
                return
            self._drop_line(message, number)
            following = [i for kind, i in message.more if kind == ROUTE]
            if not following:
                message.first.pop(ROUTE, None)
                return
            number = following[0]
            message.more.remove((ROUTE, number))
            message.first[ROUTE] = number

    def _drop_line(self, message: Message, number: int) -> None:
        """Take a header line out; the positions behind it move up."""
        del message.lines[number]
        first = message.first
        for kind, at in first.items():
            if at > number:
                first[kind] = at - 1
        if message.more:
            message.more = [(kind, at - 1 if at > number else at) for kind, at in message.more]

    def _undo_strict_routing(self, message: Message) -> None:
        """RFC 3261 16.4: a strict router puts our Route into the Request-URI and the target last in Route."""
        uri = parse_uri(message.uri)
        if parse_token(uri.user) is None or not self._node.router.is_our_route(uri):
            return
        routes = message.values(ROUTE)
        message.uri, last = name_addr(routes[-1])[0], routes[:-1]
        at = message.first[ROUTE]
        for number in sorted((i for kind, i in message.more if kind == ROUTE), reverse=True):
            message.more.remove((ROUTE, number))
            self._drop_line(message, number)
        message.lines[at] = b"Route: " + b", ".join((b"<%b;lr>" % _bare(uri), *last))

    def _in_dialog(self, incoming: Incoming) -> None:
        node = self._node
        token, message = incoming.token, incoming.message
        if token is not None:
            dialog = node.dialogs.get(token.dialog_key)
            if dialog is not None and dialog.record.call_id != message.call_id:
                dialog = None
        else:
            dialog = self._dialogs.find(message.call_id, incoming.from_tag, incoming.to_tag)
        if dialog is not None and dialog.record.caller.tag in (incoming.from_tag, incoming.to_tag):
            self.serve(incoming, dialog)
        elif not self.ownership.foreign_request(incoming):
            self.serve_by_token(incoming)

    def serve_by_token(self, incoming: Incoming) -> None:
        """Nothing is known of the dialog but what the request carries (DESIGN 2.5, 2.6)."""
        node = self._node
        message, token = incoming.message, incoming.token
        if token is None:
            self.refuse(incoming, 481)
            return
        tags = (incoming.from_tag, incoming.to_tag)
        if not any(node.key.check_token(incoming.token_text, message.call_id, tag) for tag in tags):
            node.count["bad_mac"] += 1
            self.refuse(incoming, 403)
            return
        node.count["served_by_token"] += 1
        self.serve(incoming, None)

    def resume(self, incoming: Incoming, dialog: Dialog | None) -> None:
        """A request that waited for the store goes on, with its dialog or with its token alone."""
        context = self._node.contexts.get(incoming.key)
        if context is not None and incoming.message.method != b"ACK":
            self._engine.request_again(context)
            return
        try:
            if dialog is not None:
                self.serve(incoming, dialog)
            elif incoming.token is None and incoming.message.method == b"ACK":
                self.ownership.foreign_cancel(incoming)
            else:
                self.serve_by_token(incoming)
        except BadMessage as error:
            error.message = incoming.message
            self._bad(error, incoming)
        except UriError as error:
            self.refuse(incoming, 416 if error.scheme else 400)

    def serve(self, incoming: Incoming, dialog: Dialog | None) -> None:
        """Forward a request of a dialog: an ACK without a transaction, all else with one.

        Raises `BadMessage` and `UriError`.
        """
        node = self._node
        message = incoming.message
        peer: Party | None = None
        by_caller = True
        if dialog is not None:
            by_caller = incoming.from_tag == dialog.record.caller.tag
            peer = self._dialogs.callee(dialog, incoming.to_tag) if by_caller else dialog.record.caller
        target = self._next_hop(message, peer)
        if target is None:
            self.refuse(incoming, 404)
            return
        if len(node.contexts) >= MAX_TRANSACTIONS:
            node.count["ignored"] += 1
            return
        context = self.context(incoming)
        context.targets = [target]
        context.dialog = dialog
        if dialog is not None:
            context.relay = dialog.record.relay
        elif incoming.token is not None:
            context.relay = incoming.token.relay
        method = message.method
        if method == b"ACK":
            if not self.media.request(context):
                self.forward_ack(context)
            return
        self._engine.open(context)
        if method == b"BYE" and dialog is not None:
            if by_caller and len(dialog.record.callees) > 1:
                dialog.record.callees = [c for c in dialog.record.callees if c is not peer]
                self.ownership.put(dialog)
            else:
                self._dialogs.end(dialog, "caller" if by_caller else "callee")
        elif method == b"BYE" and incoming.token is not None:
            side = "caller" if self._by_caller(incoming) else "callee"
            self.ownership.ended_unseen(incoming.token.dialog_key, side)
        if not self.media.request(context):
            self._forwarding.launch(context)

    def _by_caller(self, incoming: Incoming) -> bool:
        """Which tag the token was made with."""
        return self._node.key.check_token(incoming.token_text, incoming.message.call_id, incoming.from_tag)

    def forward_ack(self, context: Context) -> None:
        """The ACK of a 2xx has no transaction and no response (RFC 3261 17, 16.6)."""
        node = self._node
        target = context.targets[0]
        listener = node.listener_to(target.address, context.listener)
        branch_id = node.key.branch(context.via_sent_by, context.via_branch, context.call_id, context.cseq, target.text)
        via = self._forwarding.via_line(branch_id, listener, context.relay)
        lines = context.lines or ()
        data = b"\r\n".join((b"ACK %b SIP/2.0" % target.uri, via, *lines, b"", context.body))
        node.send(data, target.address, listener)

    def _next_hop(self, message: Message, peer: Party | None) -> Target | None:
        """RFC 3261 16.6 steps 6 and 7; a request that names us (SIPp's scenarios) goes to the peer's target."""
        uri = message.uri
        if ROUTE in message.first:
            return self._routed(message)
        parsed = parse_uri(uri)
        if peer is not None and peer.target and self._node.router.is_own(parsed):
            uri = peer.target
            parsed = parse_uri(uri)
            if peer.routes:
                message.first[ROUTE] = len(message.lines)
                message.lines.append(b"Route: " + b", ".join(peer.routes))
                message.uri = uri
                return self._routed(message)
        address = parsed.address
        if address is None:
            if peer is None or not peer.source[0]:
                return None
            address = peer.source
        return Target(uri, address)

    def _routed(self, message: Message) -> Target | None:
        value = split_values(message.value(ROUTE))[0]
        route = name_addr(value)[0]
        parsed = parse_uri(route)
        address = parsed.address
        if address is None:
            return None
        if b";lr" in parsed.params.lower():
            return Target(message.uri, address)
        # RFC 3261 16.6 step 6: a strict router gets itself in the Request-URI and the target last in Route.
        rest = [*split_values(message.value(ROUTE))[1:], b"<%b>" % message.uri]
        message.lines[message.first[ROUTE]] = b"Route: " + b", ".join(rest)
        return Target(route, address)

    # -- contexts and answers

    def context(self, incoming: Incoming) -> Context:
        """What is kept of a request. Raises `BadMessage`."""
        message, via, source = incoming.message, incoming.via, incoming.source
        context = Context()
        context.method = method = message.method
        context.invite = method == b"INVITE"
        context.key = incoming.key
        context.state = 0
        context.source = source
        context.reply_to = via.reply_to(source)
        context.listener = incoming.listener
        context.uri = message.uri
        context.call_id = message.call_id
        context.cseq = message.cseq
        first = message.first
        lines = message.lines[1:]
        at = first[VIA] - 1
        filled = via.filled(source)
        if filled is not via.value:
            lines[at] = b"Via: %b, %b" % (filled, via.rest) if via.rest else b"Via: " + filled
        context.vias = [lines[at]]
        if message.more:
            context.vias += [lines[i - 1] for kind, i in message.more if kind == VIA]
        context.from_line = lines[first[FROM] - 1]
        context.to_line = lines[first[TO] - 1]
        hops = first.get(MAX_FORWARDS)
        if hops is None:
            lines.append(b"Max-Forwards: 70")
        else:
            lines[hops - 1] = b"Max-Forwards: %d" % (message.max_forwards - 1)
        context.lines = lines
        context.body = message.body
        context.via_sent_by = via.sent_by
        context.via_branch = via.branch if via.cookie else via.value
        context.message = message
        context.started = self._node.wall
        return context

    def _freed(self, context: Context) -> None:
        if context.method == b"BYE" and context.dialog is not None:
            self._dialogs.forget(context.dialog)

    def refuse(self, incoming: Incoming, status: int, reason: bytes = b"", extra: list[bytes] | None = None) -> None:
        """Answer without keeping anything; an ACK gets no answer."""
        node = self._node
        message = incoming.message
        if message.method == b"ACK":
            node.count["ignored"] += 1
            return
        if status >= 300:
            node.count["refused"] += 1
        via = incoming.via
        vias = build.filled_vias(message, via.filled(incoming.source))
        tag = node.key.early_id(via.sent_by, via.branch, message.call_id, message.cseq)[:12]
        data = build.stateless(message, vias, status, tag, reason, extra or [])
        node.send(data, via.reply_to(incoming.source), incoming.listener)

    def _bad(self, error: BadMessage, incoming: Incoming) -> None:
        """400 or 505 with the reason when the sender can be told, else silence."""
        node = self._node
        node.count["bad_messages"] += 1
        message = error.message
        if not error.status or message is None or VIA not in message.first or not message.method:
            return
        incoming.message = message
        try:
            incoming.via = message.via()
        except BadMessage:
            return
        reason = build.REASONS[error.status]
        text = str(error).encode("ascii", "replace")
        self.refuse(incoming, error.status, b"%b (%b)" % (reason, text) if error.status == 400 else reason)


def _bare(uri: Uri) -> bytes:
    where = uri.host + (b":%d" % uri.port if uri.port else b"")
    return b"sip:%b@%b" % (uri.user, where)
