"""Telephones of a simulated world: the user agents of the judge, with audio that says which call it is of."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from sipfleet.calls.callee import Callee
from sipfleet.calls.caller import Caller
from sipfleet.calls.message import parse
from sipfleet.calls.ua import Agent, Phone, State
from tests.simulation.clock import Address
from tests.simulation.nodes import CALLEES, CLUSTER

if TYPE_CHECKING:
    from tests.simulation.world import World

PING = b"\r\n\r\n"
"""RFC 5626 3.5.1, over UDP as telephones do it."""
PACKET_EVERY = 0.2
"""Seconds between packets of a stream: 20 ms would cost ten times the work and find no more."""


class Ear:
    """One end of the audio of a call."""

    def __init__(self, world: World, call: SimCall, agent: Agent, address: Address, side: bytes) -> None:
        self.world = world
        self.call = call
        self.agent = agent
        self.address = address
        self.side = side
        self.sequence = 0
        self.heard = 0
        self.last = 0.0
        self.foreign: list[bytes] = []
        world.network.listen(address, self.hear)
        self.talk()

    def talk(self) -> None:
        if self.agent.state is State.OVER or self.world.over:
            return
        remote = self.agent.remote
        if self.agent.state is State.UP and remote is not None:
            self.sequence += 1
            header = b"\x80\x00" + (self.sequence & 0xFFFF).to_bytes(2, "big") + bytes(4) + b"SIMU"
            payload = b"%b|%b|%d" % (self.call.caller.call_id.encode(), self.side, self.sequence)
            self.world.network.send(header + payload, self.address, remote.rtp)
        self.world.clock.after(PACKET_EVERY, self.talk)

    def hear(self, data: bytes, source: Address) -> None:
        if not data:
            return  # a keepalive (RFC 6263 4.1)
        call_id, side, _ = data[12:].split(b"|")
        if call_id != self.call.caller.call_id.encode() or side == self.side:
            self.foreign.append(data[12:])
        self.heard += 1
        self.last = self.world.clock.now


class SimCall:
    """A call from set-up to its end, and what went wrong with it."""

    def __init__(self, world: World, number: int, duration: float) -> None:
        self.world = world
        self.number = number
        self.duration = duration
        self.sip: Address = (f"127.1.{number // 200}.{number % 200 + 1}", 5060)
        self.rng = Random(world.rng.getrandbits(64))
        caller_media: Address = (self.sip[0], 4000)
        self.callee_media: Address = (f"127.2.{number // 200}.{number % 200 + 1}", 4000)
        phone = Phone(self.sip, caller_media, self.rng)
        self.caller = Caller(f"{number}-{world.seed}@sim", phone, f"sip:{1000 + number}@example.test", str(number))
        self.callee: Callee | None = None
        self.ears: list[Ear] = []
        self.by_caller = bool(number % 2)
        self.established = 0.0
        self.started = world.clock.now
        world.network.listen(self.sip, self._hear)
        self.ears.append(Ear(world, self, self.caller, caller_media, b"caller"))
        self.caller.start(world.clock.now, 60.0)
        self._flush(self.caller)
        if world.keepalive:
            world.clock.after(self.rng.uniform(0, world.keepalive), self._keep_alive)

    def invited(self, data: bytes, source: Address) -> None:
        """The first INVITE reached the callee."""
        self.callee = Callee(Phone(CALLEES, self.callee_media, self.rng), parse(data), source)
        self.ears.append(Ear(self.world, self, self.callee, self.callee_media, b"callee"))
        self.callee.start(self.world.clock.now, self.rng.uniform(0.1, 1.0))
        self._flush(self.callee)

    def callee_hears(self, data: bytes, source: Address) -> None:
        assert self.callee is not None
        self.callee.receive(parse(data), source, self.world.clock.now)
        self._flush(self.callee)

    def faults(self) -> list[str]:
        """Why this call was not kept; empty when it was."""
        caller, callee = self.caller, self.callee
        if callee is None:
            return [f"never reached the callee (caller: {caller.state}, {caller.failure})"]
        out = []
        if caller.failure:
            out.append(f"set-up failed with {caller.failure}")
        leaver = caller if self.by_caller else callee
        if leaver.bye_status != 200:
            out.append(f"BYE of the {'caller' if self.by_caller else 'callee'} got {leaver.bye_status}")
        if caller.state is not State.OVER or callee.state is not State.OVER:
            out.append(f"not over: caller {caller.state}, callee {callee.state}")
        for ear in self.ears:
            if ear.foreign:
                out.append(f"{ear.side!r} heard {ear.foreign[0]!r}")
            if leaver.bye_sent_at - ear.last > self.world.longest_gap:
                out.append(f"{ear.side!r} heard nothing for {leaver.bye_sent_at - ear.last:.1f} s before the BYE")
        return out

    def _hear(self, data: bytes, source: Address) -> None:
        if source != CLUSTER:
            return  # a connected socket
        self.caller.receive(parse(data), source, self.world.clock.now)
        self._flush(self.caller)

    def _flush(self, agent: Agent) -> None:
        now = self.world.clock.now
        outbox, agent.outbox = agent.outbox, []
        origin = self.sip if agent is self.caller else CALLEES
        for data, target in outbox:
            self.world.network.send(data, origin, target or CLUSTER)
        if not self.established and self.callee is not None and self.callee.acked_at:
            self.established = now
            self.world.clock.after(self.duration, self._leave)
        if agent.due < float("inf"):
            self.world.clock.after(agent.due - now, self._tick, agent, agent.due)

    def _keep_alive(self) -> None:
        if self.caller.state is not State.OVER and not self.world.over:
            self.world.network.send(PING, self.sip, CLUSTER)
            self.world.clock.after(self.world.keepalive, self._keep_alive)

    def _tick(self, agent: Agent, due: float) -> None:
        if agent.due == due and not self.world.over:
            agent.tick(self.world.clock.now)
            self._flush(agent)

    def _leave(self) -> None:
        agent = self.caller if self.by_caller else self.callee
        assert agent is not None
        agent.hang_up(self.world.clock.now)
        self._flush(agent)
