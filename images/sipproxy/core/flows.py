"""Which proxy can speak to which client (DESIGN 2.2): what arrives says so, what is sent goes that way.

Theory of operation. Under a Service the node turns a pod's packet back into one of the Service's address only when the
client's own packets reach that pod. The proxy where they arrive is the client's *holder*. What is for a client goes
through its holder; when the holder is dead it waits for the client's next packet, because a packet from anywhere else
reaches nobody and opens a conntrack entry that stands in the way of the right one (docs/decisions/0007).

A source that nobody knows is a *guest* until it is sent something that is no refusal; then it is a client and the
others are told (`flowlog`). So neither noise nor refused requests, however many, are told to anybody. A target of a
static route is a client as soon as it sends anything of its own accord, and gets requests directly when it has no
holder: what is configured can be reached by whoever speaks first.

A request for a target that nobody holds leaves from a socket beside the listener's where a Service is in between: the
conntrack entry that it opens is then none that the target's own packets would need, which come to the listener's port.

Everything is bounded, and a client that was silent for `LIFE` is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

import msgspec

from sipcore.errors import RecordError
from sipcore.flow import Flow, pack, unpack
from sipcore.uri import Address

from . import hop
from .actions import Send
from .node import Node
from .parked import Parked
from .peers import Peers
from .strangers import Strangers

LIFE = 180.0
"""Seconds without a packet: conntrack has forgotten an assured UDP entry after 120, keepalives come every 25."""
PATIENCE = 27.0
"""Seconds after the end of a holder in which its clients show up elsewhere if they keep alive at all; later they are
spoken to directly. It ends before the transactions that wait (timer F is 32 s)."""
MAX_HELD = 50_000
"""Clients of this proxy that the others are told of."""
MAX_KNOWN = 200_000
"""Clients of others; the oldest are forgotten first, and spoken to directly."""
MAX_GUESTS = 10_000
"""The same for targets that we have spoken to and nobody holds."""
NEW_A_SECOND = 1000
"""New clients that the others are told of; more stay guests for another second."""
MARGIN = 0.5
"""Seconds by which our own packet must be later than another's claim to contradict it: clocks of pods differ, and a
claim is only made where a client was not held before."""
MIN_MESSAGE = 16
"""Shorter datagrams are keep-alives (RFC 5626 3.5.1) or noise."""
ANSWERED = 180.0
"""Seconds in which a response answers what we sent directly from a listener's own socket (RFC 3261 timer C); later it
says where it arrives."""
TICK = 1.0
NEVER = float("-inf")
FORGET_EVERY = 10.0


class Place(msgspec.Struct):
    """Where the packets of a source arrive."""

    holder: int
    """Index; 0 = here."""
    seen: float
    """When one came there, on our clock."""
    lost: float = 0.0
    """Since when we know that what we send does not reach it, though it is ours; 0 = it does."""


class Log(Protocol):
    """Who tells the others (`flowlog`)."""

    def claim(self, flow: Flow) -> None:
        """We hold it now."""

    def tell(self, flow: Flow, holder: int, seen: float) -> None:
        """Another holds it, or nobody (0); its last packet came at `seen`."""


class Flows:
    """`arrived` for each datagram, `send` for each message; the rest is what peers say."""

    def __init__(self, node: Node, peers: Peers) -> None:
        self._node = node
        self._peers = peers
        listeners = node.config.listeners
        numbers = range(len(listeners))
        self._beside = [len(listeners) if one.advertised else 0 for one in listeners]
        """How far the socket's number is off that speaks to whom nobody holds; 0 = it is the listener's own."""
        self._mine: list[dict[Address, float]] = [{} for _ in numbers]
        """By listener: clients that we hold -> when their last packet came."""
        self._elsewhere: list[dict[Address, Place]] = [{} for _ in numbers]
        """Clients that others hold."""
        self._guests: list[dict[Address, Place]] = [{} for _ in numbers]
        """Sources that nobody was told of."""
        self._gone: dict[int, float] = {}
        """Holders that are not known to live -> since when."""
        self._direct: dict[Address, float] = {}
        """Targets that nobody holds -> when we sent a request to them from a listener's own socket."""
        self._alive: frozenset[int] = frozenset()
        """Living peers at the last tick."""
        self._strangers = Strangers()
        self._parked = Parked()
        self._budget = NEW_A_SECOND
        self._forget_at = float("-inf")
        self.log: Log
        node.timers.start(TICK, float("-inf"), self._tick, None)

    # -- what arrives, what is sent

    def arrived(self, data: bytes, source: Address, listener: int) -> bool:
        """A datagram came; False when it is of no further use."""
        mine = self._mine[listener]
        if source in mine:
            mine[source] = self._node.now
            return True
        return self._came(data, source, listener)

    def send(self, data: bytes, target: Address, listener: int, hops: int = 0) -> None:
        """What `Node.send` is with flows: to the client directly, through its holder, or later."""
        seen = self._mine[listener].get(target)
        if seen is not None:
            self._node.out.append(Send(data, target, listener))
            if self._strangers.hosts:
                self._ask_strangers(data, target, listener, seen)
            return
        other = self._elsewhere[listener].get(target)
        if other is not None:
            self._through(other, data, target, listener, hops)
            return
        guest = self._guests[listener].get(target)
        if guest is not None:
            if guest.holder:
                self._through(guest, data, target, listener, hops)
                return
            if _welcomes(data):
                self._hold(listener, target)
            self._node.out.append(Send(data, target, listener))
            return
        self.directly(data, target, listener)

    def listener_to(self, target: Address, arrived: int) -> int:
        """What `Node.listener_to` is where there are several: the listener that a client knows, before any other."""
        wanted = self._node.listener_of_family(target, arrived)
        if self._knows(wanted, target):
            return wanted
        families = self._node.families
        same = (i for i, family in enumerate(families) if family == (":" in target[0]))
        return next((i for i in same if self._knows(i, target)), wanted)

    def arrival(self, source: Address, listener: int) -> int:
        """Index of the proxy where this client's packets arrive, 0 when that is not known."""
        other = self._elsewhere[listener].get(source)
        if other is not None:
            return other.holder
        if source in self._mine[listener]:
            return self._node.index
        guest = self._guests[listener].get(source)
        return 0 if guest is None else guest.holder or self._node.index

    def _knows(self, listener: int, address: Address) -> bool:
        return address in self._mine[listener] or address in self._elsewhere[listener]

    def _came(self, data: bytes, source: Address, listener: int) -> bool:
        """From a source that we do not hold."""
        node = self._node
        if data[:8] == b"SIP/2.0 ":
            if self._strangers.asked and self._strangers.disowns(data, source, node.now):
                return False
            if node.now - self._direct.get(source, NEVER) < ANSWERED:
                return True  # it answers what we sent, and does not say where the source's own packets arrive
        other = self._elsewhere[listener].get(source)
        if other is not None or source in node.router.addresses:
            node.count["flows_moved"] += other is not None and other.holder != node.index
            self._hold(listener, source)
            self._peers.outlook.shown_up(source)
            return True
        self._welcome(listener, source, 0)
        self._send_parked(listener, source)
        if len(data) < MIN_MESSAGE:
            self._strangers.came(source, node.now)
            self._ask_for_parked(listener, source)
        return True

    def _ask_strangers(self, data: bytes, target: Address, listener: int, seen: float) -> None:
        for source in self._strangers.asked_for(data, target, seen, self._node.now):
            self._node.count["flow_searches"] += 1
            self._node.out.append(Send(data, source, listener))

    def _ask_for_parked(self, listener: int, stranger: Address) -> None:
        """A stranger may be who messages wait for because they do not reach it."""
        for number, target in self._parked.flows():
            other = self._elsewhere[number].get(target)
            if number == listener and target[0] == stranger[0] and other is not None and other.lost:
                for data in self._parked.peek((number, target)):
                    self._ask_strangers(data, target, listener, other.seen)

    def _welcome(self, listener: int, source: Address, holder: int) -> None:
        """A guest, here or elsewhere."""
        guests = self._guests[listener]
        if guests.pop(source, None) is None and len(guests) >= MAX_GUESTS:
            del guests[next(iter(guests))]
        guests[source] = Place(holder, self._node.now)

    def _hold(self, listener: int, source: Address) -> None:
        """Its packets arrive here: the others are told."""
        node, mine = self._node, self._mine[listener]
        other = self._elsewhere[listener].pop(source, None)
        known = other is not None or source in node.router.addresses
        if len(mine) >= MAX_HELD or not (known or self._budget > 0):
            node.count["flows_refused"] += 1
            self._welcome(listener, source, 0)
        else:
            if not known:
                self._budget -= 1
            self._strangers.forget(source)
            guest = self._guests[listener].pop(source, None)
            mine[source] = guest.seen if guest is not None and not guest.holder else node.now
            self.log.claim((listener, source))
            if other is not None:
                self._tell_moved(other.holder, (listener, source))
        self._send_parked(listener, source)

    def _tell_moved(self, holder: int, flow: Flow) -> None:
        """Who held it until now speaks to it through us at once; all others read it within a second."""
        lease = self._peers.lease(holder)
        if lease is not None:
            with suppress(ValueError):  # not an address: all others, and it too, read the move within a second
                self._peers.tell(lease, {"t": "moved", "flows": [pack(flow)]})

    # -- by way of the holder

    def lost(self, target: Address, listener: int) -> bool:
        """An ICMP error says that a client of ours hears nothing: what is for it waits for its next packet.

        The client's own machine says so when a packet comes from an address that it does not know: the node has lost
        its conntrack entry (RFC 1122 4.1.3.3). False: it is no client, or one that hears everybody.
        """
        node = self._node
        if not self.is_client(target):
            return False
        seen = self._mine[listener].pop(target, None)
        if seen is not None:
            node.count["flows_lost"] += 1
            self._elsewhere[listener][target] = Place(node.index, seen, node.now)
        return True

    def is_client(self, address: Address) -> bool:
        """Whether it hears only its holder, as far as anybody knows."""
        listeners = range(len(self._mine))
        return address not in self._node.router.addresses and any(self._knows(i, address) for i in listeners)

    def _through(self, place: Place, data: bytes, target: Address, listener: int, hops: int) -> None:
        node, holder = self._node, place.holder
        lease = self._peers.lease(holder)
        if lease is not None:
            if hops >= hop.MAX_HOPS:
                node.out.append(Send(data, target, listener))
            else:
                node.count["flow_hops"] += 1
                self._peers.hand(lease, data, target, listener, hop.EMIT | hops + 1 << hop.HOPS_SHIFT)
            return
        if target in node.router.addresses and data[:8] != b"SIP/2.0 ":
            self.directly(data, target, listener)
            return
        if place.lost:
            self._ask_strangers(data, target, listener, place.seen)
        if not self._waits(place):
            self._elsewhere[listener].pop(target, None)
            self._guests[listener].pop(target, None)
            self.directly(data, target, listener)
        elif not self._parked.add((listener, target), data, node.now):
            node.count["flow_dropped"] += 1
        else:
            node.count["flow_parked"] += 1
            if not place.lost and not self._peers.dead(holder):
                self._peers.look_for(holder, self._look_again)

    def _waits(self, place: Place) -> bool:
        """Whether what is for a client there has to wait for its next packet, and it may still come."""
        now = self._node.now
        if self._peers.lease(place.holder) is not None:
            return False
        return now - (place.lost or self._gone.setdefault(place.holder, now)) < PATIENCE

    def directly(self, data: bytes, target: Address, listener: int) -> None:
        """To whom nobody holds, as far as we know."""
        node = self._node
        if data[:8] == b"SIP/2.0 ":
            pass  # whoever waits for it asked us at the listener's own socket
        elif self._beside[listener]:
            listener += self._beside[listener]
        elif node.now - self._direct.get(target, NEVER) >= TICK:
            if self._direct.pop(target, None) is None and len(self._direct) >= MAX_GUESTS:
                del self._direct[next(iter(self._direct))]
            self._direct[target] = node.now
        node.out.append(Send(data, target, listener))

    def _send_parked(self, listener: int, target: Address) -> None:
        for data in self._parked.take((listener, target), self._node.now):
            self.send(data, target, listener)

    def give_away(self) -> None:
        """We leave: what waits here waits at a peer that stays."""
        if not self._parked.count:
            return
        peer = self._peers.with_room(b"parked")
        if peer is None:
            return
        for listener, target in self._parked.flows():
            for data in self._parked.take((listener, target), self._node.now):
                self._peers.hand(peer, data, target, listener, hop.EMIT | 1 << hop.HOPS_SHIFT)

    def _look_again(self) -> None:
        """Holders may have turned up, or be gone for so long that their clients are spoken to directly."""
        for holder in [holder for holder in self._gone if self._peers.lease(holder) is not None]:
            del self._gone[holder]
        for listener, target in self._parked.flows():
            place = self._elsewhere[listener].get(target) or self._guests[listener].get(target)
            if place is None or not self._waits(place):
                self._send_parked(listener, target)

    # -- what peers say

    def heard_elsewhere(self, source: Address, listener: int, holder: int) -> None:
        """A message of this client was handed over by the proxy where it arrived."""
        if holder in (0, self._node.index):
            return
        if source in self._mine[listener] or source in self._elsewhere[listener]:
            self._moved(listener, source, holder, self._node.now)
            return
        self._welcome(listener, source, holder)
        self._send_parked(listener, source)

    def moved(self, sender: object, names: object) -> None:
        """The control message of a peer that holds clients of ours now."""
        if not isinstance(sender, int) or not isinstance(names, list):
            return
        for name in names:
            with suppress(RecordError):  # one name that cannot be read must not cost the others
                listener, source = unpack(name if isinstance(name, bytes) else b"")
                if listener < len(self._mine):
                    self.heard_elsewhere(source, listener, sender)

    def claimed(self, flow: Flow, holder: int, seen: float) -> None:
        """A proxy has told all that it holds a client since `seen` (our clock); holder 0: it has forgotten it."""
        node = self._node
        listener, source = flow
        if holder == node.index or listener >= len(self._mine):
            return
        ours = self._mine[listener].get(source)
        if ours is not None and ours > seen + MARGIN:
            if holder:
                self.log.claim(flow)
            return
        other = self._elsewhere[listener].get(source)
        if other is not None and other.seen > seen:
            return
        guest = self._guests[listener].get(source)
        if not holder:
            if other is not None:
                del self._elsewhere[listener][source]
                self._send_parked(listener, source)
        elif guest is None or guest.seen <= seen:
            self._moved(listener, source, holder, seen)
        elif guest.holder:
            self._moved(listener, source, guest.holder, guest.seen)
        else:  # it has come here since, as we did not know yet that it is a client
            self._elsewhere[listener][source] = Place(holder, seen)
            self._hold(listener, source)

    def recall(self, source: Address, listener: int, holder: int, since: float) -> None:
        """The record of a dead proxy says who held a client at `since` (Unix time): nobody may have told it."""
        node = self._node
        if not holder or holder == node.index or listener >= len(self._mine) or self._knows(listener, source):
            return
        seen = min(since - node.wall_offset, node.now - TICK)
        self.log.tell((listener, source), holder, seen)
        self.claimed((listener, source), holder, seen)

    def _moved(self, listener: int, source: Address, holder: int, seen: float) -> None:
        self._mine[listener].pop(source, None)
        self._guests[listener].pop(source, None)
        known = self._elsewhere[listener]
        if len(known) >= MAX_KNOWN and source not in known:
            del known[next(iter(known))]
        known[source] = Place(holder, seen)
        if self._peers.lease(holder) is None:
            self._gone.setdefault(holder, self._node.now)
        self._send_parked(listener, source)

    # -- what is kept

    def held(self) -> Iterator[Flow]:
        """All that we hold."""
        return ((listener, source) for listener, mine in enumerate(self._mine) for source in mine)

    def seen(self, flow: Flow) -> float | None:
        """When the last packet of a client of ours came; None when it is not ours."""
        return self._mine[flow[0]].get(flow[1])

    @property
    def parked(self) -> int:
        """Messages that wait for a client."""
        return self._parked.count

    def gauges(self) -> list[tuple[str, str, float]]:
        """(name, text, value) of what is now."""
        return [
            ("flows_held", "Clients whose packets arrive here", sum(map(len, self._mine))),
            ("flows_elsewhere", "Clients whose packets arrive at other proxies", sum(map(len, self._elsewhere))),
            ("flow_messages_waiting", "Messages that wait for their client's next packet", self.parked),
        ]

    def counts(self) -> dict[str, int]:
        """For `GET /status`."""
        return {
            "held": sum(map(len, self._mine)),
            "elsewhere": sum(map(len, self._elsewhere)),
            "waiting": self.parked,
        }

    def _tick(self, _: None, now: float) -> None:
        """Another second's new clients, and another look at who lives."""
        peers = self._peers
        self._budget = NEW_A_SECOND
        alive = frozenset(peers.keeper.alive) - peers.down if peers.keeper is not None else frozenset()
        for holder in self._alive - alive:
            self._gone.setdefault(holder, now)
        self._alive = alive
        self._look_again()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            self._forget(now)
        self._node.timers.start(TICK, now, self._tick, None)

    def _forget(self, now: float) -> None:
        """Forget who was silent for too long, and whom dead proxies held."""
        for listener, mine in enumerate(self._mine):
            for source, seen in [(s, seen) for s, seen in mine.items() if now - seen >= LIFE]:
                del mine[source]
                self.log.tell((listener, source), 0, seen)
        for listener, known in enumerate(self._elsewhere):
            for source, other in [(s, o) for s, o in known.items() if o.lost and now - o.lost >= LIFE]:
                del known[source]
                self.log.tell((listener, source), 0, other.seen)
        long_gone = {holder for holder, since in self._gone.items() if now - since >= LIFE}
        if long_gone:
            lowest = self._peers.lowest()
            for listener, known in enumerate(self._elsewhere):
                for source, other in [(s, o) for s, o in known.items() if o.holder in long_gone]:
                    del known[source]
                    if lowest:
                        self.log.tell((listener, source), 0, other.seen)
            for holder in long_gone:
                del self._gone[holder]


def _welcomes(data: bytes) -> bool:
    """Whether a message makes its receiver a client: a request, or a response that is no refusal.

    An OPTIONS is answered to everybody: scanners, and probes from another port each time.
    """
    return data[:8] != b"SIP/2.0 " or (data[8:9] in (b"1", b"2") and b" OPTIONS\r\n" not in data)
