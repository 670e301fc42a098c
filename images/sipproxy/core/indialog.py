"""Requests of a dialog: by our own Route and its token, or by Call-ID and tags (RFC 3261 16.4, DESIGN 2.5, 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.keys import parse_token
from sipcore.message import ROUTE, Message, split_values
from sipcore.record import Party
from sipcore.uri import Uri, name_addr, parse_uri

from .context import Context, Dialog
from .dialogs import Dialogs
from .engine import Engine
from .forwarding import Forwarding
from .incoming import Incoming
from .node import MAX_TRANSACTIONS, Node
from .routing import Target

if TYPE_CHECKING:
    from .media import Media
    from .ownership import Ownership
    from .requests import Requests

TOKEN_END = 5 + 32
"""Where the token ends in `<sip:TOKEN@...>`."""


class InDialog:
    """Finds the dialog of a request and forwards it."""

    def __init__(self, node: Node, engine: Engine, forwarding: Forwarding, dialogs: Dialogs) -> None:
        self._node = node
        self._engine = engine
        self._forwarding = forwarding
        self._dialogs = dialogs
        self.requests: Requests
        self.ownership: Ownership
        self.media: Media

    def receive(self, incoming: Incoming) -> None:
        """A request with our token or a To-tag. Raises `BadMessage` and `UriError`."""
        node = self._node
        message, text = incoming.message, incoming.token_text
        dialog: Dialog | None = None
        if text:
            dialog = node.tokens.get(text)
            if dialog is None:
                token = incoming.token = parse_token(text)
                if token is not None:
                    dialog = node.dialogs.get(token.dialog_key)
                    if dialog is not None and not dialog.token:
                        dialog.token = text
                        node.tokens[text] = dialog
        else:
            dialog = self._dialogs.find(message.call_id, incoming.from_tag, incoming.to_tag)
        if (
            dialog is not None
            and dialog.call_id == message.call_id
            and (dialog.caller_tag == incoming.from_tag or dialog.caller_tag == incoming.to_tag)
        ):
            self.serve(incoming, dialog)
            return
        if text and incoming.token is None:
            incoming.token = parse_token(text)
        if not self.ownership.foreign_request(incoming):
            self.serve_by_token(incoming)

    def serve_by_token(self, incoming: Incoming) -> None:
        """Nothing is known of the dialog but what the request carries (DESIGN 2.5, 2.6)."""
        node = self._node
        if incoming.token is None:
            self.requests.refuse(incoming, 481)
        elif not self._token_holds(incoming, incoming.from_tag) and not self._token_holds(incoming, incoming.to_tag):
            node.count["bad_mac"] += 1
            self.requests.refuse(incoming, 403)
        else:
            node.count["served_by_token"] += 1
            self.serve(incoming, None)

    def _token_holds(self, incoming: Incoming, tag: bytes) -> bool:
        return self._node.key.check_token(incoming.token_text, incoming.message.call_id, tag)

    def serve(self, incoming: Incoming, dialog: Dialog | None) -> None:
        """Forward a request of a dialog: an ACK without a transaction, all else with one.

        Raises `BadMessage` and `UriError`.
        """
        node = self._node
        message = incoming.message
        target = self._next_hop(incoming, dialog)
        if target is None:
            self.requests.refuse(incoming, 404)
            return
        if dialog is not None and dialog.made and incoming.from_tag == dialog.caller_tag:
            self._dialogs.heard(dialog, message, incoming.source)
        method = message.method
        lines = incoming.header_lines()
        if method == b"ACK" and not (message.body and self.media.relays.enabled):
            self._forward_ack(incoming, dialog, target, lines)
            return
        if len(node.contexts) >= MAX_TRANSACTIONS:
            node.count["ignored"] += 1
            return
        context = incoming.context(lines, node.wall)
        context.targets.append(target)
        context.dialog = dialog
        context.relay = self._relay(incoming, dialog)
        if method == b"ACK":
            if not self.media.request(context):
                self.forward_ack(context)
            return
        self._engine.open(context)
        if method == b"BYE":
            self._bye(incoming, dialog)
        if not self.media.request(context):
            self._forwarding.launch(context)

    def _relay(self, incoming: Incoming, dialog: Dialog | None) -> int:
        if dialog is None:
            return incoming.token.relay if incoming.token is not None else 0
        return dialog.record.relay if self.media.relays.enabled else 0

    def _bye(self, incoming: Incoming, dialog: Dialog | None) -> None:
        """The record ends before the BYE goes on (DESIGN 2.8); one fork of several ends alone."""
        if dialog is None:
            if incoming.token is not None:
                side = "caller" if self._token_holds(incoming, incoming.from_tag) else "callee"
                self.ownership.ended_unseen(incoming.token.dialog_key, side, incoming.message)
            return
        by_caller = incoming.from_tag == dialog.caller_tag
        tag = incoming.to_tag if by_caller else incoming.from_tag
        if self._dialogs.leave(dialog, tag):
            self._dialogs.end(dialog, "caller" if by_caller else "callee")

    def _forward_ack(self, incoming: Incoming, dialog: Dialog | None, target: Target, lines: list[bytes]) -> None:
        """The ACK of a 2xx has no transaction and no response (RFC 3261 17, 16.6)."""
        node, via = self._node, incoming.via
        message = incoming.message
        listener = node.listener_to(target.address, incoming.listener)
        branch = via.branch if via.cookie else via.value
        branch_id = node.key.branch(via.sent_by, branch, message.call_id, message.cseq, target.text)
        ours = self._forwarding.via_line(branch_id, listener, self._relay(incoming, dialog))
        data = b"\r\n".join((b"ACK %b SIP/2.0" % target.uri, ours, *lines, b"", message.body))
        node.send(data, target.address, listener)

    def forward_ack(self, context: Context) -> None:
        """The same for one whose SDP was with a relay."""
        node = self._node
        target = context.targets[0]
        listener = node.listener_to(target.address, context.listener)
        branch_id = node.key.branch(context.via_sent_by, context.via_branch, context.call_id, context.cseq, target.text)
        via = self._forwarding.via_line(branch_id, listener, context.relay)
        lines = context.lines or ()
        data = b"\r\n".join((b"ACK %b SIP/2.0" % target.uri, via, *lines, b"", context.body))
        node.send(data, target.address, listener)

    # -- where it goes

    def _next_hop(self, incoming: Incoming, dialog: Dialog | None) -> Target | None:
        """RFC 3261 16.6 steps 6 and 7; a request that names us (SIPp's scenarios) goes to the peer's target."""
        message = incoming.message
        if ROUTE in message.first and not incoming.own_route:
            return self._routed(message)
        target, own = self._node.router.aim(message.uri)
        if dialog is None:
            return target
        if target is not None and not own:
            if incoming.from_tag != dialog.caller_tag:
                return self._around_nat(target, dialog.record.caller)
            return target
        peer = self._peer(incoming, dialog)
        if peer is None:
            return target
        if own and peer.target:
            if peer.routes:
                message.uri = peer.target
                message.own()
                message.first[ROUTE] = len(message.lines)
                message.lines.append(b"Route: " + b", ".join(peer.routes))
                return self._routed(message)
            target, _ = self._node.router.aim(peer.target)
            if target is not None:
                return target
        return Target(peer.target if own and peer.target else message.uri, peer.source) if peer.source[0] else None

    def _around_nat(self, target: Target, caller: Party) -> Target:
        """What is for a caller behind a NAT goes to where its packets come from, whatever its Contact says."""
        if caller.nat:
            said, _ = self._node.router.aim(caller.target)
            if said is not None and said.address == target.address:
                return Target(target.uri, caller.source)
        return target

    def _peer(self, incoming: Incoming, dialog: Dialog) -> Party | None:
        if incoming.from_tag == dialog.caller_tag:
            return self._dialogs.callee(dialog, incoming.to_tag)
        return dialog.record.caller

    def _routed(self, message: Message) -> Target | None:
        values = split_values(message.value(ROUTE))
        route = name_addr(values[0])[0]
        parsed = parse_uri(route)
        address = parsed.address
        if address is None:
            return None
        if b";lr" in parsed.params.lower():
            return Target(message.uri, address)
        # RFC 3261 16.6 step 6: a strict router gets itself in the Request-URI and the target last in Route.
        message.lines[message.first[ROUTE]] = b"Route: " + b", ".join([*values[1:], b"<%b>" % message.uri])
        return Target(route, address)

    # -- our own Route

    def pop_own_route(self, incoming: Incoming) -> None:
        """RFC 3261 16.4: take our own Route values off, remember the token of the first. Raises `UriError`."""
        message = incoming.message
        number = message.first[ROUTE]
        value = message.lines[number].partition(b":")[2].strip()
        if value[TOKEN_END:] in self._node.route_ends and value[:5] == b"<sip:" and not _several(message, ROUTE):
            incoming.token_text = value[5:TOKEN_END]
            incoming.own_route = number
            return
        message.own()
        if b"@" in message.uri:
            self._undo_strict_routing(message)
        self._pop_each(incoming)

    def _pop_each(self, incoming: Incoming) -> None:
        message, router = incoming.message, self._node.router
        number: int | None = message.first[ROUTE]
        while number is not None:
            values = split_values(message.lines[number].partition(b":")[2])
            while values:
                uri = parse_uri(name_addr(values[0])[0])
                if not router.is_our_route(uri):
                    break
                if not incoming.token_text and parse_token(uri.user) is not None:
                    incoming.token_text = uri.user
                values.pop(0)
            if values:
                message.lines[number] = b"Route: " + b", ".join(values)
                message.first[ROUTE] = number
                return
            _drop_line(message, number)
            number = next((i for kind, i in message.more if kind == ROUTE), None)
            if number is None:
                del message.first[ROUTE]
            else:
                message.more.remove((ROUTE, number))
                message.first[ROUTE] = number

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
            _drop_line(message, number)
        message.lines[at] = b"Route: " + b", ".join((b"<%b;lr>" % _bare(uri), *last))


def _several(message: Message, kind: int) -> bool:
    return bool(message.more) and any(k == kind for k, _ in message.more)


def _drop_line(message: Message, number: int) -> None:
    """Take a header line out; the positions behind it move up."""
    del message.lines[number]
    first = message.first
    for kind, at in first.items():
        if at > number:
            first[kind] = at - 1
    if message.more:
        message.more = [(kind, at - 1 if at > number else at) for kind, at in message.more]


def _bare(uri: Uri) -> bytes:
    where = uri.host + (b":%d" % uri.port if uri.port else b"")
    return b"sip:%b@%b" % (uri.user, where)
