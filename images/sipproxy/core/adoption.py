"""Dialogs in the store: written by their owner, found by all, adopted when the owner is dead (DESIGN 2.5, 2.7, 2.9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sipcore import record as records
from sipcore.errors import SipcoreError
from sipcore.message import Message
from sipcore.record import Cdr, DialogRecord
from sipcore.resp import Value
from sipcore.store import ADOPT, CDR_GUARD_S, CDR_STREAM_LENGTH, DIALOG_LIFE_S, END, ENDED_LIFE_S, PUT, Command

from .actions import Store
from .context import Dialog
from .hop import HOPS_SHIFT, MAX_HOPS
from .node import Node
from .peers import Peers

if TYPE_CHECKING:
    from .dialogs import Dialogs
    from .incoming import Incoming
    from .orphans import Orphans
    from .requests import Requests

WAIT = 0.05
"""Seconds that a request waits for the store before it is served by its token alone (DESIGN 2.5)."""
MAX_PARKED = 10_000
MAX_UNSEEN = 100_000
MAX_MOVED = 100_000
REASSERT_AT_ONCE = 100
"""Records in one write."""
UNSEEN_PATIENCE = 5.0
"""Seconds that others have to end a dialog whose BYE we served without its record."""
KIND = b"D"
ENDED = b"X"

_PUT = PUT.template(1, None, b"%d" % DIALOG_LIFE_S)
_END = END.template(3, None, None, *(b"%d" % n for n in (CDR_GUARD_S, CDR_STREAM_LENGTH, ENDED_LIFE_S)))
_json = msgspec.json.Encoder().encode


class Adoption:
    """Records of dialogs."""

    def __init__(self, node: Node, peers: Peers, adopt: bool) -> None:
        self._node = node
        self._peers = peers
        self._adopt = adopt
        self._parked: dict[bytes, list[Incoming]] = {}
        """Requests that wait for the store's answer, by the key that was asked for."""
        self._moved: dict[bytes, int] = {}
        """Dialogs that we handed over -> index of their owner."""
        self._unseen: dict[bytes, Cdr] = {}
        """Dialogs whose BYE we served without their record -> all that their BYE says."""
        self._index = 0
        """Under which our records were written last."""
        self.dialogs: Dialogs
        self.requests: Requests
        self.orphans: Orphans

    # -- what we own

    def put(self, dialog: Dialog) -> None:
        """Write a record of ours; the write waits when the store is away."""
        if self._peers.writable and dialog.owned:
            self._node.out.append(Store([self.put_command(dialog)]))

    def put_command(self, dialog: Dialog) -> Command:
        value = records.seal(KIND, self._node.index, dialog.epoch, dialog.record)
        name = self._peers.keys.dialog(dialog.key)
        return _PUT % (len(name), name, len(value), value)

    def end(self, dialog: Dialog, cdr: Cdr) -> None:
        """Write the end of a dialog, before its BYE is forwarded (DESIGN 2.8)."""
        if self._peers.keeper is None:
            return
        keys = self._peers.keys
        name, guard, stream = keys.dialog(dialog.key), keys.cdr_guard(cdr.id), keys.cdr
        epoch, text = b"%d" % dialog.epoch, _json(cdr)
        script = _END % (len(name), name, len(guard), guard, len(stream), stream, len(epoch), epoch, len(text), text)
        self._node.out.append(Store([script], partial(self._ended, dialog, cdr, script)))

    def _ended(self, dialog: Dialog, cdr: Cdr, script: Command, replies: list[Value] | None) -> None:
        """Was the end written? It waits when the store is away, and follows a record that is newer than ours."""
        if replies is None:
            self._node.out.append(Store([script]))
        elif replies[0] == 0:
            read = (b"GET", self._peers.keys.dialog(dialog.key))
            self._node.out.append(Store([read], partial(self._end_later_epoch, dialog, cdr)))

    def _end_later_epoch(self, dialog: Dialog, cdr: Cdr, replies: list[Value] | None) -> None:
        value = replies[0] if replies else None
        if not isinstance(value, bytes) or value[:1] != KIND:
            return
        epoch = int.from_bytes(value[4:8], "big")
        if epoch <= dialog.epoch:
            return
        dialog.epoch = epoch
        lease = self._peers.lease(int.from_bytes(value[2:4], "big"))
        if lease is not None:
            self._peers.tell(lease, {"t": "ended", "keys": [dialog.key]})
        self.end(dialog, cdr)

    def ended_unseen(self, key: bytes, by: str, message: Message) -> None:
        """A BYE went through by its token alone: whoever has the record ends it, now or when the store is back."""
        peers = self._peers
        if peers.keeper is None:
            return
        for index in list(peers.keeper.alive):
            lease = peers.lease(index)
            if lease is not None:
                peers.tell(lease, {"t": "bye", "keys": [key], "by": by})
        if len(self._unseen) < MAX_UNSEEN:
            self._unseen[key] = self.dialogs.bare_cdr(key, by, message)

    def _end_unseen(self) -> None:
        """The store is there: are the dialogs whose BYE we served without their record in it?"""
        late = self._node.wall - UNSEEN_PATIENCE
        for key, cdr in [(key, cdr) for key, cdr in self._unseen.items() if cdr.ended <= late]:
            del self._unseen[key]
            read = (b"GET", self._peers.keys.dialog(key))
            self._node.out.append(Store([read], partial(self._saw, key, cdr)))

    def _saw(self, key: bytes, cdr: Cdr, replies: list[Value] | None) -> None:
        if replies is None:
            self._unseen[key] = cdr
            return
        value = replies[0]
        if value is None:
            # Record, owner and store are gone: what the BYE says is all that is left of the call, and it had one.
            dialog = Dialog(key, cdr.call_id.encode(), b"", _no_record, 0)
            self.end(dialog, cdr)
            return
        if not isinstance(value, bytes) or value[:1] != KIND:
            return
        try:
            owner, epoch, record = records.unseal(value, DialogRecord)
        except SipcoreError as error:
            self._node.log("error", "bad-record", error=str(error))
            return
        lease = self._peers.lease(owner)
        if lease is not None:
            self._peers.tell(lease, {"t": "bye", "keys": [key], "by": cdr.ended_by})
        dialog = Dialog.of(record, epoch)
        dialog.owned = False
        self.dialogs.end(self._node.dialogs.get(key, dialog), cdr.ended_by, cdr.ended)

    def reassert(self, done: Callable[[], None] | None = None) -> None:
        """Write all that we own again, lose what has a later owner (DESIGN 2.9), then call `done`."""
        node = self._node
        if not self._peers.writable:
            if done is not None:
                done()
            return
        self._index = node.index
        owned = [d for d in node.dialogs.values() if d.owned and not d.ended]
        for start in range(0, len(owned), REASSERT_AT_ONCE):
            part = owned[start : start + REASSERT_AT_ONCE]
            last = start + REASSERT_AT_ONCE >= len(owned)
            answered = partial(self._reasserted, part, done if last else None)
            node.out.append(Store([self.put_command(d) for d in part], answered))
        if not owned and done is not None:
            done()

    def _reasserted(self, part: list[Dialog], done: Callable[[], None] | None, replies: list[Value] | None) -> None:
        for dialog, reply in zip(part, replies or (), strict=False):
            if isinstance(reply, bytes):
                self.dialogs.lose(dialog)
        if done is not None:
            done()

    def moved(self, key: bytes, owner: int) -> None:
        """A dialog of ours belongs to a peer now."""
        if len(self._moved) >= MAX_MOVED:
            del self._moved[next(iter(self._moved))]
        self._moved[key] = owner

    # -- what others own

    def foreign_request(self, incoming: Incoming) -> bool:
        """A request of a dialog that is not in memory; False: it can only be served by its token."""
        node, peers, token = self._node, self._peers, incoming.token
        if peers.keeper is None:
            return False
        message = incoming.message
        if token is not None:
            keys = [token.dialog_key]
            owner = self._moved.get(token.dialog_key, token.owner)
        else:
            keys = [node.key.dialog_key(message.call_id, tag) for tag in (incoming.from_tag, incoming.to_tag) if tag]
            owner = next((self._moved[key] for key in keys if key in self._moved), 0)
        if self._hand(incoming, owner):
            return True
        if not peers.available or not peers.writable:
            return False
        if len(self._parked) >= MAX_PARKED:
            return False
        waiting = self._parked.setdefault(keys[0], [])
        waiting.append(incoming)
        if len(waiting) == 1:
            node.timers.start(WAIT, node.now, self._too_late, keys[0])
            reads: list[Command] = [(b"GET", peers.keys.dialog(key)) for key in keys]
            node.out.append(Store(reads, partial(self._looked_up, keys)))
        return True

    def _hand(self, incoming: Incoming, owner: int) -> bool:
        lease = self._peers.lease(owner) if owner else None
        if lease is None or incoming.hops >= MAX_HOPS:
            return False
        flags = incoming.hops + 1 << HOPS_SHIFT
        self._peers.hand(lease, incoming.data, incoming.source, incoming.listener, flags)
        return True

    def _too_late(self, key: bytes, now: float) -> None:
        for incoming in self._parked.pop(key, ()):
            self._without_record(incoming)

    def _without_record(self, incoming: Incoming) -> None:
        token = incoming.token
        if not self._adopt and (token is None or token.owner != self._node.index):
            self.requests.refuse(incoming, 481)
            return
        self.requests.resume(incoming, None)

    def _looked_up(self, keys: list[bytes], replies: list[Value] | None) -> None:
        """The store's answer; the first key that has a record counts."""
        for key, value in zip(keys, replies or (), strict=False):
            if isinstance(value, bytes):
                self._found(keys[0], key, value)
                return
        self._too_late(keys[0], 0.0)

    def _found(self, parked: bytes, key: bytes, value: bytes) -> None:
        """A record as it stands in the store now."""
        node, peers = self._node, self._peers
        try:
            owner, epoch, record = records.unseal(value, DialogRecord)
        except SipcoreError as error:
            node.log("error", "bad-record", error=str(error))
            self._too_late(parked, 0.0)
            return
        dialog = Dialog.of(record, epoch)
        known = node.dialogs.get(key)
        if value[:1] == ENDED:
            # Its owner, when it lives, has the BYE's transaction; a second one with that branch would get no answer.
            dialog.owned, dialog.ended = False, True
            waiting = self._parked.pop(parked, [])
            self._parked[parked] = [incoming for incoming in waiting if not self._hand(incoming, owner)]
        elif owner == node.index:
            dialog = known or dialog
            self.dialogs.add(dialog)
        elif peers.lease(owner) is not None:
            for incoming in self._parked.pop(parked, ()):
                if not self._hand(incoming, owner):
                    dialog.owned = False
                    self.requests.resume(incoming, dialog)
            return
        elif not self._adopt:
            for incoming in self._parked.pop(parked, ()):
                self.requests.refuse(incoming, 481)
            return
        elif peers.dead(owner) and peers.valid():
            node.out.append(Store([self.adopt_command(key, owner, epoch)], partial(self._adopted, parked, key, epoch)))
            return
        elif peers.look_for(owner, partial(self._found, parked, key, value)):
            return
        else:
            dialog.owned = False  # nobody knows whether its owner lives: served without changing it
        for incoming in self._parked.pop(parked, ()):
            self.requests.resume(incoming, dialog)

    def with_dialog(self, keys: list[bytes], found: Callable[[Dialog | None], None]) -> None:
        """Call `found` with the dialog of one of these keys: ours, or adopted from a dead owner; else with None."""
        node, peers = self._node, self._peers
        for key in keys:
            if key in node.dialogs:
                found(node.dialogs[key])
                return

        def looked_up(replies: list[Value] | None) -> None:
            for key, value in zip(keys, replies or (), strict=False):
                if not isinstance(value, bytes) or value[:1] != KIND:
                    continue
                owner, epoch = int.from_bytes(value[2:4], "big"), int.from_bytes(value[4:8], "big")
                if peers.dead(owner) and peers.valid():
                    node.out.append(Store([self.adopt_command(key, owner, epoch)], partial(adopted, key, epoch)))
                    return
            found(None)

        def adopted(key: bytes, epoch: int, replies: list[Value] | None) -> None:
            value = replies[0] if replies else None
            if isinstance(value, bytes):
                self.orphans.taken([(key, epoch)], [value])
            found(node.dialogs.get(key))

        node.out.append(Store([(b"GET", peers.keys.dialog(key)) for key in keys], looked_up))

    def adopt_command(self, key: bytes, owner: int, epoch: int) -> Command:
        expected = records.seal_header(KIND, owner, epoch)
        ours = records.seal_header(KIND, self._node.index, epoch + 1)
        return ADOPT.call((self._peers.keys.dialog(key),), expected, ours, DIALOG_LIFE_S)

    def _adopted(self, parked: bytes, key: bytes, epoch: int, replies: list[Value] | None) -> None:
        value = replies[0] if replies else None
        if not isinstance(value, bytes):
            self._too_late(parked, 0.0)
            return
        if value[:8] == records.seal_header(KIND, self._node.index, epoch + 1):
            self._node.count["adopted"] += 1
        self._found(parked, key, value)

    def beaten(self) -> None:
        """After each heartbeat: our index may be new, a peer may be proved dead."""
        node, keeper = self._node, self._peers.keeper
        assert keeper is not None
        if node.index and node.index != self._index:
            self.reassert()
        if self._unseen:
            self._end_unseen()
        self.orphans.look()


def _no_record() -> DialogRecord:
    raise LookupError("a dialog of which only its BYE is known has no record")
