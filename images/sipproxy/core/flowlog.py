"""Telling the other proxies which clients we hold, and reading what they tell (docs/decisions/0002, 0007).

What changed goes into the store at most every `STEP`, a few hundred flows in one write whose answer nobody waits for.
Each heartbeat brings the log of what others wrote since the last one; who missed some of it reads the whole table.
After the store was away, or has given us another index, all that we hold is told again: the later packet wins, whoever
writes later.
"""

from __future__ import annotations

from collections.abc import Iterable

from sipcore.errors import RecordError
from sipcore.flow import Flow, entries, pack, pack_value, unpack, unpack_value
from sipcore.resp import Value
from sipcore.store import FLOW_LOG_LENGTH, TELL_FLOWS, Command

from .actions import Store
from .flows import Flows
from .node import Node
from .peers import Peers

STEP = 0.05
"""Seconds between writes."""
AT_ONCE = 500
"""Flows in one write."""
LOG_ENTRIES = 500
"""Entries of the log in one read."""
SCAN_FLOWS = 1000
SCAN_PAUSE = 0.02


class FlowLog:
    """Between `Flows` and the store."""

    def __init__(self, node: Node, peers: Peers, flows: Flows) -> None:
        self._node = node
        self._peers = peers
        self._flows = flows
        self._claims: dict[Flow, None] = {}
        self._others: dict[Flow, tuple[int, float]] = {}
        """What is not ours -> its holder, 0 = nobody, and since when."""
        self._due = False
        self._index = 0
        """Under which the others know what we hold."""
        self._last: int | None = None
        """Number of the last entry of the log that was read; None: the whole table has to be read."""
        self._scanning = False
        self._offset: float | None = None
        """The store's clock minus ours, seconds."""

    # -- telling

    def claim(self, flow: Flow) -> None:
        """We hold it now."""
        self._others.pop(flow, None)
        self._claims[flow] = None
        self._soon()

    def tell(self, flow: Flow, holder: int, seen: float) -> None:
        """Another holds it, or nobody (0); its last packet came at `seen`."""
        self._claims.pop(flow, None)
        self._others[flow] = holder, seen
        self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._node.timers.start(STEP, self._node.now, self._write, None)

    def _write(self, _: None, now: float) -> None:
        self._due = False
        node, peers = self._node, self._peers
        if self._offset is None or not peers.available or node.index == 0 or node.index != self._index:
            self._claims.clear()  # all that we hold is told when the store is back
            self._others.clear()
            return
        told: list[bytes] = []
        for flow in list(self._claims)[:AT_ONCE]:
            del self._claims[flow]
            seen = self._flows.seen(flow)
            if seen is not None:
                self._add(told, flow, node.index, seen)
        for flow in list(self._others)[: AT_ONCE - len(told) // 2]:
            self._add(told, flow, *self._others.pop(flow))
        if told:
            keys = (peers.keys.flows, peers.keys.flow_log)
            node.count["flows_told"] += len(told) // 2
            node.out.append(Store([TELL_FLOWS.call(keys, FLOW_LOG_LENGTH, *told)]))
        if self._claims or self._others:
            self._soon()

    def _add(self, told: list[bytes], flow: Flow, holder: int, seen: float) -> None:
        assert self._offset is not None
        try:
            told += (pack(flow), pack_value(holder, round((seen + self._offset) * 1000)))
        except (ValueError, OverflowError):
            self._node.count["flows_refused"] += 1

    # -- reading

    def store_changed(self) -> None:
        """The store came or went: what was written meanwhile may have passed us by."""
        self._last = None
        self._index = 0

    def commands(self) -> list[Command]:
        """What goes to the store beside a heartbeat."""
        log = self._peers.keys.flow_log
        if self._last is None:
            return [(b"XREVRANGE", log, b"+", b"-", b"COUNT", 1)]
        # From the last entry on, itself too: it is missing when the log has been cut behind it, or is another one.
        return [(b"XRANGE", log, max(self._last, 1), b"+", b"COUNT", LOG_ENTRIES)]

    def answered(self, replies: list[Value], server_ms: float, sent: float) -> None:
        """The answers to `commands`, with the store's clock as of the heartbeat that was sent at `sent`."""
        node = self._node
        self._offset = server_ms / 1000 - (sent + node.now) / 2
        if node.index and node.index != self._index:
            self._index = node.index
            for flow in self._flows.held():
                self._claims[flow] = None
            if self._claims:
                self._soon()
        log = replies[0] if replies else None
        if not isinstance(log, list):
            return
        try:
            if self._last is None:
                self._last = _number(log[0]) if log else 0
                self._scan(b"0")
            else:
                self._follow(self._last, log)
        except RecordError as error:
            node.log("error", "bad-flows", error=str(error))

    def _follow(self, last: int, log: list[Value]) -> None:
        if last == 0 and not log:
            return
        if not log or _number(log[0]) != max(last, 1):
            self._last = None  # read the table at the next heartbeat
            return
        for entry in log[1:] if last else log:
            self._last = _number(entry)
            if isinstance(entry, list) and isinstance(entry[1], list) and len(entry[1]) == 2:
                data = entry[1][1]
                if isinstance(data, bytes):
                    self._take(entries(data))

    def _take(self, told: Iterable[tuple[Value, Value]]) -> None:
        """Raises `RecordError`."""
        assert self._offset is not None
        for name, value in told:
            if isinstance(name, bytes) and isinstance(value, bytes):
                holder, seen = unpack_value(value)
                self._flows.claimed(unpack(name), holder, seen / 1000 - self._offset)

    def _scan(self, cursor: bytes) -> None:
        if cursor == b"0":
            if self._scanning:
                return
            self._scanning = True
        scan = (b"HSCAN", self._peers.keys.flows, cursor, b"COUNT", SCAN_FLOWS)
        self._node.out.append(Store([scan], self._scanned))

    def _scanned(self, replies: list[Value] | None) -> None:
        reply = replies[0] if replies else None
        if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
            self._scanning, self._last = False, None
            return
        cursor, found = reply
        if self._offset is not None and isinstance(found, list):
            try:
                self._take(zip(found[::2], found[1::2], strict=False))
            except RecordError as error:
                self._node.log("error", "bad-flows", error=str(error))
        if isinstance(cursor, bytes) and cursor != b"0":
            self._node.timers.start(SCAN_PAUSE, self._node.now, lambda at, now: self._scan(at), cursor)
        else:
            self._scanning = False


def _number(entry: Value) -> int:
    """Of an entry of the log. Raises `RecordError`."""
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], bytes):
        number, dash, _ = entry[0].partition(b"-")
        if dash and number.isdigit():
            return int(number)
    raise RecordError(f"flows: {entry!r} given, an entry of the log expected")
