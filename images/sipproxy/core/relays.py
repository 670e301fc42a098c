"""Which relay a new call gets, and where the relay of an old one is now (DESIGN 3.5, 4.2)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sipcore.config import endpoint
from sipcore.lease import LeaseView
from sipcore.record import Lease
from sipcore.resp import Value
from sipcore.store import Keys
from sipcore.uri import Address

from .actions import Relays, Store
from .node import Node

READ_EVERY = 1.0
"""Seconds between readings of the pools' leases."""
FRESH = 0.05
"""Seconds for which what was read is taken as it is."""
MAX_WAITING = 10_000


class Relay(msgspec.Struct, frozen=True):
    """A relay as a call refers to it."""

    address: Address
    """ng."""
    index: int = 0
    """0: a relay without a lease."""
    pod: str = ""


class RelayChoice:
    """The relays of the configured pools, from their leases, and those that the configuration names."""

    def __init__(self, node: Node) -> None:
        """Raises `ConfigError`."""
        self._node = node
        media, namespace = node.config.media, node.config.pod.namespace
        self._views = [LeaseView(Keys(namespace, pool)) for pool in media.pools]
        self._static = [Relay(endpoint(text)) for text in media.relays]
        self._down: set[Address] = set()
        self._placed: dict[str, int] = {}
        """Calls that we gave a relay since its lease was last read, by lease id."""
        self._known: list[Address] = []
        self._read_at = float("-inf")
        self._waiting: list[Callable[[], None]] = []
        """New calls that found no relay with room in what was read last."""
        self.enabled = bool(self._views or self._static)
        if self.enabled:
            node.timers.start(0.0, float("-inf"), self._tick, None)

    @property
    def found(self) -> bool:
        """Whether there is a relay for the calls to come, or none is wanted."""
        return bool(self._known) or not self.enabled

    def candidates(self) -> list[Relay]:
        """Relays with room: pools in order, in each the lowest ordinal first, so that the highest empty first.

        Those whose connection is broken come last: one that was killed is back in place soon.
        """
        out: list[Relay] = []
        for view in self._views:
            leases = sorted(view.alive.values(), key=lambda lease: lease.ordinal)
            out += [_relay(lease) for lease in leases if lease.room > self._placed.get(lease.id, 0)]
        out += self._static
        return sorted(out, key=lambda relay: relay.address in self._down)

    def look_again(self, go_on: Callable[[], None]) -> bool:
        """Read the leases once more before a call is refused: a relay may have come, or have been given back, since.

        False: what is known is fresh. `go_on` is called with the answer of the store, or when it has none.
        """
        if not self._views or self._node.now - self._read_at < FRESH or len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._read()
        return True

    def place(self, relay: Relay) -> None:
        """A new call went to this relay."""
        for view in self._views:
            lease = view.alive.get(relay.index)
            if lease is not None and lease.pod == relay.pod:
                self._placed[lease.id] = self._placed.get(lease.id, 0) + 1

    def find(self, index: int, address: Address | None = None, pod: str = "") -> Relay | None:
        """The relay of a call that is up: where its pod is now, else where it was."""
        for view in self._views:
            for lease in view.alive.values():
                if lease.index == index or (pod and lease.pod == pod):
                    return _relay(lease)
        if address is not None:
            return Relay(address, index, pod)
        return self._static[0] if index == 0 and len(self._static) == 1 else None

    def now(self, relay: Relay) -> Relay:
        """Where that relay is by the leases that were read last: another pod in its slot has another address. It is the
        same object while it is the same place."""
        found = self.find(relay.index, relay.address, relay.pod)
        return relay if found is None or found == relay else found

    def state(self, address: Address, up: bool) -> None:
        """The connection to a relay came up or was reset."""
        if up:
            self._down.discard(address)
        else:
            self._down.add(address)
        self._down.intersection_update(self._known)

    def store_changed(self, available: bool) -> None:
        for view in self._views:
            view.store_changed(available, self._node.now)
        if available:
            self._read()

    def _tick(self, _: None, now: float) -> None:
        self._announce()
        self._read()
        self._node.timers.start(READ_EVERY, now, self._tick, None)

    def _read(self) -> None:
        if self._views:
            self._node.out.append(Store([view.read() for view in self._views], self._took))

    def _took(self, replies: list[Value] | None) -> None:
        """The answer of the store; without one what was known goes on to be used."""
        if replies is not None:
            self._read_at = self._node.now
            for view, reply in zip(self._views, replies, strict=False):
                view.update(reply, self._node.now)
            self._placed.clear()
            self._announce()
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def _announce(self) -> None:
        known = sorted({lease.address for view in self._views for lease in view.alive.values()})
        known += [relay.address for relay in self._static]
        if known != self._known:
            self._known = known
            self._down.intersection_update(known)
            self._node.out.append(Relays(known))


def _relay(lease: Lease) -> Relay:
    return Relay(lease.address, lease.index, lease.pod)
