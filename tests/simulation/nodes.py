"""The programs of a simulated cluster: the production cores behind edges that know only the clock and the network."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from rtprelay.core import RelayCore
from rtprelay.core import events as relay_events
from sipcore.config import Listener, Media, Pod, ProxyConfig, RelayConfig, Route
from sipcore.keys import ClusterKey
from sipcore.lease import LeaseKeeper
from sipcore.record import Lease
from sipcore.store import Answer, Keys
from sipproxy.core import ProxyCore, actions, events
from tests.simulation.clock import Address
from tests.simulation.storenode import Link

if TYPE_CHECKING:
    from tests.simulation.world import World

CLUSTER: Address = ("127.0.0.1", 5060)
CALLEES: Address = ("127.0.0.9", 7070)
KEY = ClusterKey(bytes(range(32)))


class Node:
    """A process in a slot: it starts, its timer runs, it dies; what was meant for it reaches no later one."""

    def __init__(self, world: World, name: str, ordinal: int) -> None:
        self.world = world
        self.name = name
        self.ordinal = ordinal
        self.incarnation = 0
        self.up = False
        self.link: Link | None = None
        self._due = float("inf")

    def now(self) -> float:
        return self.world.clock.now

    def guarded(self, call: Callable[..., None]) -> Callable[..., None]:
        """`call`, unless this incarnation is dead by then."""
        incarnation = self.incarnation

        def run(*arguments: object) -> None:
            if self.up and self.incarnation == incarnation:
                call(*arguments)

        return run

    def begin(self) -> None:
        self.incarnation += 1
        self.up = True
        self._due = float("inf")
        self.link = Link(self.world.store, self.guarded(self.answered), self.guarded(self.changed))

    def end(self) -> None:
        self.up = False
        if self.link is not None:
            self.link.close()

    def arm(self, due: float | None, fire: Callable[[], None]) -> None:
        if due is not None and due < self._due:
            self._due = due
            self.world.clock.after(due - self.now(), self.guarded(self._fire), due, fire)

    def _fire(self, due: float, fire: Callable[[], None]) -> None:
        if due == self._due:
            self._due = float("inf")
            fire()

    def answered(self, answers: list[Answer]) -> None:
        raise NotImplementedError

    def changed(self, available: bool, run_id: str) -> None:
        raise NotImplementedError


class ProxyNode(Node):
    """A proxy. All share `CLUSTER`, or have addresses of their own behind a `Service`."""

    def __init__(self, world: World, ordinal: int) -> None:
        super().__init__(world, f"demo-proxy-{ordinal}", ordinal)
        self.internal: Address = (f"127.0.1.{ordinal + 1}", 5070)
        self.ng: Address = (self.internal[0], 40000)
        self.address: Address = (self.internal[0], 5060) if world.service else CLUSTER
        self.beside: Address = (self.internal[0], 40001)
        self.selected = False
        self.peak = 0

    def start(self) -> None:
        self.begin()
        self.selected = True
        config = ProxyConfig(
            pod=Pod(set="demo", name=self.name, uid=f"u{self.incarnation}", ordinal=self.ordinal),
            listeners=[Listener(address=self.address[0], port=self.address[1], advertised=CLUSTER[0])],
            flows=self.world.flows,
            internal=f"{self.internal[0]}:{self.internal[1]}",
            store="redis://simulated",
            domains=["example.test"],
            routes=[Route(domain="example.test", targets=[f"sip:{CALLEES[0]}:{CALLEES[1]}"])],
            media=Media(pools=["media"]),
        )
        self.core = ProxyCore(config, KEY, Random(self.world.rng.getrandbits(64)), 0.0)
        self.watched: dict[Address, bool] = {}
        self.world.network.listen(self.internal, self.guarded(lambda data, _source: self.feed(events.Hop(data))))
        self.world.network.listen(self.ng, self.guarded(lambda data, relay: self.feed(events.NgReply(relay, data))))
        if self.world.service is not None:
            self.world.network.listen(self.address, self.guarded(self.receive))
            beside = self.guarded(lambda data, source: self.feed(events.Datagram(data, source, 1)))
            self.world.network.listen(self.beside, beside)
            self.world.service.started(self)
        self.feed(events.Timer())

    def kill(self) -> None:
        self.end()
        self.selected = False
        self.world.network.close(self.internal)
        self.world.network.close(self.ng)
        if self.world.service is not None:
            self.world.network.close(self.address)
            self.world.network.close(self.beside)
            self.world.service.died(self)

    def drain(self, ended: Callable[[], None]) -> None:
        """SIGTERM: it ends when it is empty."""
        self.feed(events.Drain())
        self._leave(ended)

    def _leave(self, ended: Callable[[], None]) -> None:
        if self.core.empty:
            self.feed(events.Stop())
            self.kill()
            ended()
        else:
            self.world.clock.after(0.1, self.guarded(self._leave), ended)

    def receive(self, data: bytes, source: Address) -> None:
        self.feed(events.Datagram(data, source, 0))

    def feed(self, event: events.Event) -> None:
        self._perform(self.core.feed(event, self.now()))
        self.arm(self.core.next_timer(), lambda: self.feed(events.Timer()))

    def answered(self, answers: list[Answer]) -> None:
        for tag, replies in answers:
            self.feed(events.StoreReply(tag, replies))

    def changed(self, available: bool, run_id: str) -> None:
        self.feed(events.StoreState(available, run_id))

    def relay_changed(self, address: Address, up: bool) -> None:
        if address in self.watched and self.watched[address] != up:
            self.watched[address] = up
            self.feed(events.RelayState(address, up))

    def _perform(self, todo: list[actions.Action]) -> None:
        assert self.link is not None
        network = self.world.network
        for action in todo:
            if isinstance(action, actions.Store) and not self.link.queue(action.commands, action.tag) and action.tag:
                self.world.clock.after(0, self.guarded(self.answered), [(action.tag, None)])
        self.link.flush()
        for action in todo:
            match action:
                case actions.Send(data, target, listener):
                    lost = self.guarded(lambda t=target, n=listener, d=data: self.feed(events.TargetError(t, n, d)))
                    if self.world.service is not None:
                        self.world.service.leave(self, data, target, lost, beside=listener > 0)
                    else:
                        network.send(data, CLUSTER, target, lost)
                case actions.SendHop(data, peer):
                    network.send(data, self.internal, peer, self.guarded(lambda p=peer: self.feed(events.PeerDown(p))))
                case actions.SendNg(data, relay):
                    network.send(data, self.ng, relay)
                case actions.Relays(addresses):
                    self.watched = {address: self.watched.get(address, False) for address in addresses}
                    for relay in self.world.relays:
                        self.world.clock.after(0.001, self.guarded(self.relay_changed), relay.ng, relay.up)
                case actions.LeaveSelection():
                    self.selected = False
                case actions.JoinSelection():
                    self.selected = True
                case actions.Log(level, event, call_id, fields):
                    self.world.note(self.name, f"{level} {event}", call_id, fields)
                case _:
                    pass


class RelayNode(Node):
    """A relay; it comes back on the same address."""

    def __init__(self, world: World, ordinal: int) -> None:
        super().__init__(world, f"media-{ordinal}", ordinal)
        self.host = f"127.0.2.{ordinal + 1}"
        self.ng: Address = (self.host, 2223)

    def start(self) -> None:
        self.begin()
        world = self.world
        config = RelayConfig(
            pod=Pod(set="media", name=self.name, uid=f"u{self.incarnation}", ordinal=self.ordinal),
            ng=f"{self.host}:2223",
            interfaces=[self.host],
            ports=world.relay_ports,
            speak_first=world.relays_speak_first,
            store="redis://simulated",
            capacity=100,
        )
        self.core = RelayCore(config, Random(world.rng.getrandbits(64)), 0.0, store=True)
        self.ports: dict[int, Address] = {}
        keys = Keys("default", "media")
        lease = Lease(
            kind="relay",
            pod=self.name,
            uid=config.pod.uid,
            set="media",
            ordinal=self.ordinal,
            address=self.ng,
            capacity=100,
            started=self.now(),
        )
        self.keeper = LeaseKeeper(keys, lease)
        world.network.listen(self.ng, self.guarded(lambda data, source: self.feed(relay_events.Ng(data, source))))
        self._perform(self.core.start(self.now()))
        self._beat()
        for proxy in world.proxies:
            if proxy.up:
                world.clock.after(0.02, proxy.guarded(proxy.relay_changed), self.ng, True)

    def kill(self) -> None:
        self.end()
        self.world.network.close(self.ng)
        for address in self.ports.values():
            self.world.network.close(address)
        for proxy in self.world.proxies:
            if proxy.up:
                self.world.clock.after(0.001, proxy.guarded(proxy.relay_changed), self.ng, False)

    def feed(self, event: relay_events.Event) -> None:
        self._perform(self.core.feed(event, self.now()))

    def packet(self, handle: int, data: bytes, source: Address) -> None:
        forward = self.core.packet(data, handle, source, self.now())
        if forward is not None:
            out, port, target = forward
            self.world.network.send(bytes(out), self.ports[port], target)
        self._perform(self.core.flush(self.now()))

    def answered(self, answers: list[Answer]) -> None:
        for tag, replies in answers:
            if isinstance(tag, tuple) and tag[0] == "beat":
                if replies:
                    index = self.keeper.lease.index
                    self.keeper.answered(replies[0], tag[1])
                    if self.keeper.lease.index != index:
                        self._renew()
            else:
                self.feed(relay_events.StoreReply(tag, replies))

    def changed(self, available: bool, run_id: str) -> None:
        self.keeper.store_changed(available, self.now())
        self.feed(relay_events.StoreState(available, run_id))
        if available:
            self._renew()

    def _beat(self) -> None:
        self._renew()
        self.world.clock.after(1.0, self.guarded(self._beat))

    def _renew(self) -> None:
        assert self.link is not None
        lease = self.keeper.lease
        lease.active, lease.ready, lease.empty = len(self.core.sessions), self.core.ready, self.core.empty
        self.link.queue([self.keeper.heartbeat()], ("beat", self.now()))
        self.link.flush()

    def _perform(self, todo: list[relay_events.Action]) -> None:
        assert self.link is not None
        network = self.world.network
        for action in todo:
            match action:
                case relay_events.OpenPort(handle, address, number):
                    self.ports[handle] = (address, number or 60_000 + handle)
                    ear = self.guarded(lambda data, source, h=handle: self.packet(h, data, source))
                    network.listen(self.ports[handle], ear)
                case relay_events.ClosePort(handle):
                    network.close(self.ports.pop(handle))
                case relay_events.SendNg(data, target):
                    network.send(data, self.ng, target)
                case relay_events.SendPacket(data, handle, target):
                    network.send(bytes(data), self.ports[handle], target)
                case relay_events.Store(commands, tag):
                    if not self.link.queue(list(commands), tag) and tag is not None:
                        self.world.clock.after(0, self.guarded(self.answered), [(tag, None)])
                case relay_events.Log(level, event, call_id, fields):
                    self.world.note(self.name, f"{level} {event}", call_id.encode(), fields)
                case _:
                    pass
        self.link.flush()
        self.arm(self.core.next_timer(), lambda: self.feed(relay_events.Timer()))
