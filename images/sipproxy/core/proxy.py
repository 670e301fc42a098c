"""`ProxyCore`: one door in, a list of actions out. Here the parts are put together; each decides in its own module."""

from __future__ import annotations

import random
from collections.abc import Callable

from sipcore import __version__
from sipcore.config import ProxyConfig
from sipcore.keys import ClusterKey

from .actions import Action, JoinSelection, LeaveSelection
from .dialogs import Dialogs
from .engine import Engine
from .events import (
    Configure,
    Cordon,
    Datagram,
    Drain,
    Event,
    NgReply,
    RelayState,
    StoreReply,
    StoreState,
    TargetError,
    Timer,
    Uncordon,
)
from .forwarding import Forwarding
from .media import Media
from .node import Node
from .ownership import Ownership
from .requests import Incoming, Requests
from .routing import Router, own_addresses

MIN_MESSAGE = 16
"""Shorter datagrams are keep-alives (RFC 5626 3.5.1) or noise."""


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
        self._requests = requests = Requests(node, engine, forwarding, dialogs)
        self._engine = engine
        self._ownership = ownership = Ownership(node)
        self._media = media = Media(node)
        ownership.requests = requests
        dialogs.ownership = forwarding.ownership = requests.ownership = ownership
        forwarding.media = requests.media = media
        media.forwarding, media.requests, media.ownership = forwarding, requests, ownership
        self._handlers: dict[type, Callable[..., None]] = {
            Datagram: self._datagram,
            Timer: self._timer,
            TargetError: self._target_error,
            Configure: self._configure,
            Cordon: self._cordon,
            Uncordon: self._uncordon,
            Drain: self._drain,
            NgReply: media.reply,
            RelayState: media.relay_state,
            StoreReply: self._store_reply,
            StoreState: self._store_state,
        }

    def feed(self, event: Event, now: float) -> list[Action]:
        """What to do, in order. `now` is seconds of a boot-time clock that never goes back.

        Nothing that an event carries raises out of here.
        """
        node = self.node
        node.now = now
        try:
            self._handlers[type(event)](event)
        except Exception as error:
            node.count["internal_errors"] = node.count.get("internal_errors", 0) + 1
            node.log("error", "internal-error", error=f"{type(error).__name__}: {error}", during=type(event).__name__)
        actions = node.out
        node.out = []
        return actions

    def next_timer(self) -> float | None:
        """When `Timer` is to be fed, on the clock of `feed`."""
        return self.node.timers.next()

    @property
    def empty(self) -> bool:
        """DESIGN 2.10: no open transaction and no owned dialog."""
        return self.node.open == 0 and self.node.owned == 0

    @property
    def ready(self) -> bool:
        """Whether it can serve what it has (DESIGN 4.4)."""
        return True

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
            "store": False,
            "ports": [listener.port for listener in node.config.listeners],
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
        ]

    def _datagram(self, event: Datagram) -> None:
        node = self.node
        data = event.data
        if data[:8] == b"SIP/2.0 ":
            node.count["responses"] += 1
            if not self._forwarding.receive(data):
                self._ownership.foreign_response(data)
        elif len(data) >= MIN_MESSAGE:
            node.count["requests"] += 1
            self._requests.receive(Incoming(data, event.source, event.listener))

    def _timer(self, event: Timer) -> None:
        self.node.timers.run(self.node.now)

    def _target_error(self, event: TargetError) -> None:
        at = event.data.find(b";branch=") + 8
        branch = self.node.branches.get(event.data[at : at + 31])
        if branch is not None and branch.target.address == event.address:
            self._engine.transport_error(branch)

    def _store_reply(self, event: StoreReply) -> None:
        """A tag of ours is whoever waits for the replies."""
        if callable(event.tag):
            event.tag(event.replies)

    def _store_state(self, event: StoreState) -> None:
        self._media.relays.store_changed(event.available)

    def _configure(self, event: Configure) -> None:
        self.node.config = event.config
        self.node.router = Router(event.config, own_addresses(event.config))

    def _cordon(self, event: Cordon) -> None:
        self.node.cordoned = True

    def _uncordon(self, event: Uncordon) -> None:
        node = self.node
        if node.draining:
            node.out.append(JoinSelection())
        node.cordoned = node.draining = False

    def _drain(self, event: Drain) -> None:
        node = self.node
        if not node.draining:
            node.out.append(LeaveSelection())
        node.cordoned = node.draining = True
