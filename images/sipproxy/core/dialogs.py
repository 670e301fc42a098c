"""The dialogs that this proxy knows: made at the first 2xx, found for each later request, ended by a BYE."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sipcore.message import ALLOW, CONTACT, FROM, RECORD_ROUTE, SUPPORTED, TO, Message
from sipcore.record import Cdr, DialogRecord, Party
from sipcore.uri import Address, Uri, UriError, ip_of, name_addr, parse_uri
from sipcore.via import BadMessage

from .context import Branch, Context, Dialog
from .node import Node
from .routing import Target

if TYPE_CHECKING:
    from .media import MediaLeg
    from .ownership import Ownership

LONGEST = 10_800.0
"""Seconds; no call outlives the relay's final timeout (DESIGN 4.5), and no record its dialog."""
LOOK_EVERY = 60.0
MAX_CALLEES = 16
"""Forked 2xx kept for one call; more are forwarded and served by their token."""


class Answer(msgspec.Struct):
    """What the record of a dialog is made of: the INVITE, its first 2xx, and what we know of both."""

    key: bytes
    tag: bytes
    call_id: bytes
    cseq: bytes
    source: Address
    listener: int
    uri: bytes
    via_branch: bytes
    started: float
    answered: float
    target: Target
    request: Message | None
    response: Message
    caller: Party | None
    """From the early record; else it is read from the request."""
    media: MediaLeg | None


class Dialogs:
    """The table of dialogs and what changes it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.ownership: Ownership
        node.timers.start(LOOK_EVERY, float("-inf"), self._end_the_oldest, None)

    def find(self, call_id: bytes, from_tag: bytes, to_tag: bytes) -> Dialog | None:
        """The dialog of a request by its Call-ID under either tag (DESIGN 2.6)."""
        node = self._node
        dialog = node.dialogs.get(node.key.dialog_key(call_id, from_tag))
        if dialog is None and to_tag:
            dialog = node.dialogs.get(node.key.dialog_key(call_id, to_tag))
        return dialog if dialog is not None and dialog.call_id == call_id else None

    def confirm(self, context: Context, branch: Branch, response: Message) -> None:
        """A 2xx to an INVITE is about to be forwarded: make the dialog, or refresh its targets (RFC 3261 12.2.1.2)."""
        if context.dialog is not None:
            if context.message is not None:
                self._refresh(context.dialog, context.message, response)
            return
        node = self._node
        early = context.claim.early if context.claim is not None else None
        tag = response.tag(TO)
        if early is not None:
            caller_tag, key = early.caller_tag, b""
        elif context.token is not None:
            caller_tag, key = context.from_tag, context.dialog_key
        else:
            return
        key = key or node.key.dialog_key(context.call_id, caller_tag)
        known = node.dialogs.get(key)
        if known is not None:  # forked, or adopted already by a request that came before this response
            self._forked(known, tag, branch, response)
            return
        message = context.message
        if message is None and early is None:
            return
        answer = Answer(
            key,
            tag,
            context.call_id,
            context.cseq,
            context.source,
            context.listener,
            context.uri,
            context.via_branch,
            context.started,
            node.wall,
            branch.target,
            message,
            response,
            early.caller if early is not None else None,
            context.media,
        )
        dialog = Dialog(key, context.call_id, caller_tag, partial(self._record, answer))
        dialog.answered = node.wall
        if context.token is not None:
            dialog.token = context.token
        if context.media is not None or self.ownership.peers.keeper is not None:
            dialog.record  # noqa: B018 - made now: what it is made of changes
        self.install(dialog)
        node.count["answered"] += 1

    def _record(self, answer: Answer) -> DialogRecord:
        """The record of a call from its INVITE and its first 2xx."""
        caller, message = answer.caller, answer.request
        if caller is None:
            assert message is not None
            routes = message.all_lines(RECORD_ROUTE)
            caller = self.party(message, FROM, message.tag(FROM), answer.source, answer.listener, routes)
        caller.cseq = int(answer.cseq)
        record = DialogRecord(
            call_id=answer.call_id,
            key=answer.key,
            caller=caller,
            callees=[self._callee(answer.tag, answer.target, answer.listener, answer.response)],
            via_branch=answer.via_branch,
            invite_cseq=caller.cseq,
            started=answer.started,
            answered=answer.answered,
            source_ip=answer.source[0],
            request_uri=answer.uri,
            target_uri=answer.target.uri,
        )
        if answer.media is not None:
            answer.media.into(record)
        return record

    def install(self, dialog: Dialog) -> None:
        """Own a dialog: it stands in the table and, before anything else leaves, in the store."""
        self.add(dialog)
        self.ownership.put(dialog)

    def add(self, dialog: Dialog) -> None:
        """Own a dialog that stands in the store already; one that has ended here does not come back."""
        node = self._node
        known = node.dialogs.get(dialog.key)
        if known is not None:
            if known.ended or known is dialog:
                return
            known.owned = False
            node.owned -= 1
        node.owned += 1
        node.dialogs[dialog.key] = dialog
        if dialog.token:
            node.tokens[dialog.token] = dialog
        if node.recall is not None:
            for party in (dialog.record.caller, *dialog.record.callees):
                node.recall(party.source, party.listener, party.flow, dialog.answered)

    def lose(self, dialog: Dialog) -> None:
        """Somebody else owns it now."""
        node = self._node
        if node.dialogs.get(dialog.key) is dialog:
            del node.dialogs[dialog.key]
            node.tokens.pop(dialog.token, None)
            if not dialog.ended:
                node.owned -= 1
        dialog.owned = False

    def end(self, dialog: Dialog, by: str, ended: float | None = None) -> None:
        """A BYE is about to be forwarded: the record ends and the CDR is written before it (DESIGN 2.8).

        `ended` is the Unix time of a BYE that went through earlier.
        """
        node = self._node
        known = node.dialogs.get(dialog.key)
        if dialog.ended or (known is not None and known.ended):
            return
        dialog.ended = True
        if known is not None:
            known.ended = True
            node.owned -= 1
        node.count["ended"] += 1
        if self.ownership.peers.keeper is None:
            node.log("info", "call-ended", dialog.call_id, ended_by=by)
            return
        cdr = self.cdr(dialog.record, by, node.wall if ended is None else ended)
        self.ownership.end(dialog, cdr)
        node.log("info", "call-ended", dialog.call_id, ended_by=by, duration=cdr.duration)

    def leave(self, dialog: Dialog, tag: bytes) -> bool:
        """A BYE from or to the callee with this tag; whether the call is over with it."""
        if not dialog.made or len(dialog.record.callees) < 2:
            return True
        callees = dialog.record.callees
        dialog.record.callees = [callee for callee in callees if callee.tag != tag] or callees[:1]
        self.ownership.put(dialog)
        return False

    def _end_the_oldest(self, _: None, now: float) -> None:
        """A call whose BYE never came is ended here, by its owner alone (DESIGN 2.7)."""
        node = self._node
        peers = self.ownership.peers
        if peers.keeper is None or peers.valid():
            oldest = node.wall - LONGEST
            old = [d for d in node.dialogs.values() if d.owned and not d.ended and d.answered < oldest]
            for dialog in old:
                self.end(dialog, "proxy")
                self.forget(dialog)
        node.timers.start(LOOK_EVERY, now, self._end_the_oldest, None)

    def forget(self, dialog: Dialog) -> None:
        """The BYE's transaction is over."""
        known = self._node.dialogs.get(dialog.key)
        if known is not None and known.ended:
            del self._node.dialogs[dialog.key]
            self._node.tokens.pop(known.token, None)

    def cdr(self, record: DialogRecord, by: str, ended: float) -> Cdr:
        """FEATURES CDR-02."""
        source, asked, target = (_uri(u) for u in (record.caller.uri, record.request_uri, record.target_uri))
        return Cdr(
            id=record.key.hex(),
            call_id=record.call_id.decode("utf-8", "replace"),
            src_user=_text(source.user),
            src_domain=_text(source.host),
            src_ip=record.source_ip,
            dst_ouser=_text(asked.user),
            dst_user=_text(target.user),
            dst_domain=_text(target.host),
            started=_milli(record.started),
            answered=_milli(record.answered),
            ended=_milli(ended),
            duration=_milli(max(0.0, ended - record.answered)),
            ended_by=by,
            owner=self._node.config.pod.name,
            relay=record.relay_pod,
        )

    def bare_cdr(self, key: bytes, by: str, bye: Message) -> Cdr:
        """What a BYE says of a call whose record is lost: who with whom, and when it ended."""
        caller, callee = (FROM, TO) if by == "caller" else (TO, FROM)
        source, target = _uri(bye.uri_of(caller)), _uri(bye.uri_of(callee))
        now = round(self._node.wall, 3)
        return Cdr(
            id=key.hex(),
            call_id=_text(bye.call_id),
            src_user=_text(source.user),
            src_domain=_text(source.host),
            src_ip="",
            dst_ouser=_text(target.user),
            dst_user=_text(target.user),
            dst_domain=_text(target.host),
            started=0.0,
            answered=0.0,
            ended=now,
            duration=0.0,
            ended_by=by,
            owner=self._node.config.pod.name,
        )

    def _callee(self, tag: bytes, target: Target, listener: int, response: Message) -> Party:
        routes = response.all_lines(RECORD_ROUTE)
        # Seen from us the callee's route set is what stands below (before) our own Record-Route (RFC 3261 12.1.2).
        ours = len(routes) - 1
        while ours >= 0 and not self._is_own(routes[ours]):
            ours -= 1
        below = routes[:ours] if ours > 0 else []
        return self.party(response, TO, tag, target.address, listener, below[::-1])

    def party(
        self, message: Message, side: int, tag: bytes, source: Address, listener: int, routes: list[bytes]
    ) -> Party:
        """What a message says of the side that sent it."""
        contact = message.value(CONTACT)
        if contact[:1] == b"<" and contact[-1:] == b">" and contact.count(b"<") == 1:
            target = contact[1:-1]
        else:
            target = message.uri_of(CONTACT) if contact else b""
        values = [line.partition(b":")[2].strip() for line in routes] if routes else []
        uri = message.uri_of(side)
        return Party(
            tag,
            uri,
            target,
            contact,
            values,
            source,
            listener,
            self._node.arrival(source, listener),
            message.value(ALLOW),
            message.value(SUPPORTED),
            nat=not routes and not message.status and _behind_nat(message, target, source),
        )

    def heard(self, dialog: Dialog, request: Message, source: Address) -> None:
        """A request of the caller: where it comes from may have changed (a NAT, or a node that shows another port)."""
        caller = dialog.record.caller
        if caller.source != source and not caller.routes:
            caller.source = source
            caller.nat = _behind_nat(request, caller.target, source)
            self.ownership.put(dialog)

    def _is_own(self, line: bytes) -> bool:
        if line[line.find(b"@") :] in self._node.route_ends:
            return True
        try:
            return self._node.router.is_our_route(parse_uri(name_addr(line.partition(b":")[2])[0]))
        except UriError:
            return False

    def _forked(self, dialog: Dialog, tag: bytes, branch: Branch, response: Message) -> None:
        callees = dialog.record.callees
        if all(callee.tag != tag for callee in callees) and len(callees) < MAX_CALLEES:
            callees.append(self._callee(tag, branch.target, branch.context.listener, response))
            self.ownership.put(dialog)

    def _refresh(self, dialog: Dialog, request: Message, response: Message) -> None:
        from_tag = request.tag(FROM)
        by_caller = from_tag == dialog.record.caller.tag
        callee = self.callee(dialog, request.tag(TO) if by_caller else from_tag)
        pairs = [(dialog.record.caller, request if by_caller else response)]
        if callee is not None:
            pairs.append((callee, response if by_caller else request))
        changed = False
        for party, message in pairs:
            contact = message.value(CONTACT)
            if contact and contact != party.contact:
                party.contact, party.target, changed = contact, message.uri_of(CONTACT), True
        if changed:
            self.ownership.put(dialog)

    def callee(self, dialog: Dialog, tag: bytes) -> Party | None:
        """The callee with this tag; the first one when the tag is nobody's."""
        callees = dialog.record.callees
        return next((c for c in callees if c.tag == tag), callees[0] if callees else None)


_NOBODY = Uri(b"sip", b"", b"", 0, b"")


def _behind_nat(message: Message, contact: bytes, source: Address) -> bool:
    """Whether a phone calls itself, in Via and Contact, by an address that its packets do not come from."""
    if b"@%b:%d" % (source[0].encode(), source[1]) in contact:
        return False
    try:
        via = message.via()
        said = parse_uri(contact).address
    except (BadMessage, UriError):
        return False
    own = (ip_of(via.host), via.port or 5060)
    return said == own and own != source and (own[0] != source[0] or via.rport)


def _uri(text: bytes) -> Uri:
    try:
        return parse_uri(text)
    except UriError:
        return _NOBODY


def _milli(seconds: float) -> float:
    """To a thousandth; a third of the time of round()."""
    return int(seconds * 1000 + 0.5) / 1000


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
