"""A proxy that leaves gives its dialogs to peers (DESIGN 2.10): the record first, then the peer is told and says so.

Only to peers that are reached at the same address. Who has an address of its own, as on host network, stands in the
Route of its dialogs, and waits for them to end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sipcore import record as records
from sipcore.errors import SipcoreError
from sipcore.record import DialogRecord
from sipcore.resp import Value
from sipcore.store import DIALOG_LIFE_S, PUT, Command

from .actions import JoinSelection, LeaveSelection, Store
from .adoption import KIND, Adoption
from .context import Dialog
from .node import Node
from .peers import Peers

if TYPE_CHECKING:
    from .dialogs import Dialogs
    from .flows import Flows

STEP = 0.05
AT_ONCE = 200
"""Dialogs given away in one step."""
TELL_AGAIN = 0.2
MAX_TOLD = 16_000
"""Bytes of records in one control message."""


class _Gift:
    """A dialog whose record names its new owner already, who has not said yet that it knows."""

    __slots__ = ("dialog", "peer", "told", "value")

    def __init__(self, dialog: Dialog, peer: int, value: bytes) -> None:
        self.dialog = dialog
        self.peer = peer
        self.value = value
        self.told = float("-inf")


class HandOver:
    """Runs while a drain does."""

    def __init__(self, node: Node, peers: Peers, adoption: Adoption) -> None:
        self._node = node
        self._peers = peers
        self._adoption = adoption
        self._asked: set[bytes] = set()
        self._gifts: dict[bytes, _Gift] = {}
        self._running = False
        self._left: list[int] = []
        """Listeners at which we are selected no more."""
        self.dialogs: Dialogs
        self.flows: Flows | None = None

    @property
    def under_way(self) -> int:
        """Dialogs that were given and not yet taken."""
        return len(self._gifts) + len(self._asked)

    def stop(self) -> None:
        """The drain is called off."""
        if self._left:
            self._node.out.append(JoinSelection(self._left))
            self._left = []

    def start(self) -> None:
        """A drain began. We leave the selection as soon as somebody is there to be selected instead."""
        if not self._running:
            self._running = True
            self._step(None, self._node.now)

    def _step(self, _: None, now: float) -> None:
        node = self._node
        if not node.draining:
            self._running = False
            return
        # Under a Service nobody else is selected instead: what conntrack brings here has to be read and handed on.
        if not self._left and not node.config.flows:
            self._left = self._peers.shared()
            if self._left:
                node.out.append(LeaveSelection(self._left))
        if self._peers.writable and self._peers.available:
            self._give()
            self._tell()
        if self.flows is not None:
            self.flows.give_away()
        node.timers.start(STEP, now, self._step, None)

    def _give(self) -> None:
        node, peers = self._node, self._peers
        chosen: list[tuple[Dialog, int, bytes]] = []
        commands: list[Command] = []
        for dialog in node.dialogs.values():
            if not dialog.owned or dialog.ended or dialog.key in self._asked or dialog.key in self._gifts:
                continue
            lease = peers.in_our_stead(dialog.key)
            if lease is None:
                return
            value = records.seal(KIND, lease.index, dialog.epoch + 1, dialog.record)
            chosen.append((dialog, lease.index, value))
            commands.append(PUT.call((peers.keys.dialog(dialog.key),), value, DIALOG_LIFE_S))
            self._asked.add(dialog.key)
            if len(chosen) == AT_ONCE:
                break
        if commands:
            node.out.append(Store(commands, partial(self._written, chosen)))

    def _written(self, chosen: list[tuple[Dialog, int, bytes]], replies: list[Value] | None) -> None:
        for i, (dialog, peer, value) in enumerate(chosen):
            self._asked.discard(dialog.key)
            reply = replies[i] if replies is not None else None
            if dialog.ended:
                continue
            if isinstance(reply, bytes):
                self.dialogs.lose(dialog)
            elif reply == 1:
                dialog.epoch += 1
                self._gifts[dialog.key] = _Gift(dialog, peer, value)
        self._tell()

    def _tell(self) -> None:
        """Tell the new owners; one that is dead is given up and its gifts are ours to give again."""
        node = self._node
        letters: dict[int, list[list[bytes]]] = {}
        size: dict[int, int] = {}
        for key, gift in list(self._gifts.items()):
            lease = self._peers.lease(gift.peer)
            if gift.dialog.ended:
                del self._gifts[key]
            elif lease is None:
                if self._peers.dead(gift.peer):
                    del self._gifts[key]  # its epoch is later than what the dead one has
            elif node.now - gift.told >= TELL_AGAIN and size.get(gift.peer, 0) < MAX_TOLD:
                gift.told = node.now
                letters.setdefault(gift.peer, []).append([key, gift.value])
                size[gift.peer] = size.get(gift.peer, 0) + len(gift.value)
        for peer, items in letters.items():
            lease = self._peers.lease(peer)
            if lease is not None:
                self._peers.tell(lease, {"t": "own", "items": items})

    def ended(self, dialog: Dialog) -> None:
        """A BYE came for a dialog that is on its way to a peer: the peer forgets it."""
        gift = self._gifts.pop(dialog.key, None)
        lease = self._peers.lease(gift.peer) if gift is not None else None
        if lease is not None:
            self._peers.tell(lease, {"t": "ended", "keys": [dialog.key]})

    # -- control messages

    def control(self, what: dict[str, object], unreachable: Callable[[bytes, object], None]) -> None:
        """A control message of a peer (docs/decisions/0002)."""
        kind, sender = what.get("t"), what.get("from")
        if kind == "own" and isinstance(sender, int):
            self._take(sender, what.get("items"))
        elif kind == "owned" and isinstance(sender, int):
            self._taken(sender, what.get("keys"))
        elif kind == "ended":
            keys = what.get("keys")
            for key in keys if isinstance(keys, list) else ():
                dialog = self._node.dialogs.get(key) if isinstance(key, bytes) else None
                if dialog is not None:
                    self.dialogs.lose(dialog)
        elif kind == "bye":
            keys, by = what.get("keys"), what.get("by")
            for key in keys if isinstance(keys, list) else ():
                dialog = self._node.dialogs.get(key) if isinstance(key, bytes) else None
                if dialog is not None:
                    self.dialogs.end(dialog, str(by))
                    self._node.timers.start(self._node.durations.timeout, self._node.now, self._forget, dialog)
        elif kind == "unreachable":
            branch = what.get("branch")
            if isinstance(branch, bytes):
                unreachable(branch, what.get("address"))

    def _forget(self, dialog: Dialog, now: float) -> None:
        self.dialogs.forget(dialog)

    def _take(self, sender: int, items: object) -> None:
        """Dialogs that are ours from now on."""
        node = self._node
        keys: list[bytes] = []
        for item in items if isinstance(items, list) else ():
            if not (isinstance(item, list) and len(item) == 2 and all(isinstance(part, bytes) for part in item)):
                continue
            key, value = item
            try:
                owner, epoch, record = records.unseal(value, DialogRecord)
            except SipcoreError as error:
                node.log("error", "bad-record", error=str(error))
                continue
            if owner != node.index:
                continue
            known = node.dialogs.get(key)
            if known is None or (not known.ended and known.epoch < epoch):
                self.dialogs.add(Dialog.of(record, epoch))
            keys.append(key)
        lease = self._peers.lease(sender)
        if lease is not None and keys:
            self._peers.tell(lease, {"t": "owned", "keys": keys})

    def _taken(self, sender: int, keys: object) -> None:
        for key in keys if isinstance(keys, list) else ():
            gift = self._gifts.pop(key, None) if isinstance(key, bytes) else None
            if gift is not None and not gift.dialog.ended:
                self._node.count["handed_over"] += 1
                self.dialogs.lose(gift.dialog)
                self._adoption.moved(key, sender)
