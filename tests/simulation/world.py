"""A whole cluster on one virtual clock: proxies, relays, a store, telephones, a bad network, and disasters."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from random import Random
from unittest.mock import patch

import msgspec

from sipcore.record import Cdr
from sipfleet.calls.message import parse
from tests.simulation.clock import Address, Clock, Network, Weather
from tests.simulation.nodes import CALLEES, CLUSTER, ProxyNode, RelayNode
from tests.simulation.phones import PING, SimCall
from tests.simulation.service import Service
from tests.simulation.storenode import StoreNode

RETRANSMITTED = 2.0
"""Seconds from an INVITE until a proxy has sent it at least three times (RFC 3261 17.1.1.2)."""


class World:
    """Everything in it follows from the seed."""

    def __init__(
        self,
        seed: int,
        weather: Weather,
        *,
        proxies: int = 2,
        relays: int = 1,
        ports: str = "20000-20999",
        service: bool = False,
        flows: bool = False,
        keepalive: float = 0.0,
    ) -> None:
        """`service`: each proxy has an address of its own (`tests.simulation.service`). `keepalive`: seconds between
        those of telephones, 0 = none."""
        self.seed = seed
        self.rng = Random(seed)
        self.clock = Clock()
        self.network = Network(self.clock, self.rng, weather)
        self.relay_ports = ports
        self.relays_speak_first = bool(seed % 2)
        self.log: list[str] = []
        self.over = False
        self.longest_gap = 3.0
        self.calls: list[SimCall] = []
        self.proxy_deaths: list[float] = []
        self._by_call_id: dict[str, SimCall] = {}
        self.cluster = CLUSTER
        self.flows = flows
        self.keepalive = keepalive
        self.service = Service(self, self.rng) if service else None
        self.store = StoreNode(self.clock, self.rng)
        self.proxies = [ProxyNode(self, i) for i in range(proxies)]
        self.relays = [RelayNode(self, i) for i in range(relays)]
        self.network.listen(CLUSTER, self._to_cluster)
        self.network.listen(CALLEES, self._to_callee)
        for node in (*self.relays, *self.proxies):
            node.start()
        if keepalive:
            self.clock.after(self.rng.uniform(0, keepalive), self._callees_keep_alive)

    def run(self, seconds: float) -> None:
        # fakeredis reads time.time() for TIME and for the life of keys.
        with patch("time.time", lambda: self.clock.now):
            self.clock.run(self.clock.now + seconds)

    def call(self, duration: float) -> None:
        call = SimCall(self, len(self.calls), duration)
        self.calls.append(call)
        self._by_call_id[call.caller.call_id] = call

    def note(self, who: str, what: str, call_id: bytes = b"", fields: Mapping[str, object] | None = None) -> None:
        self.log.append(
            f"{self.clock.now - 1_800_000_000:9.3f} {who:14} {what} {call_id.decode()} {dict(fields or {})}"
        )

    # disasters

    def kill_proxy(self, ordinal: int, down: float) -> None:
        node = self.proxies[ordinal]
        if node.up:
            self.note(node.name, "KILLED")
            self.proxy_deaths.append(self.clock.now)
            node.kill()
            self.clock.after(down, node.start)

    def drain_proxy(self, ordinal: int, down: float) -> None:
        node = self.proxies[ordinal]
        if node.up and not node.core.node.draining:
            self.note(node.name, "DRAINED")
            node.drain(lambda: self.clock.after(down, node.start))

    def kill_relay(self, ordinal: int, down: float) -> None:
        node = self.relays[ordinal]
        if node.up:
            self.note(node.name, "KILLED")
            node.kill()
            self.clock.after(down, node.start)

    def kill_store(self, down: float) -> None:
        if self.store.up:
            self.note("store", "KILLED")
            self.store.kill()
            self.clock.after(down, self.store.start)

    # what is to be true at the end

    def faults(self) -> list[str]:
        out = [
            f"{call.caller.call_id}: {fault}"
            for call in self.calls
            if not self.never_left(call)
            for fault in call.faults()
        ]
        cdrs = [msgspec.json.decode(data, type=Cdr) for data in self.store.cdrs()]
        counts = Counter(cdr.call_id for cdr in {(c.id, c.call_id): c for c in cdrs}.values())
        for call in self.calls:
            count = counts.pop(call.caller.call_id, 0)
            if count != 1 and not call.faults() and not self.never_left(call):
                out.append(f"{call.caller.call_id}: {count} CDRs")
        out += [f"CDR of an unknown call {call_id}" for call_id in counts]
        return out

    def never_left(self, call: SimCall) -> bool:
        """Whether the network lost the only copy of an INVITE that its proxy sent before it died (docs/limits.md)."""
        deaths = (death for death in self.proxy_deaths if 0 <= death - call.started <= RETRANSMITTED)
        return call.callee is None and self.network.weather.loss > 0 and any(deaths)

    def story(self) -> str:
        return "\n".join(self.log[-200:])

    # the cluster's shared address

    def _to_cluster(self, data: bytes, source: Address) -> None:
        """As SO_REUSEPORT does it: a hash of the source over those that are selected now. Or as a Service does it."""
        if self.service is not None:
            self.service.arrive(data, source)
            return
        members = [node for node in self.proxies if node.up and node.selected]
        if members:
            members[zlib.crc32(repr(source).encode()) % len(members)].receive(data, source)

    def _callees_keep_alive(self) -> None:
        if not self.over:
            self.network.send(PING, CALLEES, CLUSTER)
            self.clock.after(self.keepalive, self._callees_keep_alive)

    def _to_callee(self, data: bytes, source: Address) -> None:
        message = parse(data)
        call = self._by_call_id.get(message.get("call-id"))
        if call is None:
            return
        if call.callee is not None:
            call.callee_hears(data, source)
        elif message.method == "INVITE" and not message.status:
            call.invited(data, source)
