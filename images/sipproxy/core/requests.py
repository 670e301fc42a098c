"""What becomes of a request: whose it is, where it goes, or why it is refused (RFC 3261 16.3 to 16.6)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sipcore.keys import Token
from sipcore.message import FROM, PROXY_REQUIRE, ROUTE, TO, VIA, Message, parse
from sipcore.transaction import Event, State
from sipcore.uri import UriError, parse_uri
from sipcore.via import BadMessage, Via

from . import build
from .context import Context, Dialog
from .dialogs import Dialogs
from .engine import Engine
from .forwarding import RECORD_ROUTED, Forwarding
from .incoming import Incoming
from .indialog import InDialog
from .node import MAX_TRANSACTIONS, Node
from .routing import Refusal, Target

if TYPE_CHECKING:
    from .media import Media
    from .outlook import Outlook
    from .ownership import Ownership

_COMPLETED, _CONFIRMED = int(State.COMPLETED), int(State.CONFIRMED)
_ACK = int(Event.ACK)


class Requests:
    """The order of decisions stands in `receive` and `_begin`."""

    def __init__(self, node: Node, engine: Engine, forwarding: Forwarding, dialogs: Dialogs, inside: InDialog) -> None:
        self._node = node
        self._engine = engine
        self._forwarding = forwarding
        self._dialogs = dialogs
        self._inside = inside
        self.ownership: Ownership
        self.media: Media
        self.outlook: Outlook
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
        matched = b"INVITE" if method == b"ACK" else method
        if via.cookie:
            key = b"%b %b %b" % (via.sent_by, via.branch, matched)
        else:
            # RFC 3261 17.2.3 for callers without the cookie: the whole top Via, Call-ID, CSeq and From-tag.
            key = b" ".join((via.value, message.call_id, message.cseq, message.tag(FROM), matched))
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

    def resume(self, incoming: Incoming, dialog: Dialog | None) -> None:
        """A request that waited for the store goes on, with its dialog or with its token alone."""
        context = self._node.contexts.get(incoming.key)
        if context is not None and incoming.message.method != b"ACK":
            self._engine.request_again(context)
            return
        try:
            if dialog is not None:
                self._inside.serve(incoming, dialog)
            elif incoming.token is not None or incoming.message.method != b"ACK":
                self._inside.serve_by_token(incoming)
            else:
                self.ownership.foreign_cancel(incoming)
        except BadMessage as error:
            error.message = incoming.message
            self._bad(error, incoming)
        except UriError as error:
            self.refuse(incoming, 416 if error.scheme else 400)

    def _begin(self, incoming: Incoming, message: Message) -> None:
        """A request without a transaction. Raises `BadMessage` and `UriError`."""
        method, first = message.method, message.first
        if method == b"CANCEL":
            self._cancel(incoming)
            return
        incoming.to_tag = message.tag(TO)
        if ROUTE in first:
            self._inside.pop_own_route(incoming)
            first = message.first
        if PROXY_REQUIRE in first:
            self.refuse(incoming, 420, extra=[b"Unsupported: " + message.value(PROXY_REQUIRE)])
            return
        options_to_us = method == b"OPTIONS" and self._is_to_us(message)
        if message.layout.max_forwards:
            left, incoming.max_forwards = message.one_hop_less()
            if left == 0 and not options_to_us:
                self.refuse(incoming, 483)
                return
        if incoming.to_tag or incoming.token_text:
            incoming.from_tag = message.tag(FROM)
            self._inside.receive(incoming)
        elif method == b"ACK":
            self._node.count["ignored"] += 1
        elif options_to_us:
            self.refuse(incoming, 200, extra=[build.ALLOW, b"Accept: application/sdp"])
        elif ROUTE in first and not incoming.own_route:
            self.refuse(incoming, 403)  # a path that we did not set: no open relay
        else:
            self._initial(incoming)

    def _is_to_us(self, message: Message) -> bool:
        uri = parse_uri(message.uri)
        return not uri.user and self._node.router.is_own(uri)

    def _initial(self, incoming: Incoming) -> None:
        """A request outside of a dialog: static routes."""
        node = self._node
        message = incoming.message
        found = node.router.targets(message.uri)
        if isinstance(found, Refusal):
            self.refuse(incoming, found.status)
            return
        via = incoming.via
        if (message.more or via.rest) and self._loops(incoming, found):
            self.refuse(incoming, 482)
            return
        invite = message.method == b"INVITE"
        if invite:
            self.outlook.asked(via, incoming.source)
            if not incoming.must_own and not self.ownership.takes(incoming):
                return
        if len(node.contexts) >= MAX_TRANSACTIONS:
            node.count["ignored"] += 1
            return
        context = incoming.context(incoming.header_lines(), node.wall)
        context.targets.extend(found)
        self._engine.open(context)
        if invite:
            node.count["invites"] += 1
            self.media.choose(context)
        if message.method in RECORD_ROUTED:
            self.give_token(context, message)
        if not invite:
            self._forwarding.launch(context)
            return
        self.ownership.claim(context, incoming.data)
        if not self.media.request(context):
            self._forwarding.launch(context)

    def give_token(self, context: Context, message: Message) -> None:
        """The token of the Record-Route, for the relay that was chosen (DESIGN 2.6)."""
        key = self._node.key
        tag = context.from_tag = message.tag(FROM)
        context.dialog_key = key.dialog_key(context.call_id, tag)
        context.token = key.token(Token(context.dialog_key, context.relay, self._node.index), context.call_id, tag)

    def _loops(self, incoming: Incoming, targets: list[Target]) -> bool:
        """Whether it was here before and went to the same target: then our branch can be made again (RFC 5393 4.2)."""
        message, key = incoming.message, self._node.key
        for ours, above in pairwise(message.values(VIA)):
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

    def _freed(self, context: Context) -> None:
        if context.method == b"BYE" and context.dialog is not None:
            self._dialogs.forget(context.dialog)

    # -- answers of which nothing is kept

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
