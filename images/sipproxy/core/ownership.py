"""Who owns a call (DESIGN 2.4 to 2.10). The other parts ask here; claims, adoption and peers answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sipcore.errors import ConfigError
from sipcore.message import FROM, TO, VIA, Message
from sipcore.record import Cdr
from sipcore.uri import Address
from sipcore.via import BadMessage, Via

from . import hop
from .adoption import Adoption
from .claims import Claims
from .context import Branch, Context, Dialog
from .events import Hop, PeerDown, StoreReply, StoreState, TargetError
from .flowlog import FlowLog
from .flows import Flows
from .handover import HandOver
from .node import Node
from .orphans import Orphans
from .peers import Handed, Peers
from .routing import Target

if TYPE_CHECKING:
    from .dialogs import Dialogs
    from .engine import Engine
    from .forwarding import Forwarding
    from .incoming import Incoming
    from .media import Media
    from .requests import Requests


class Ownership:
    """The seam between forwarding calls and keeping them."""

    def __init__(self, node: Node, adopt: bool) -> None:
        """`adopt=False`: see docs/decisions/0005. Raises `ConfigError`."""
        self._node = node
        self._adopt = adopt
        self.peers = Peers(node)
        self.claims = Claims(node, self.peers, adopt)
        self.adoption = Adoption(node, self.peers, adopt)
        self.orphans = self.adoption.orphans = Orphans(node, self.peers, self.adoption, adopt)
        self.handover = HandOver(node, self.peers, self.adoption)
        self.claims.response_of_dialog = self._response_of_dialog
        self.peers.own_empty = lambda: self.empty
        self.flows: Flows | None = None
        if node.config.flows:
            if self.peers.keeper is None or not node.config.internal:
                raise ConfigError("flows: true given, with `store` and `internal` expected - at `$.flows`")
            self.flows = self.handover.flows = flows = Flows(node, self.peers)
            flows.log = self.peers.beside = FlowLog(node, self.peers, flows)
            node.send, node.ask, node.arrival, node.recall = flows.send, flows.directly, flows.arrival, flows.recall
            if len(node.config.listeners) > 1:
                node.listener_to = flows.listener_to
        self.requests: Requests
        self.engine: Engine
        self.media: Media
        self.forwarding: Forwarding
        self.dialogs: Dialogs

    def connect(
        self, requests: Requests, forwarding: Forwarding, dialogs: Dialogs, engine: Engine, media: Media
    ) -> None:
        """Put the parts together."""
        claims, adoption = self.claims, self.adoption
        self.requests = claims.requests = adoption.requests = requests
        self.forwarding = claims.forwarding = forwarding
        self.dialogs = claims.dialogs = adoption.dialogs = dialogs
        self.handover.dialogs = self.orphans.dialogs = dialogs
        self.engine = claims.engine = engine
        self.media = claims.media = media
        self.peers.beaten = adoption.beaten
        self.peers.fell = self.orphans.look

    @property
    def empty(self) -> bool:
        """DESIGN 2.10: no open transaction and no owned dialog."""
        node = self._node
        waits = self.peers.asked > 0 or (self.flows is not None and self.flows.parked > 0)
        return node.open == 0 and node.owned == 0 and self.handover.under_way == 0 and not waits

    # -- asked by requests, forwarding and dialogs

    def takes(self, incoming: Incoming) -> bool:
        """Whether a new call begins here; else it was handed on or refused (DESIGN 2.10)."""
        node = self._node
        if not (node.cordoned or node.owned >= node.config.capacity):
            return True
        if incoming.hops < hop.MAX_HOPS:
            peer = self.peers.with_room(incoming.key)
            if peer is not None:
                flags = hop.MUST_OWN | incoming.hops + 1 << hop.HOPS_SHIFT
                self.peers.hand(peer, incoming.data, incoming.source, incoming.listener, flags)
                return False
            # A peer that has just come may not have been read yet.
            if self.peers.look_for_room(partial(self.requests.receive, incoming)):
                return False
        self.requests.refuse(incoming, 503)
        return False

    def claim(self, context: Context, data: bytes) -> None:
        """Write the early record of a new INVITE."""
        self.claims.claim(context, data)

    def confirmed(self, context: Context, branch: Branch, message: Message) -> bool:
        """Whether a final response may go on; else it is held until the store has spoken."""
        return not self.claims.hold(context, branch, message)

    def may_finish(self, context: Context, status: int, data: bytes) -> bool:
        """The same for a final response of our own."""
        return not self.claims.hold(context, status, data)

    def retarget(self, context: Context) -> None:
        """The INVITE goes to another target or relay now."""
        self.claims.retarget(context)

    def put(self, dialog: Dialog) -> None:
        """Write the record of a dialog of ours."""
        self.adoption.put(dialog)

    def end(self, dialog: Dialog, cdr: Cdr) -> None:
        """Write the end of a dialog."""
        self.adoption.end(dialog, cdr)
        self.handover.ended(dialog)

    def ended_unseen(self, key: bytes, by: str, bye: Message) -> None:
        """A BYE is forwarded without the record of its dialog."""
        self.adoption.ended_unseen(key, by, bye)

    def foreign_request(self, incoming: Incoming) -> bool:
        """A request of a dialog that is not in memory; False: it can only be served by its token."""
        if self.adoption.foreign_request(incoming):
            return True
        if not self._adopt and incoming.token is not None and incoming.token.owner != self._node.index:
            self.requests.refuse(incoming, 481)
            return True
        return False

    def foreign_cancel(self, incoming: Incoming) -> bool:
        """A CANCEL, or the ACK of a non-2xx, of an INVITE that is not here; False: nobody has it."""
        return self.claims.foreign_cancel(incoming)

    def foreign_response(self, data: bytes, source: Address, listener: int, hops: int) -> None:
        """A response that no transaction here asked for."""
        self.claims.foreign_response(data, source, listener, hops)

    # -- events

    def hop(self, event: Hop) -> hop.Parcel | None:
        """What a peer handed over: a message to feed, or None after a control message."""
        node = self._node
        parcel = hop.unpack(node.key, event.data)
        if parcel is None:
            node.count["bad_mac"] += 1
            return None
        node.count["hops_received"] += 1
        if not parcel.flags & hop.CONTROL:
            if parcel.listener >= len(node.sent_by):
                return None
            if parcel.flags & hop.EMIT:
                self._emit(parcel.data, parcel.source, parcel.listener, parcel.hops)
                return None
            if self.flows is not None:
                self.flows.heard_elsewhere(parcel.source, parcel.listener, parcel.arrival)
            return parcel
        try:
            what = msgspec.msgpack.decode(parcel.data)
        except msgspec.DecodeError:
            what = None
        if isinstance(what, dict):
            if what.get("t") == "moved" and self.flows is not None:
                self.flows.moved(what.get("from"), what.get("flows"))
            else:
                self.handover.control(what, self._unreachable)
        return None

    def again(self, handed: Handed) -> bool:
        """What a dead peer was to send on goes another way; False: it was to be served."""
        if not handed.flags & hop.EMIT:
            return False
        self._node.send(handed.data, handed.source, handed.listener)
        return True

    def _emit(self, data: bytes, target: Address, listener: int, hops: int) -> None:
        """A peer has something for a client whose packets arrive here (DESIGN 2.2)."""
        self._node.count["flow_hops_received"] += 1
        if self.flows is not None:
            self.flows.send(data, target, listener, hops)
        else:
            self._node.send(data, target, listener)

    def peer_down(self, event: PeerDown) -> None:
        """A peer's internal port is closed."""
        self.peers.peer_down(event.address)

    def store_reply(self, event: StoreReply) -> None:
        """The answer goes to whoever asked; the tag is who."""
        if callable(event.tag):
            event.tag(event.replies)

    def store_state(self, event: StoreState) -> None:
        """The store came, went, or is another one: then everything of ours is written again (DESIGN 2.9)."""
        if self.peers.beside is not None:
            self.peers.beside.store_changed()
        other = self.peers.store_changed(event.available, event.run_id)
        self.media.relays.store_changed(event.available)
        if other and self.peers.writable:
            self.adoption.reassert()
            for context in self._node.contexts.values():
                self.claims.put(context)

    def target_error(self, event: TargetError) -> None:
        """ICMP error for a target: the branch is ours, or of the proxy that its Via names.

        All proxies send from the same address, so the error can reach another one's socket.
        """
        arrives = event.listener < len(self._node.config.listeners)
        if arrives and self.flows is not None and self.flows.lost(event.address, event.listener):
            return
        at = event.data.find(b";branch=") + 8
        branch_id = event.data[at : at + 31]
        branch = self._node.branches.get(branch_id)
        if branch is not None:
            self._unreachable(branch_id, list(event.address))
            return
        end = event.data.find(b"\r\n", at)
        try:
            owner = Via(event.data[event.data.find(b"SIP/2.0/UDP", at - 200 if at > 200 else 0) : end]).owner
        except BadMessage:
            return
        lease = self.peers.lease(owner[0]) if owner is not None else None
        if lease is not None:
            self.peers.tell(lease, {"t": "unreachable", "branch": branch_id, "address": list(event.address)})

    def _unreachable(self, branch_id: bytes, address: object) -> None:
        branch = self._node.branches.get(branch_id)
        if branch is None or list(branch.target.address) != address:
            return
        if self.flows is None or not self.flows.is_client(branch.target.address):
            self.engine.transport_error(branch)

    # -- a response to a re-INVITE whose proxy died

    def _response_of_dialog(self, message: Message, data: bytes) -> None:
        """There is no early record of it: the dialog's record and the response's own Vias are enough (DESIGN 2.5)."""
        node = self._node
        keys = [node.key.dialog_key(message.call_id, tag) for tag in (message.tag(FROM), message.tag(TO)) if tag]
        self.adoption.with_dialog(keys, partial(self._resume_reinvite, message, data))

    def _resume_reinvite(self, message: Message, data: bytes, dialog: Dialog | None) -> None:
        node = self._node
        if dialog is None:
            node.count["ignored"] += 1
            return
        try:
            ours, caller = (Via(value) for value in message.values(VIA)[:2])
        except (BadMessage, ValueError):
            return
        source = caller.next_hop
        if source is None or ours.branch in node.branches:
            return
        context = Context()
        context.method, context.invite, context.dialog = b"INVITE", True, dialog
        context.key = b"%b %b INVITE" % (caller.sent_by, caller.branch)
        if context.key in node.contexts:
            return
        context.source = context.reply_to = source
        by_caller = message.tag(FROM) == dialog.caller_tag
        peer = self.dialogs.callee(dialog, message.tag(TO)) if by_caller else dialog.record.caller
        context.listener = peer.listener if peer is not None else 0
        context.uri = peer.target if peer is not None else b""
        context.call_id, context.cseq = message.call_id, message.cseq
        context.vias = message.all_lines(VIA)[1:]
        context.from_line, context.to_line = (message.lines[message.first[kind]] for kind in (FROM, TO))
        context.via_sent_by, context.via_branch = caller.sent_by, caller.branch
        context.started = node.wall
        self.engine.open(context)
        self.media.resumed(context)
        target = Target(context.uri, peer.source if peer is not None else source)
        via = b"Via: " + ours.value.partition(b";received=")[0]
        branch = Branch(context, target, ours.branch, via)
        context.branches.append(branch)
        self.engine.resume(branch, node.config.timers.c)
        self.forwarding.receive(data)
