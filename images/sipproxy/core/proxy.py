"""`ProxyCore`: one door in, a list of actions out. Here the parts are put together; each decides in its own module."""

from __future__ import annotations

import random
from collections.abc import Callable

from sipcore import __version__
from sipcore.config import ProxyConfig
from sipcore.keys import ClusterKey
from sipcore.lease import LIFE, MARGIN
from sipcore.uri import Address

from .actions import Action
from .dialogs import Dialogs
from .engine import Engine
from .events import (
    Configure,
    Cordon,
    Datagram,
    Drain,
    Event,
    Hop,
    NgReply,
    PeerDown,
    RelayState,
    Stop,
    StoreReply,
    StoreState,
    TargetError,
    Timer,
    Uncordon,
)
from .flows import MIN_MESSAGE
from .forwarding import Forwarding
from .hop import HOPS_SHIFT, MUST_OWN
from .incoming import Incoming
from .indialog import InDialog
from .media import Media
from .node import Node
from .ownership import Ownership
from .peers import Handed
from .requests import Requests
from .routing import Router, own_addresses

INDEX_PATIENCE = 0.5
"""Seconds that a starting proxy waits for its index: the answers to what it sends find their way back by it."""
STORE_PATIENCE = 2.0
"""Seconds after which a proxy that has not found its store is ready without it (DESIGN 2.9)."""
MAX_HELD = 20_000
SLEPT = LIFE - MARGIN
_NOT_HELD = frozenset({StoreReply, StoreState, RelayState, PeerDown, Stop})


class ProxyCore:
    """The proxy without sockets and clock."""

    def __init__(
        self,
        config: ProxyConfig,
        key: ClusterKey,
        rng: random.Random,
        wall_offset: float = 0.0,
        *,
        adopt: bool = True,
    ) -> None:
        """`wall_offset`: Unix time minus the clock that `feed` gets, seconds. Raises `ConfigError`.

        `adopt=False` breaks what keeps calls (docs/decisions/0005).
        """
        self.node = node = Node(config, key, rng, wall_offset)
        engine = Engine(node)
        dialogs = Dialogs(node)
        self._forwarding = forwarding = Forwarding(node, engine, dialogs)
        inside = InDialog(node, engine, forwarding, dialogs)
        self._requests = requests = Requests(node, engine, forwarding, dialogs, inside)
        self._began = float("inf")
        self._fed = float("inf")
        self._asks = config.ask_targets
        """Our targets are still to be asked."""
        self._held: list[Event] | None = None
        """Events that wait for the store's word: for our first index, or after the loop stood still."""
        self._stopped = False
        """The loop stood still: timers wait too."""
        self._ownership = ownership = Ownership(node, adopt)
        self._media = media = Media(node)
        ownership.connect(requests, forwarding, dialogs, engine, media)
        ownership.peers.again = self._again
        inside.requests, inside.ownership, inside.media = requests, ownership, media
        media.inside = inside
        dialogs.ownership = forwarding.ownership = requests.ownership = ownership
        forwarding.media = requests.media = media
        self._outlook = forwarding.outlook = requests.outlook = ownership.peers.outlook
        media.forwarding, media.requests, media.ownership = forwarding, requests, ownership
        if ownership.peers.keeper is not None:
            self._held = []
            ownership.peers.beaten = self._beaten
            node.timers.start(INDEX_PATIENCE, float("-inf"), self._first_timer, None)
        self._handlers: dict[type, Callable[..., None]] = {
            Datagram: self._datagram,
            Timer: self._timer,
            Hop: self._hop,
            PeerDown: ownership.peer_down,
            TargetError: ownership.target_error,
            Configure: self._configure,
            Cordon: self._cordon,
            Uncordon: self._uncordon,
            Drain: self._drain,
            NgReply: media.reply,
            RelayState: media.relay_state,
            StoreReply: ownership.store_reply,
            StoreState: ownership.store_state,
            Stop: self._stop,
        }
        if ownership.flows is not None:
            self._flows = ownership.flows
            self._handlers[Datagram] = self._datagram_of_flow

    def feed(self, event: Event, now: float) -> list[Action]:
        """What to do, in order. `now` is seconds of a boot-time clock that never goes back.

        Nothing that an event carries raises out of here.
        """
        node = self.node
        node.now = now
        self._began = min(self._began, now)
        try:
            if now - self._fed > SLEPT and self._ownership.peers.slept(self._fed):
                self._wake()
            self._fed = now
            if self._held is None or type(event) in _NOT_HELD or (not self._stopped and type(event) is Timer):
                self._handlers[type(event)](event)
            elif len(self._held) < MAX_HELD:
                self._held.append(event)
        except Exception as error:
            node.count["internal_errors"] = node.count.get("internal_errors", 0) + 1
            node.log("error", "internal-error", error=f"{type(error).__name__}: {error}", during=type(event).__name__)
        actions = node.out
        node.out = []
        return actions

    def next_timer(self) -> float | None:
        """When `Timer` is to be fed, on the clock of `feed`."""
        return None if self._stopped else self.node.timers.next()

    def _first_timer(self, _: None, now: float) -> None:
        self.node.timers.start(INDEX_PATIENCE, now, self._start_without_index, None)

    def _start_without_index(self, _: None, now: float) -> None:
        """The store is away: calls are served as well as it goes without (DESIGN 2.9)."""
        if not self._stopped:
            self._awake()

    def _beaten(self) -> None:
        self._ownership.adoption.beaten()
        if self._held is not None and not self._stopped and self._ownership.peers.writable:
            self._awake()

    def _wake(self) -> None:
        """The loop stood still for about a lease's life: others may have adopted what we own, so ask (DESIGN 2.7)."""
        self._held, self._stopped = self._held or [], True
        self.node.log("warning", "slept", seconds=round(self.node.now - self._fed, 3))
        self._ownership.peers.heartbeat()
        self._ownership.adoption.reassert(self._awake)

    def _awake(self) -> None:
        held, self._held = self._held or [], None
        self._stopped = False
        if self._asks:
            self._asks = False
            self._outlook.start()
        for event in held:
            self._handlers[type(event)](event)

    @property
    def empty(self) -> bool:
        """DESIGN 2.10: no open transaction and no owned dialog."""
        return self._ownership.empty

    @property
    def ready(self) -> bool:
        """Whether it can serve what it has (DESIGN 4.4)."""
        if self.node.now - self._began >= STORE_PATIENCE:
            return True
        peers = self._ownership.peers
        return (peers.keeper is None or peers.writable) and self._media.relays.found

    def check(self, config: ProxyConfig) -> None:
        """Whether `Configure` could load it. Raises `ConfigError` with the path of what it could not."""
        Router(config, own_addresses(config))

    def status(self) -> dict[str, object]:
        """`GET /status` (docs/decisions/0003)."""
        node = self.node
        pod = node.config.pod
        return {
            "pod": pod.name,
            "uid": pod.uid,
            "version": __version__,
            "index": node.index,
            "active": node.owned,
            "capacity": node.config.capacity,
            "transactions": node.open,
            "cordoned": node.cordoned,
            "draining": node.draining,
            "empty": self.empty,
            "store": self._ownership.peers.available,
            "ports": [listener.port for listener in node.config.listeners],
            **({"flows": self._ownership.flows.counts()} if self._ownership.flows is not None else {}),
        }

    def counters(self) -> dict[str, int]:
        """What happened since the start."""
        return self.node.count

    def gauges(self) -> list[tuple[str, str, float]]:
        """(name, text, value) of what is now."""
        node = self.node
        return [
            ("dialogs", "Dialogs that this proxy owns", node.owned),
            ("capacity", "Dialogs that it takes", node.config.capacity),
            ("transactions", "Transactions without their final response", node.open),
            ("transactions_kept", "Transactions that absorb retransmissions", len(node.contexts)),
            ("timers", "Timers that run", len(node.timers)),
            *(self._ownership.flows.gauges() if self._ownership.flows is not None else ()),
        ]

    def _datagram(self, event: Datagram) -> None:
        node = self.node
        data = event.data
        if data[:8] == b"SIP/2.0 ":
            node.count["responses"] += 1
            if not self._forwarding.receive(data):
                self._ownership.foreign_response(data, event.source, event.listener, 0)
        elif len(data) >= MIN_MESSAGE:
            node.count["requests"] += 1
            self._requests.receive(Incoming(data, event.source, event.listener))

    def _datagram_of_flow(self, event: Datagram) -> None:
        beside = event.listener - len(self.node.config.listeners)
        if beside >= 0:
            # What we asked is answered there; it does not say where the source's own packets arrive.
            if event.data[:8] == b"SIP/2.0 ":
                self._datagram(Datagram(event.data, event.source, beside))
            else:
                self.node.count["ignored"] += 1
        elif self._flows.arrived(event.data, event.source, event.listener):
            self._datagram(event)

    def _hop(self, event: Hop) -> None:
        parcel = self._ownership.hop(event)
        if parcel is not None:
            self._handed(parcel.data, parcel.source, parcel.listener, parcel.flags)

    def _again(self, handed: Handed) -> None:
        """What was handed to a peer that is dead is served here."""
        if not self._ownership.again(handed):
            self._handed(handed.data, handed.source, handed.listener, handed.flags)

    def _handed(self, data: bytes, source: Address, listener: int, flags: int) -> None:
        hops = flags >> HOPS_SHIFT
        if data[:8] == b"SIP/2.0 ":
            if not self._forwarding.receive(data):
                self._ownership.foreign_response(data, source, listener, hops)
            return
        incoming = Incoming(data, source, listener)
        incoming.hops = hops
        incoming.must_own = bool(flags & MUST_OWN)
        self._requests.receive(incoming)

    def _timer(self, event: Timer) -> None:
        self.node.timers.run(self.node.now)

    def _configure(self, event: Configure) -> None:
        self.node.config = event.config
        self.node.router = Router(event.config, own_addresses(event.config))

    def _cordon(self, event: Cordon) -> None:
        self.node.cordoned = True
        self._ownership.peers.heartbeat()

    def _uncordon(self, event: Uncordon) -> None:
        node = self.node
        self._ownership.handover.stop()
        node.cordoned = node.draining = False
        self._ownership.peers.heartbeat()

    def _drain(self, event: Drain) -> None:
        node = self.node
        node.cordoned = node.draining = True
        self._ownership.handover.start()
        self._ownership.peers.heartbeat()

    def _stop(self, event: Stop) -> None:
        self._ownership.peers.release()
