"""INVITEs without a final response: whose they are, and who takes them from a dead owner (DESIGN 2.4, 2.5)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sipcore import record as records
from sipcore.errors import SipcoreError
from sipcore.message import FROM, RECORD_ROUTE, VIA, Message, parse, split_values
from sipcore.record import EarlyRecord
from sipcore.resp import ErrorReply, Value
from sipcore.store import ADOPT, EARLY_LIFE_S, PUT, Command
from sipcore.transaction import State
from sipcore.via import BadMessage, Via

from . import build
from .actions import Store
from .context import Branch, Claim, Context
from .forwarding import without_top_via
from .hop import HOPS_SHIFT, MAX_HOPS
from .node import Node
from .peers import Peers
from .routing import Target

if TYPE_CHECKING:
    from .dialogs import Dialogs
    from .engine import Engine
    from .forwarding import Forwarding
    from .incoming import Incoming
    from .media import Media
    from .requests import Requests

MAX_HELD = 8
_SET_NX = b"*6\r\n$3\r\nSET\r\n$%%d\r\n%%b\r\n$%%d\r\n%%b\r\n$2\r\nNX\r\n$2\r\nEX\r\n$%d\r\n%d\r\n" % (
    len(str(EARLY_LIFE_S)),
    EARLY_LIFE_S,
)
"""RESP2 of SET key value NX EX life."""
KIND = b"E"


class Claims:
    """Early records: made with SET NX, found by the caller's Via, adopted by compare-and-set."""

    def __init__(self, node: Node, peers: Peers, adopt: bool) -> None:
        self._node = node
        self._peers = peers
        self._adopt = adopt
        self._moved: dict[bytes, int] = {}
        """Branches of INVITEs that another proxy owns -> its index."""
        self.engine: Engine
        self.dialogs: Dialogs
        self.forwarding: Forwarding
        self.requests: Requests
        self.media: Media
        self.response_of_dialog: Callable[[Message, bytes], None]

    # -- INVITEs of ours

    def claim(self, context: Context, data: bytes) -> None:
        """Write the early record of a new INVITE; `data` is what came, for whoever turns out to own it."""
        node, peers = self._node, self._peers
        if not peers.writable:
            return
        message = context.message
        assert message is not None
        target = context.targets[0]
        key = node.key
        call_id, cseq = context.call_id, context.cseq
        early_id = key.early_id(context.via_sent_by, context.via_branch, call_id, cseq)
        context.next_id = key.branch(context.via_sent_by, context.via_branch, call_id, cseq, target.text)
        tag = context.from_tag
        source = context.source
        routes = message.all_lines(RECORD_ROUTE)
        early = EarlyRecord(
            call_id=call_id,
            caller_tag=tag,
            cseq=int(cseq),
            vias=b"\r\n".join(context.vias),
            source=source,
            listener=context.listener,
            branches=[records.Branch(context.next_id, target.uri, *target.address)],
            relay=context.relay,
            started=context.started,
            timeout=context.started + node.config.timers.c,
            request_uri=context.uri,
            from_line=context.from_line,
            to_line=context.to_line,
            caller=self.dialogs.party(message, FROM, tag, source, context.listener, routes),
        )
        early.flow = early.caller.flow
        if context.media is not None:
            early.relay_address = context.media.relay.address
            early.via_branch = context.via_branch
        claim = context.claim = Claim(early_id, early)
        claim.pending = True
        claim.raw = data
        value = records.seal(KIND, node.index, 1, early)
        name = peers.keys.early(early_id)
        node.out.append(Store([_SET_NX % (len(name), name, len(value), value)], partial(self._claimed, context)))

    def _claimed(self, context: Context, replies: list[Value] | None) -> None:
        claim = context.claim
        if claim is None or not claim.pending:
            return
        if replies is not None and replies[0] is None:
            node = self._node
            read = (b"GET", self._peers.keys.early(claim.id))
            node.out.append(Store([read], partial(self._contested, context, claim)))
            return
        if replies is not None and isinstance(replies[0], ErrorReply):
            self._node.log("error", "store-refused", context.call_id, error=str(replies[0]))
        self._ours(context, claim)

    def _ours(self, context: Context, claim: Claim) -> None:
        """The store has confirmed it, or is away: what was held goes on."""
        claim.pending = False
        claim.raw = b""
        held = claim.held
        if not held:
            return
        claim.held = []
        if context.state == State.TERMINATED:
            return
        for one, what in held:
            if isinstance(what, Message):
                assert isinstance(one, Branch)
                self.forwarding.response(one, what)
            else:
                assert isinstance(one, int)
                self.forwarding.finish(context, one, what)

    def _contested(self, context: Context, claim: Claim, replies: list[Value] | None) -> None:
        """Another proxy was first: the INVITE is its, unless it is dead."""
        node, peers = self._node, self._peers
        value = replies[0] if replies is not None else None
        if not isinstance(value, bytes):
            self._ours(context, claim)
            return
        try:
            owner, epoch, record = records.unseal(value, EarlyRecord)
        except SipcoreError as error:
            node.log("error", "bad-record", context.call_id, error=str(error))
            self._ours(context, claim)
            return
        lease = peers.lease(owner)
        if lease is None and peers.look_for(owner, partial(self._contested, context, claim, replies)):
            return
        if lease is not None:
            for branch in context.branches:
                self._tombstone(branch.id, owner)
            raw = claim.raw
            claim.held = []
            self.engine.drop(context)
            if context.media is not None and context.media.relay.address != record.relay_address:
                self.media.failed(context)
            peers.hand(lease, raw, context.source, context.listener, 1 << HOPS_SHIFT)
        elif owner == node.index or not peers.dead(owner):
            claim.epoch = max(claim.epoch, epoch)
            self._ours(context, claim)
        elif not self._adopt:
            self.engine.drop(context)
        else:
            adopted = partial(self._contest_won, context, claim, epoch)
            node.out.append(Store([self._adopt_command(claim.id, owner, epoch)], adopted))

    def _contest_won(self, context: Context, claim: Claim, epoch: int, replies: list[Value] | None) -> None:
        value = replies[0] if replies else None
        if isinstance(value, bytes) and value[:8] != records.seal_header(KIND, self._node.index, epoch + 1):
            self._contested(context, claim, replies)
            return
        self._node.count["adopted"] += 1
        claim.epoch = epoch + 1
        self._ours(context, claim)

    def _adopt_command(self, early_id: bytes, owner: int, epoch: int) -> Command:
        expected = records.seal_header(KIND, owner, epoch)
        ours = records.seal_header(KIND, self._node.index, epoch + 1)
        return ADOPT.call((self._peers.keys.early(early_id),), expected, ours, EARLY_LIFE_S)

    def retarget(self, context: Context) -> None:
        """It goes to another target, or its offer to another relay, now."""
        node = self._node
        claim = context.claim
        if claim is None or not self._peers.writable or not context.targets:
            return
        early = claim.early
        target = context.targets[0]
        key = node.key
        context.next_id = key.branch(
            context.via_sent_by, context.via_branch, context.call_id, context.cseq, target.text
        )
        early.branches = [records.Branch(b.id, b.target.uri, *b.target.address, b.status) for b in context.branches] + [
            records.Branch(context.next_id, target.uri, *target.address)
        ]
        early.relay = context.relay
        if context.media is not None:
            early.relay_address = context.media.relay.address
        self.put(context)

    def put(self, context: Context) -> None:
        """Write the early record again."""
        claim = context.claim
        if claim is not None and self._peers.writable and context.state == State.PROCEEDING and context.invite:
            value = records.seal(KIND, self._node.index, claim.epoch, claim.early)
            key = self._peers.keys.early(claim.id)
            self._node.out.append(Store([PUT.call((key,), value, EARLY_LIFE_S)]))

    def hold(self, context: Context, one: Branch | int, what: Message | bytes) -> bool:
        """Whether a final response has to wait for the store: it is kept then."""
        claim = context.claim
        if claim is None or not claim.pending:
            return False
        if len(claim.held) < MAX_HELD:
            claim.held.append((one, what))
        return True

    # -- INVITEs of others

    def _tombstone(self, branch_id: bytes, owner: int) -> None:
        node = self._node
        self._moved[branch_id] = owner
        node.timers.start(node.durations.timeout, node.now, self._bury, branch_id)

    def _bury(self, branch_id: bytes, now: float) -> None:
        self._moved.pop(branch_id, None)

    def foreign_cancel(self, incoming: Incoming) -> bool:
        """A CANCEL (or the ACK of a non-2xx) of an INVITE that is not here; False: nobody can have it."""
        if not self._peers.writable or not self._peers.available:
            return False
        via, message = incoming.via, incoming.message
        early_id = self._node.key.early_id(via.sent_by, via.branch, message.call_id, message.cseq)

        def found(context: Context | None) -> None:
            if context is None:
                self.requests.refuse(incoming, 481)
            elif message.method == b"ACK":
                self.requests.receive(incoming)
            else:
                self.requests.refuse(incoming, 200)
                self.forwarding.cancel(context)

        self._find(early_id, incoming.data, incoming.source, incoming.listener, incoming.hops, found)
        return True

    def foreign_response(self, data: bytes, source: tuple[str, int], listener: int, hops: int) -> None:
        """A response that no transaction here asked for."""
        node, peers = self._node, self._peers
        try:
            message = parse(data)
            values = message.values(VIA)
            owner = Via(values[0]).owner
            above = Via(values[1]) if len(values) > 1 else None
        except BadMessage:
            node.count["bad_messages"] += 1
            return
        if owner is None or peers.keeper is None:
            node.count["ignored"] += 1
            return
        index = self._moved.get(Via(values[0]).branch, owner[0])
        lease = peers.lease(index)
        if lease is not None and hops < MAX_HOPS:
            peers.hand(lease, data, source, listener, hops + 1 << HOPS_SHIFT)
            return
        if hops < MAX_HOPS and peers.look_for(index, partial(self.foreign_response, data, source, listener, hops)):
            return
        if above is None:  # to a request that the other proxy sent for itself
            node.count["ignored"] += 1
            return
        if message.cseq_method != b"INVITE" and self._adopt:
            self._pass_stateless(message, above, listener)
            return
        if not peers.available or not self._adopt or not peers.writable:
            node.count["ignored"] += 1
            return
        branch = above.branch if above.cookie else above.value
        early_id = node.key.early_id(above.sent_by, branch, message.call_id, message.cseq)

        def found(context: Context | None) -> None:
            if context is None:
                self.response_of_dialog(message, data)
            else:
                self.forwarding.receive(data)

        self._find(early_id, data, source, listener, hops, found)

    def _pass_stateless(self, message: Message, above: Via, listener: int) -> None:
        """RFC 3261 16.7, 16.11: without a transaction a response goes to the next Via.

        One with a body is dropped: a relay would have to see it. Its request comes again, and is then answered again.
        """
        target = above.next_hop
        if target is None or message.body:
            self._node.count["ignored"] += 1
        else:
            self._node.send(without_top_via(message), target, listener)

    def _find(
        self,
        early_id: bytes,
        data: bytes,
        source: tuple[str, int],
        listener: int,
        hops: int,
        found: Callable[[Context | None], None],
    ) -> None:
        """Look for an INVITE in the store: hand the message to its living owner, or adopt it and call `found`."""
        node, peers = self._node, self._peers
        key = peers.keys.early(early_id)

        def looked_up(replies: list[Value] | None) -> None:
            value = replies[0] if replies else None
            if not isinstance(value, bytes):
                found(None)
                return
            try:
                owner, epoch, record = records.unseal(value, EarlyRecord)
            except SipcoreError as error:
                node.log("error", "bad-record", error=str(error))
                found(None)
                return
            lease = peers.lease(owner)
            if lease is not None and hops < MAX_HOPS:
                peers.hand(lease, data, source, listener, hops + 1 << HOPS_SHIFT)
            elif owner == node.index:
                known = node.contexts.get(_key_of(record))
                found(known or self._resume(record, early_id, epoch))
            elif peers.dead(owner) and self._adopt:

                def adopted(replies: list[Value] | None) -> None:
                    now = replies[0] if replies else None
                    if isinstance(now, bytes) and now[:8] == records.seal_header(KIND, node.index, epoch + 1):
                        node.count["adopted"] += 1
                        known = node.contexts.get(_key_of(record))
                        found(known or self._resume(record, early_id, epoch + 1))
                    elif isinstance(now, bytes):
                        looked_up(replies)
                    else:
                        found(None)

                node.out.append(Store([self._adopt_command(early_id, owner, epoch)], adopted))
            else:
                found(None)

        node.out.append(Store([(b"GET", key)], looked_up))

    def _resume(self, record: EarlyRecord, early_id: bytes, epoch: int) -> Context | None:
        """The transactions of an adopted INVITE, as far as its record tells."""
        node = self._node
        vias = record.vias.split(b"\r\n")
        try:
            via = Via(split_values(vias[0].partition(b":")[2])[0])
        except (BadMessage, IndexError):
            return None
        context = Context()
        context.method, context.invite = b"INVITE", True
        context.key = _key_of(record)
        context.source, context.listener = record.source, record.listener
        if node.recall is not None:
            node.recall(record.source, record.listener, record.flow, record.started)
        context.reply_to = via.reply_to(record.source)
        context.uri = record.request_uri
        context.call_id, context.cseq = record.call_id, b"%d" % record.cseq
        context.vias = vias
        context.from_line, context.to_line = record.from_line, record.to_line
        context.via_sent_by = via.sent_by
        context.via_branch = via.branch if via.cookie else via.value
        context.started = record.started
        context.claim = Claim(early_id, record, epoch)
        self.engine.open(context)
        context.last = build.trying(context)
        self.media.adopted(context, record)
        left = max(1.0, record.timeout - node.wall)
        for one in record.branches[-1:]:  # the earlier ones have failed
            target = Target(one.uri, (one.host, one.port))
            listener = node.listener_to(target.address, context.listener)
            via_line = self.forwarding.via_line(one.branch, listener, record.relay)
            branch = Branch(context, target, one.branch, via_line)
            context.branches.append(branch)
            self.engine.resume(branch, left)
        return context


def _key_of(record: EarlyRecord) -> bytes:
    """Of the server transaction of an early record, as `requests` makes it."""
    try:
        via = Via(split_values(record.vias.split(b"\r\n", 1)[0].partition(b":")[2])[0])
    except (BadMessage, IndexError):
        return b""
    return b"%b %b INVITE" % (via.sent_by, via.branch)
