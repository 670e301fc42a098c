"""The other proxies of the cluster: their leases and ours, the hop to them, and what is done when one is dead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

from sipcore import __version__
from sipcore.config import endpoint
from sipcore.lease import INTERVAL, LIFE, LeaseKeeper
from sipcore.record import Lease
from sipcore.resp import Value
from sipcore.store import Keys
from sipcore.uri import Address

from . import hop
from .actions import SendHop, Store
from .node import Node
from .outlook import Outlook

if TYPE_CHECKING:
    from .flowlog import FlowLog

RING = 256
"""Messages handed to a peer that are kept, to be served here when it turns out dead."""
RING_AGE = 1.0
"""Seconds: what was handed over earlier was served, or its sender has sent it again."""
ANYBODY = 0
"""The index that no proxy has."""
MAX_WAITING = 4096
MAX_PINGS = 64


class Handed(NamedTuple):
    """A message that was handed to a peer."""

    time: float
    data: bytes
    source: Address
    listener: int
    flags: int


class Peers:
    """Without a store there are none."""

    def __init__(self, node: Node) -> None:
        """Raises `ConfigError`."""
        self._node = node
        config, pod = node.config, node.config.pod
        self.keys = Keys(pod.namespace, pod.set)
        self.keeper: LeaseKeeper | None = None
        self.available = False
        self.run_id = ""
        self._beating = self._beat_again = False
        self.down: set[int] = set()
        """Indexes whose internal port is closed: dead now, whatever their lease says (DESIGN 2.5)."""
        self._asked: dict[int, float] = {}
        """Index that nobody knew, or `ANYBODY` -> when we asked the store for it."""
        self._wait_for_leases: list[Callable[[], None]] = []
        self._rings: dict[tuple[Address, int], deque[Handed]] = {}
        """By peer, and apart what it only has to send on (`hop.EMIT`)."""
        self.again: Callable[[Handed], None]
        """Gets what was handed to a peer that is dead."""
        self.beaten: Callable[[], None]
        """Called after each heartbeat that was answered."""
        self.fell: Callable[[], None]
        """Called when a peer turned out dead."""
        self.own_empty: Callable[[], bool]
        self.outlook = Outlook(node)
        self.beside: FlowLog | None = None
        """Reads what it needs in the same round trip as a heartbeat."""
        if config.store != "none":
            lease = Lease(
                kind="proxy",
                pod=pod.name,
                uid=pod.uid,
                set=pod.set,
                ordinal=pod.slot,
                version=__version__,
                revision=pod.revision,
                address=endpoint(config.internal) if config.internal else ("", 0),
                listeners=[(one.transport, one.address, one.port) for one in config.listeners],
                names=[name.decode() for name in node.sent_by],
                capacity=config.capacity,
            )
            self.keeper = LeaseKeeper(self.keys, lease)
            node.timers.start(0.0, float("-inf"), self._tick, None)

    # -- leases

    @property
    def writable(self) -> bool:
        """Whether what we write can be told from what others write: the store has given us an index."""
        return self._node.index != 0

    def valid(self) -> bool:
        """Whether we may do what only an owner does (DESIGN 2.7)."""
        return self.keeper is not None and self.keeper.valid(self._node.now)

    def lease(self, index: int) -> Lease | None:
        """The lease of a living peer, None for ourselves and for whoever is not known to live."""
        if self.keeper is None or index == self._node.index or index in self.down:
            return None
        return self.keeper.alive.get(index)

    def dead(self, index: int) -> bool:
        """Whether the proxy of this index is proved dead: by its closed port, or by its lease."""
        if self.keeper is None or index == self._node.index:
            return False
        return index in self.down or self.keeper.dead(index, self._node.now)

    @property
    def asked(self) -> int:
        """Messages that wait for what the store says of the peers."""
        return len(self._wait_for_leases)

    def look_for(self, index: int, go_on: Callable[[], None]) -> bool:
        """Ask the store for a proxy that is not known to live; False: it was asked lately, or its port is closed.

        A proxy may serve its first call before its peers have read its lease. `go_on` is called with the answer.
        """
        if index in (0, self._node.index) or index in self.down or self.lease(index) is not None:
            return False
        return self._ask(index, go_on)

    def look_for_room(self, go_on: Callable[[], None]) -> bool:
        """Ask the store for a peer that takes a new call; False: it was asked lately."""
        return self._ask(ANYBODY, go_on)

    def _ask(self, what: int, go_on: Callable[[], None]) -> bool:
        """One heartbeat serves all that ask while it is under way; for the same thing once in an interval."""
        node = self._node
        if not self.available or len(self._wait_for_leases) >= MAX_WAITING:
            return False
        if not self._wait_for_leases:
            if node.now - self._asked.get(what, float("-inf")) < INTERVAL:
                return False
            if len(self._asked) >= MAX_WAITING:
                self._asked.clear()
            self.heartbeat()
        self._asked[what] = node.now
        self._wait_for_leases.append(go_on)
        return True

    def lowest(self) -> bool:
        """Whether we are the living proxy with the lowest index: it adopts what nobody asks for."""
        if self.keeper is None:
            return False
        alive = [i for i, lease in self.keeper.alive.items() if i not in self.down and not lease.draining]
        return not self._node.draining and min(alive, default=0) == self._node.index

    def shared(self) -> list[int]:
        """Numbers of our listeners that a living peer has too who means to stay."""
        keeper = self.keeper
        if keeper is None:
            return []
        theirs = {
            tuple(one)
            for index, lease in keeper.alive.items()
            if not lease.draining and self.lease(index) is not None
            for one in lease.listeners
        }
        return [number for number, one in enumerate(keeper.lease.listeners) if tuple(one) in theirs]

    def with_room(self, name: bytes) -> Lease | None:
        """A peer that takes a new call; the same one for the same name as long as the peers are the same."""
        if self.keeper is None:
            return None
        return _one_of(self._with_room(self.keeper), name)

    def in_our_stead(self, name: bytes) -> Lease | None:
        """The same of those who are called what we are called: requests of a standing dialog find them where they
        found us."""
        keeper = self.keeper
        if keeper is None:
            return None
        ours = set(keeper.lease.names)
        return _one_of([lease for lease in self._with_room(keeper) if not ours.isdisjoint(lease.names)], name)

    def _with_room(self, keeper: LeaseKeeper) -> list[Lease]:
        return [
            lease
            for index, lease in keeper.alive.items()
            if index != self._node.index and index not in self.down and lease.room > 0 and lease.address[1]
        ]

    def heartbeat(self) -> None:
        """Renew our lease now."""
        node, keeper = self._node, self.keeper
        if keeper is None:
            return
        if self._beating:
            self._beat_again = True  # two on their way without an index would get two indexes
            return
        self._beating, self._beat_again = True, False
        lease = keeper.lease
        lease.started = lease.started or node.wall
        lease.active, lease.transactions = node.owned, node.open
        lease.capacity = node.config.capacity
        lease.cordoned, lease.draining, lease.ready = node.cordoned, node.draining, True
        lease.empty = self.own_empty()
        lease.seen_as, lease.sources = self.outlook.seen_as, self.outlook.sources
        sent, carried, beside = node.now, lease.index, self.beside

        def answered(replies: list[Value] | None) -> None:
            self._beating = False
            if replies is None:
                if self._beat_again and self.available:
                    self.heartbeat()  # the store came while the answer was under way that it is away
            else:
                keeper.answered(replies[0], sent)
                if lease.index == carried:
                    node.index = carried
                if lease.index != carried or self._beat_again:
                    self.heartbeat()  # others know us by the index that stands in the lease: only then it is ours
                self.down.intersection_update(keeper.alive)
                self.down |= self._replaced(keeper)
                if beside is not None and keeper.renewed == sent:
                    beside.answered(replies[1:], keeper.server_ms, sent)
                self.beaten()
                self._ping(keeper)
            waiting, self._wait_for_leases = self._wait_for_leases, []
            for go_on in waiting:
                go_on()

        commands = [keeper.heartbeat()]
        if beside is not None:
            commands += beside.commands()
        node.out.append(Store(commands, answered))

    def _replaced(self, keeper: LeaseKeeper) -> set[int]:
        """Proxies whose internal address a younger one has now: they are dead before their lease ends."""
        youngest: dict[Address, Lease] = {}
        for lease in keeper.alive.values():
            other = youngest.get(lease.address)
            if other is None or other.started < lease.started:
                youngest[lease.address] = lease
        return {i for i, lease in keeper.alive.items() if lease.address[1] and youngest[lease.address] is not lease}

    def _ping(self, keeper: LeaseKeeper) -> None:
        """A closed port is noticed within a second, not only when a call needs it (DESIGN 2.5)."""
        for index in list(keeper.alive)[:MAX_PINGS]:
            lease = self.lease(index)
            if lease is not None and lease.address[1]:
                self.tell(lease, {"t": "ping"})

    def store_changed(self, available: bool, run_id: str) -> bool:
        """The store came or went; whether it is another one than before."""
        if self.keeper is None:
            return False
        other = available and run_id != self.run_id
        if available:
            self.run_id = run_id
        if available != self.available or other:
            self.keeper.store_changed(available, self._node.now)
        self.available = available
        if available:
            self.heartbeat()
        return other

    def release(self) -> None:
        """Take our lease away: we end."""
        if self.keeper is not None and self.writable:
            self._node.out.append(Store([self.keeper.release()]))

    def slept(self, since: float) -> bool:
        """Whether others may have taken us for dead while the loop stood still."""
        return self.available and self.writable and self._node.now - since >= LIFE - INTERVAL / 2

    def _tick(self, _: None, now: float) -> None:
        self.heartbeat()
        self._node.timers.start(INTERVAL, now, self._tick, None)

    # -- hops

    def hand(self, peer: Lease, data: bytes, source: Address, listener: int, flags: int) -> None:
        """Give a raw message to a peer, and keep it for a second."""
        node = self._node
        key = (peer.address, flags & hop.EMIT)
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = deque(maxlen=RING)
        ring.append(Handed(node.now, data, source, listener, flags))
        node.count["hops_sent"] += 1
        if not flags & hop.EMIT:
            arrival = node.arrival(source, listener)
            if arrival:
                flags, data = flags | hop.ARRIVAL, arrival.to_bytes(2, "big") + data
        node.out.append(SendHop(hop.pack(node.key, data, source, listener, flags), peer.address))

    def tell(self, peer: Lease, what: dict[str, object]) -> None:
        """Send a control message."""
        node = self._node
        data = msgspec.msgpack.encode({**what, "from": node.index})
        node.out.append(SendHop(hop.pack(node.key, data, ("0.0.0.0", 0), 0, hop.CONTROL), peer.address))

    def peer_down(self, address: Address) -> None:
        """ICMP error: nobody listens there any more; what it may not have served is served here.

        Without provisional responses: they may be lost, but must not arrive after a final one that it did send.
        """
        node = self._node
        if self.keeper is not None:
            gone = {i for i, lease in self.keeper.alive.items() if lease.address == address and i != node.index}
            if gone - self.down:
                node.log("warning", "peer-down", peer=f"{address[0]}:{address[1]}", indexes=sorted(gone))
            self.down |= gone
        self.fell()
        for kind in (0, hop.EMIT):
            for handed in self._rings.pop((address, kind), ()):
                if node.now - handed.time <= RING_AGE and not handed.data.startswith(b"SIP/2.0 1"):
                    self.again(handed)


def _one_of(leases: list[Lease], name: bytes) -> Lease | None:
    return max(leases, key=lambda lease: crc32(b"%b%d" % (name, lease.index)), default=None)
