"""SDP goes through the relays by the ng protocol (DESIGN 3.1): an offer, its answer the other way, a delete at the end.

A message whose SDP a relay must see waits here; it goes on with the relay's SDP in it. An offer of a new call falls to
the next relay with room; everything else belongs to the relay that has the session, and waits for it to come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sipcore import ng
from sipcore.bencode import Encodable
from sipcore.errors import NgError
from sipcore.message import CONTENT_TYPE, FROM, TO, Message
from sipcore.record import DialogRecord, EarlyRecord
from sipcore.uri import Address

from .actions import SendNg
from .context import Branch, Context
from .events import NgReply, RelayState
from .node import Node
from .relays import Relay, RelayChoice

if TYPE_CHECKING:
    from .forwarding import Forwarding
    from .indialog import InDialog
    from .ownership import Ownership
    from .requests import Requests

RESEND = 0.25
"""Seconds until a command is sent again; a relay on the same network answers in one or two milliseconds."""
OFFER_TRIES = 4
"""Commands sent to one relay before a new call is offered to the next."""
LATER = 1.0
"""Seconds between the tries after those: the relay is not slow but gone, and its connection tells when it is back."""
OTHER_TRIES = 34
"""31 s: a relay whose node died is back in another pod by then, and a callee repeats its 2xx for 32 s (RFC 3261
13.3.1.4). A call whose answer no relay has seen has no media."""
MAX_WAITING = 20_000
"""Commands that wait for an answer; above it a message is refused or passes as it is."""

_NO_ROOM = 503
_NOT_ACCEPTABLE = 488
_WITH_SDP = frozenset({b"INVITE", b"UPDATE", b"PRACK", b"ACK"})

Done = Callable[[bytes], None]
Failed = Callable[[int, str], None]


class MediaLeg:
    """The media of one request: which relay has it, and who offers."""

    __slots__ = ("done", "offered", "pending", "relay", "via_branch")

    def __init__(self, relay: Relay, via_branch: bytes) -> None:
        self.relay = relay
        self.via_branch = via_branch
        self.offered = False
        """The request carried the offer; else the response carries it and the ACK the answer (RFC 3261 13.2.1)."""
        self.pending: set[bytes] = set()
        """Bodies of responses that are with the relay now: their retransmissions need not follow."""
        self.done: dict[bytes, bytes] = {}
        """Body of a response -> what the relay made of it."""

    def into(self, record: DialogRecord) -> None:
        """Note in the record where the media is."""
        record.relay, record.relay_address, record.relay_pod = self.relay.index, self.relay.address, self.relay.pod


class Ask:
    """A command on its way to a relay."""

    __slots__ = ("command", "cookie", "data", "done", "failed", "others", "relay", "sent", "tries")

    def __init__(self, relay: Relay, command: str, fields: dict[str, Encodable], cookie: bytes) -> None:
        self.relay = relay
        self.command = command
        self.cookie = cookie
        self.data = ng.request(cookie, command, fields)
        self.others: list[Relay] = []
        """Relays that an offer of a new call may go to when this one does not take it."""
        self.tries = 0
        """Commands sent to this relay."""
        self.sent = 0
        """Commands sent to all."""
        self.done: Done = _nothing
        self.failed: Failed = _nothing_failed


def _nothing(_: bytes) -> None:
    pass


def _nothing_failed(_status: int, _reason: str) -> None:
    pass


class Media:
    """What waits for a relay, and what is asked of it."""

    def __init__(self, node: Node) -> None:
        """Raises `ConfigError`."""
        self._node = node
        self.relays = RelayChoice(node)
        self._asks: dict[bytes, Ask] = {}
        self.forwarding: Forwarding
        self.requests: Requests
        self.inside: InDialog
        self.ownership: Ownership

    # -- what the other parts ask

    def choose(self, context: Context) -> None:
        """Choose the relay of a new call; without any, the call is refused by `request` if it has SDP."""
        if not self.relays.enabled:
            return
        candidates = self.relays.candidates()
        if candidates:
            self._use(context, candidates[0])

    def adopted(self, context: Context, record: EarlyRecord) -> None:
        """The INVITE of a dead proxy is ours now: its offer is with the relay already."""
        relay = self.relays.find(record.relay, record.relay_address)
        if self.relays.enabled and relay is not None:
            context.media = MediaLeg(relay, record.via_branch)
            context.media.offered = True
            context.relay = relay.index

    def resumed(self, context: Context) -> None:
        """A re-INVITE of a dead proxy is ours now; its offer is with the relay already."""
        relay = self._of_dialog(context) if self.relays.enabled else None
        if relay is not None:
            context.media = MediaLeg(relay, context.via_branch)
            context.media.offered = True

    def request(self, context: Context) -> bool:
        """Whether the request waits for a relay; a BYE only tells it."""
        if not self.relays.enabled:
            return False
        method, message = context.method, context.message
        assert message is not None
        if method == b"BYE":
            relay = self._of_dialog(context)
            if relay is not None:
                self._delete(relay, message.call_id, message.tag(FROM), message.tag(TO))
            return False
        if method not in _WITH_SDP:
            return False
        to_tag = message.tag(TO)
        if to_tag:
            relay = self._of_dialog(context)
            if relay is None:
                return False
            context.media = MediaLeg(relay, context.via_branch)
        if not has_sdp(message):
            return False
        if method == b"ACK":
            self._ask_for_ack(context, message)
        else:
            self._ask_for_offer(context, message, to_tag)
        return True

    def response(self, context: Context, branch: Branch, message: Message) -> bool:
        """Whether the response waits for a relay."""
        leg = context.media
        if leg is None or message.status >= 300 or message.status <= 100 or not has_sdp(message):
            return False
        body = message.body
        made = leg.done.get(body)
        if made is not None:
            message.set_body(made)
            return False
        if body in leg.pending:
            return True
        caller, callee = message.tag(FROM), message.tag(TO)
        if leg.offered:
            fields = self._fields(message.call_id, caller, callee, leg.via_branch, body, branch.target.address)
        else:
            fields = self._fields(message.call_id, callee, caller, leg.via_branch, body, branch.target.address)
        self._bridge(fields, branch.target.address, context.source)
        ask = self._new("answer" if leg.offered else "offer", leg.relay, fields)
        leg.pending.add(body)

        def done(sdp: bytes) -> None:
            leg.pending.discard(body)
            leg.done[body] = sdp
            message.set_body(sdp)
            self.forwarding.pass_on(branch, message)

        def failed(status: int, reason: str) -> None:
            # Without its session the relay cannot carry this call; the call itself is not ours to refuse any more.
            leg.pending.discard(body)
            self._node.log("error", "media-lost", message.call_id, relay=leg.relay.pod, reason=reason)
            self.forwarding.pass_on(branch, message)

        ask.done, ask.failed = done, failed
        self._send(ask)
        return True

    def failed(self, context: Context) -> None:
        """The INVITE failed: a new call's media is not needed."""
        leg = context.media
        if leg is None or not leg.offered or context.dialog is not None or not context.invite:
            return
        message = context.message
        if message is not None and message.tag(TO):
            return
        early = context.claim.early if context.claim is not None else None
        tag = message.tag(FROM) if message is not None else early.caller_tag if early is not None else b""
        self._delete(leg.relay, context.call_id, tag, b"")

    # -- events

    def reply(self, event: NgReply) -> None:
        """A datagram from a relay."""
        try:
            reply = ng.parse_reply(event.data)
        except NgError:
            self._node.count["ignored"] += 1
            return
        ask = self._asks.get(reply.cookie)
        if ask is None or ask.relay.address != event.relay:
            return
        if reply.result == "ok" and (reply.sdp or ask.command == "delete"):
            self._over(ask)[0](reply.sdp)
        elif ask.others:
            self._next(ask)
        else:
            self._node.count["ng_failed"] += 1
            status = _NO_ROOM if reply.result == "load limit" else _NOT_ACCEPTABLE
            self._over(ask)[1](status, reply.reason or reply.result)

    def relay_state(self, event: RelayState) -> None:
        """The connection to a relay came up (what waits for it goes at once) or was reset (new calls go elsewhere)."""
        self.relays.state(event.relay, event.up)
        for ask in list(self._asks.values()):
            if event.up:
                ask.relay = self.relays.now(ask.relay)
            if ask.relay.address != event.relay:
                continue
            if event.up:
                self._node.out.append(SendNg(ask.data, ask.relay.address))
            elif ask.others:
                self._next(ask)

    # -- commands

    def _ask_for_offer(self, context: Context, message: Message, to_tag: bytes, looked: bool = False) -> None:
        """`looked`: the leases were read again for this call, so a refusal is final."""
        leg = context.media
        may_look = not to_tag and not looked

        def again() -> None:
            if not context.targets:  # cancelled meanwhile
                return
            self.choose(context)
            self.requests.give_token(context, message)
            self.ownership.retarget(context)
            self._ask_for_offer(context, message, to_tag, looked=True)

        if leg is None:
            if not (may_look and self.relays.look_again(again)):
                self.forwarding.answer(context, _NO_ROOM)
            return
        fields = self._fields(message.call_id, message.tag(FROM), to_tag, leg.via_branch, message.body, context.source)
        self._bridge(fields, context.source, context.targets[0].address)
        ask = self._new("offer", leg.relay, fields)
        if not to_tag:
            ask.others = [relay for relay in self.relays.candidates() if relay.address != leg.relay.address]

        def done(sdp: bytes) -> None:
            leg.offered = True
            if not context.targets:  # cancelled meanwhile
                self._delete(ask.relay, message.call_id, message.tag(FROM), to_tag)
                return
            if ask.relay is not leg.relay:
                self._use(context, ask.relay)
                assert context.media is not None
                context.media.offered = True
                self.requests.give_token(context, message)
                self.ownership.retarget(context)
            _set_body(context, sdp)
            self.relays.place(ask.relay)
            self.forwarding.launch(context)

        def failed(status: int, reason: str) -> None:
            if may_look and self.relays.look_again(again):
                return
            self._node.log("warning", "media-refused", message.call_id, reason=reason)
            self.forwarding.answer(context, status)

        ask.done, ask.failed = done, failed
        self._send(ask)

    def _ask_for_ack(self, context: Context, message: Message) -> None:
        """The offer came in the 2xx: who sends the ACK answers."""
        leg = context.media
        if leg is None:
            self.inside.forward_ack(context)
            return
        fields = self._fields(
            message.call_id, message.tag(TO), message.tag(FROM), leg.via_branch, message.body, context.source
        )
        self._bridge(fields, context.source, context.targets[0].address)
        ask = self._new("answer", leg.relay, fields)

        def done(sdp: bytes) -> None:
            _set_body(context, sdp)
            self.inside.forward_ack(context)

        def failed(status: int, reason: str) -> None:
            self._node.log("error", "media-lost", message.call_id, relay=leg.relay.pod, reason=reason)
            self.inside.forward_ack(context)

        ask.done, ask.failed = done, failed
        self._send(ask)

    def _delete(self, relay: Relay, call_id: bytes, from_tag: bytes, to_tag: bytes) -> None:
        fields: dict[str, Encodable] = {"call-id": call_id, "from-tag": from_tag}
        if to_tag:
            fields["to-tag"] = to_tag
        self._send(self._new("delete", relay, fields))

    def _fields(
        self, call_id: bytes, from_tag: bytes, to_tag: bytes, via_branch: bytes, sdp: bytes, source: Address
    ) -> dict[str, Encodable]:
        fields: dict[str, Encodable] = {
            "call-id": call_id,
            "from-tag": from_tag,
            "via-branch": via_branch,
            "received-from": ["IP6" if ":" in source[0] else "IP4", source[0]],
            "ICE": "remove",
            "replace": ["origin", "session-connection"],
            "sdp": sdp,
        }
        if to_tag:
            fields["to-tag"] = to_tag
        return fields

    def _bridge(self, fields: dict[str, Encodable], source: Address, target: Address) -> None:
        """Media of the other address family toward a target of the other address family."""
        if (":" in source[0]) != (":" in target[0]):
            fields["address-family"] = "IP6" if ":" in target[0] else "IP4"

    def _use(self, context: Context, relay: Relay) -> None:
        context.media = MediaLeg(relay, context.via_branch)
        context.relay = relay.index

    def _of_dialog(self, context: Context) -> Relay | None:
        """The relay of the dialog that a request is of: by the record, else by the token."""
        if context.dialog is not None:
            record = context.dialog.record
            if record.relay_address is None:
                return None
            return self.relays.find(record.relay, record.relay_address, record.relay_pod)
        return self.relays.find(context.relay) if context.relay else None

    # -- on the wire

    def _new(self, command: str, relay: Relay, fields: dict[str, Encodable]) -> Ask:
        return Ask(relay, command, fields, b"%016x" % self._node.rng.getrandbits(64))

    def _send(self, ask: Ask) -> None:
        if len(self._asks) >= MAX_WAITING:
            ask.failed(_NO_ROOM, "too many commands wait for relays")
            return
        self._asks[ask.cookie] = ask
        self._try(ask)

    def _over(self, ask: Ask) -> tuple[Done, Failed]:
        """It has its answer: forget it. What it calls refers to it; no cycle is left behind for the collector."""
        del self._asks[ask.cookie]
        calls = ask.done, ask.failed
        ask.done, ask.failed = _nothing, _nothing_failed
        return calls

    def _try(self, ask: Ask) -> None:
        node = self._node
        ask.tries += 1
        ask.sent += 1
        node.count["ng_sent"] += 1
        node.out.append(SendNg(ask.data, ask.relay.address))
        delay = RESEND if ask.tries <= OFFER_TRIES else LATER
        node.timers.start(delay, node.now, self._again, (ask, ask.sent))

    def _again(self, what: tuple[Ask, int], now: float) -> None:
        ask, sent = what
        if self._asks.get(ask.cookie) is not ask or ask.sent != sent:
            return
        if ask.others and ask.tries >= OFFER_TRIES:
            self._next(ask)
        elif ask.tries >= OTHER_TRIES:
            self._node.count["ng_failed"] += 1
            self._over(ask)[1](_NO_ROOM, f"relay {ask.relay.pod or ask.relay.address[0]} does not answer")
        else:
            ask.relay = self.relays.now(ask.relay)
            self._try(ask)

    def _next(self, ask: Ask) -> None:
        """A new call is offered to the next relay."""
        ask.relay = ask.others.pop(0)
        ask.tries = 0
        self._try(ask)


def has_sdp(message: Message) -> bool:
    return bool(message.body) and message.value(CONTENT_TYPE)[:15].lower() == b"application/sdp"


def _set_body(context: Context, sdp: bytes) -> None:
    """The request goes on with this body."""
    context.body = sdp
    line = b"Content-Length: %d" % len(sdp)
    lines = context.lines
    assert lines is not None
    for number, old in enumerate(lines):
        if old.partition(b":")[0].strip().lower() in (b"content-length", b"l"):
            lines[number] = line
            return
    lines.append(line)
