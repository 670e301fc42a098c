"""What dead proxies owned and nobody asks for: the living proxy with the lowest index adopts it (DESIGN 2.7)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sipcore import record as records
from sipcore.errors import SipcoreError
from sipcore.record import DialogRecord
from sipcore.resp import Value
from sipcore.store import Command

from .actions import Store
from .adoption import KIND, Adoption
from .context import Dialog
from .node import Node
from .peers import Peers

if TYPE_CHECKING:
    from .dialogs import Dialogs

SWEEP_KEYS = 200
"""Keys looked at in one step."""
SWEEP_PAUSE = 0.02
"""Seconds between steps."""


class Orphans:
    """A paced walk through all dialogs of the cluster, begun when a proxy has died."""

    def __init__(self, node: Node, peers: Peers, adoption: Adoption, adopt: bool) -> None:
        self._node = node
        self._peers = peers
        self._adoption = adoption
        self._adopt = adopt
        self._sweeping = False
        self._swept: frozenset[int] | None = None
        """The living proxies when the last sweep began."""
        self.dialogs: Dialogs

    def look(self) -> None:
        """The living proxy with the lowest index takes what dead ones owned, before anybody asks for it."""
        node, keeper = self._node, self._peers.keeper
        if keeper is None or not self._adopt or self._sweeping or not self._peers.available:
            return
        if not self._peers.writable or not self._peers.lowest():
            return
        alive = frozenset(keeper.alive) - self._peers.down
        fallen = (self._swept or frozenset()) - alive
        if self._swept is None and not keeper.trusted(node.now):
            return
        if fallen and not all(map(self._peers.dead, fallen)):
            return  # not proved yet
        if self._swept is None or fallen:
            self._sweeping = True
            self._sweep(b"0", 0.0)
        self._swept = alive

    def _sweep(self, cursor: bytes, now: float) -> None:
        """One step through all dialogs of the cluster: those of dead owners become ours (DESIGN 2.7)."""
        pattern = self._peers.keys.dialog(b"")[:-1] + b":*"
        scan = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SWEEP_KEYS)
        self._node.out.append(Store([scan], self._scanned))

    def _scanned(self, replies: list[Value] | None) -> None:
        reply = replies[0] if replies else None
        if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
            self._stop_sweep()
            return
        cursor, names = reply
        found = [name for name in names if isinstance(name, bytes)] if isinstance(names, list) else []
        if found:
            heads: list[Command] = [(b"GETRANGE", name, 0, records.HEADER_BYTES - 1) for name in found]
            self._node.out.append(Store(heads, partial(self._sweep_heads, found)))
        if cursor == b"0":
            self._sweeping = False
        else:
            self._node.timers.start(SWEEP_PAUSE, self._node.now, self._sweep, cursor)

    def _stop_sweep(self) -> None:
        self._sweeping, self._swept = False, None

    def _sweep_heads(self, names: list[bytes], replies: list[Value] | None) -> None:
        node, peers = self._node, self._peers
        orphans: list[tuple[bytes, int]] = []
        commands: list[Command] = []
        for name, head in zip(names, replies or (), strict=False):
            if not isinstance(head, bytes) or len(head) != records.HEADER_BYTES or head[:1] != KIND:
                continue
            owner, epoch = int.from_bytes(head[2:4], "big"), int.from_bytes(head[4:8], "big")
            try:
                key = bytes.fromhex(name.rpartition(b":")[2].decode())
            except ValueError:
                continue
            if peers.dead(owner) and peers.valid():
                orphans.append((key, epoch))
                commands.append(self._adoption.adopt_command(key, owner, epoch))
        if commands:
            node.out.append(Store(commands, partial(self.taken, orphans)))

    def taken(self, orphans: list[tuple[bytes, int]], replies: list[Value] | None) -> None:
        """(dialog key, epoch) of what we asked for, and what the store has now."""
        node = self._node
        taken = 0
        for (_, epoch), value in zip(orphans, replies or (), strict=False):
            if not isinstance(value, bytes) or value[:8] != records.seal_header(KIND, node.index, epoch + 1):
                continue
            try:
                _, _, record = records.unseal(value, DialogRecord)
            except SipcoreError as error:
                node.log("error", "bad-record", error=str(error))
                continue
            self.dialogs.add(Dialog.of(record, epoch + 1))
            taken += 1
        node.count["adopted"] += taken
        if taken:
            node.log("info", "adopted", dialogs=taken)
