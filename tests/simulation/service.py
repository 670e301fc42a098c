"""A Service of Kubernetes in front of the proxies, as a node's conntrack makes it: each has an address of its own.

A client's packet to the Service goes to the proxy that its conntrack entry names, or makes an entry for one of the
endpoints. A packet from a proxy to a client leaves from the Service's address only where such an entry leads back;
otherwise it leaves from the proxy's own address and opens an entry of its own. That one stands in the way: when the
same client is brought to the same proxy afterwards, it is shown under another port.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.clock import Address

if TYPE_CHECKING:
    from tests.simulation.nodes import ProxyNode
    from tests.simulation.world import World

ASSURED = 120.0
"""Seconds that an entry lives after the last packet in either direction."""
UNREPLIED = 30.0
NOTICED = (0.3, 2.0)
"""Seconds from the death of a proxy until it is no endpoint any more and its entries are deleted."""
PHONES = 5060
"""Port of all telephones that call."""
SHOWN_AS = 20_000
"""How far the port is off that a client is shown with when its own is taken."""


class Service:
    """The Service's address is `CLUSTER` of the world."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self._endpoints: list[ProxyNode] = []
        self._entries: dict[Address, tuple[ProxyNode, Address, float]] = {}
        """Client -> proxy, the client as it is shown to it, time of the last packet."""
        self._back: dict[tuple[str, Address], Address] = {}
        """(proxy, client as it is shown) -> client."""
        self._opened: dict[tuple[str, Address], float] = {}
        """(proxy, target) of packets that left from a proxy's own address -> when the last one did."""
        self.astray = 0
        """Packets to clients that left from a proxy's own address."""

    def started(self, proxy: ProxyNode) -> None:
        """It becomes an endpoint when it is ready, half a second later."""
        self._world.clock.after(0.5, proxy.guarded(self._add), proxy)

    def died(self, proxy: ProxyNode) -> None:
        incarnation = proxy.incarnation

        def notice() -> None:
            if proxy.incarnation == incarnation:
                self._remove(proxy)

        self._world.clock.after(self._rng.uniform(*NOTICED), notice)

    def arrive(self, data: bytes, client: Address) -> None:
        """A packet to the Service's address."""
        now = self._world.clock.now
        entry = self._entries.get(client)
        if entry is None or now - entry[2] > ASSURED:
            if not self._endpoints:
                return
            proxy, shown = self._rng.choice(self._endpoints), client
            if now - self._opened.get((proxy.name, client), float("-inf")) < UNREPLIED:
                shown = (client[0], client[1] + SHOWN_AS)
            self._world.note(proxy.name, f"ENTRY {client} shown as {shown}")
        else:
            proxy, shown, _ = entry
        self._entries[client] = proxy, shown, now
        self._back[proxy.name, shown] = client
        if proxy.up:
            proxy.receive(data, shown)

    def flush(self) -> None:
        """`conntrack -F`."""
        self._entries.clear()
        self._back.clear()
        self._opened.clear()

    def leave(
        self, proxy: ProxyNode, data: bytes, target: Address, refused: Callable[[], None], *, beside: bool
    ) -> None:
        """A packet of a proxy, from its SIP port or from the one `beside`."""
        world = self._world
        now = world.clock.now
        client = self._back.get((proxy.name, target)) if not beside else None
        entry = self._entries.get(client) if client is not None else None
        if client is not None and entry is not None and entry[0] is proxy and now - entry[2] <= ASSURED:
            self._entries[client] = proxy, target, now
            world.network.send(data, world.cluster, client, refused)
            return
        if not beside:
            self._opened[proxy.name, target] = now
        if target[1] == PHONES and target != world.cluster:
            # It hears only the Service. Its own machine says so, or a NAT before it says nothing.
            self.astray += 1
            if int(target[0].rpartition(".")[2]) % 2:
                world.clock.after(self._rng.uniform(*world.network.weather.delay), refused)
            return
        world.network.send(data, proxy.beside if beside else proxy.address, target, refused)

    def _add(self, proxy: ProxyNode) -> None:
        if proxy not in self._endpoints:
            self._endpoints.append(proxy)

    def _remove(self, proxy: ProxyNode) -> None:
        if proxy in self._endpoints:
            self._endpoints.remove(proxy)
        self._entries = {client: entry for client, entry in self._entries.items() if entry[0] is not proxy}
