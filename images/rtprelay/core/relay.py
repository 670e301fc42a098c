"""The relay core: events in, actions out, and one function for packets (docs/decisions/0001)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rtprelay.core.book import Book
from rtprelay.core.commands import Commands
from rtprelay.core.control import Answers
from rtprelay.core.events import (
    Action,
    Configure,
    Cordon,
    Drain,
    Event,
    Ng,
    Peers,
    PortFailed,
    SendNg,
    Source,
    Store,
    StoreReply,
    StoreState,
    Timer,
    Uncordon,
)
from rtprelay.core.forward import PLACE, Forwarder
from rtprelay.core.keep import Restorer
from rtprelay.core.match import Forward, Matcher
from rtprelay.core.model import Port
from rtprelay.core.offer import Negotiator
from rtprelay.core.ports import Handles, Pool, PortSpec, RangePool, SharedPool, parse_interface
from sipcore import ng
from sipcore.config import RelayConfig
from sipcore.errors import NgError
from sipcore.store import Command

SWEEP = 5.0
"""Seconds between rounds of forgetting: quiet sources, held packets."""

STORE_WAIT = 2.0
"""Seconds that a start waits for the store before the relay calls itself ready; new sessions are served meanwhile."""

RESTORE = "restore"
"""Tag of the read of the stored sessions."""


class RelayCore:
    """All that a relay decides; the edge owns sockets and the clock.

    `wall` is Unix time minus the clock of `now`, seconds. With `store` false nothing is written and nothing restored.
    """

    def __init__(self, config: RelayConfig, rng: Random, wall: float, *, store: bool, restore: bool = True) -> None:
        """Raises `ConfigError` for interfaces or ports that cannot be."""
        self.spec = PortSpec.parse(config.ports)
        self.cordoned = False
        self.draining = False
        self.ready = False
        """Whether what the store had is restored, or will not be waited for."""
        self.store_available = False
        self._restore = restore and store
        self._restoring = False
        self._run_id = ""
        self._ready_at = 0.0
        self._sweep_at = 0.0
        self._actions: list[Action] = []
        self._handles = Handles(beside=not config.speak_first)
        interfaces = [parse_interface(text) for text in config.interfaces]
        self._pools: list[Pool] = [
            SharedPool(interface, self.spec, self._handles)
            if self.spec.shared
            else RangePool(interface, self.spec, self._handles, rng)
            for interface in interfaces
        ]
        self.matcher = Matcher(self._handles, shared=self.spec.shared, speak_first=config.speak_first)
        negotiator = Negotiator(interfaces, self._pools, self.matcher, rng)
        restorer = Restorer(interfaces, self._pools, self.matcher)
        self._book = Book(config, negotiator, restorer, self._actions, wall, store=store)
        self.sessions = self._book.sessions
        self.counters = self._book.counters
        self._commands = Commands(self._book, negotiator, self._actions)
        self._answers = Answers()
        self._forwarder = Forwarder(self._book.keys, config.pod.name)
        self._handlers: dict[type, Callable[..., None]] = {
            Ng: self._ng,
            StoreReply: self._store_reply,
            StoreState: self._store_state,
            PortFailed: self._port_failed,
            Timer: self._timer,
            Cordon: self._cordon,
            Uncordon: self._uncordon,
            Drain: self._drain,
            Configure: self._configure,
            Peers: self._peers,
        }
        self.packet: Callable[[bytes, int, Source, float], Forward | None] = self.matcher.packet
        """`packet(data, handle, source, now)` -> (data, handle to send from, target) or None; `flush` afterwards."""

    @property
    def config(self) -> RelayConfig:
        return self._book.config

    def port(self, handle: int) -> Port | None:
        """The port of an `OpenPort`."""
        return self._handles.ports.get(handle)

    @property
    def empty(self) -> bool:
        return not self.sessions

    def start(self, now: float) -> list[Action]:
        """First of all: the ports to open."""
        self._sweep_at = now + SWEEP
        self._ready_at = now + STORE_WAIT
        self.ready = not self._restore
        self._refill(now)
        return self._take()

    def feed(self, event: Event, now: float) -> list[Action]:
        """Take in one event; the actions, in order. `now` in seconds. Raises nothing, whatever a socket brought."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event, now)
        return self.flush(now)

    def flush(self, now: float) -> list[Action]:
        """Actions that packets caused: learnt sources go to the store at once."""
        if self.matcher.changed:
            changed, self.matcher.changed = self.matcher.changed, set()
            self._book.write([session for session in changed if self.sessions.get(session.call_id) is session])
        return self._take()

    def next_timer(self) -> float:
        """When to feed `Timer` next, on the clock of `now`."""
        at = min(self._sweep_at, self._book.next_deadline)
        return at if self.ready else min(at, self._ready_at)

    def _take(self) -> list[Action]:
        actions = [*self._actions, *self.matcher.couplings]
        self._actions.clear()
        self.matcher.couplings.clear()
        return actions

    def _refill(self, now: float) -> None:
        for pool in self._pools:
            pool.refill(now, self._actions)

    # ng commands

    def _ng(self, event: Ng, now: float) -> None:
        try:
            request = ng.parse_request(event.data)
        except NgError as error:
            self._not_a_command(event, error, now)
            return
        peer = (event.source, request.cookie)
        data = self._answers.get(peer)
        if data is not None:
            self._actions.append(SendNg(data, event.source))
        elif not self.ready and self._may_be_restored(request):
            return  # the asker asks again
        elif not (self.store_available and self._not_new(request)) or not self._forwarder.ask(
            request, event.source, now, self._actions
        ):
            self._reply(request, event.source, now)

    def _reply(self, request: ng.Request, source: Source, now: float) -> None:
        data = ng.reply(request.cookie, self._commands.execute(request, now))
        self._answers.put((source, request.cookie), data, now)
        self._actions.append(SendNg(data, source))
        self._refill(now)

    def _not_a_command(self, event: Ng, error: NgError, now: float) -> None:
        answered = self._forwarder.answered(event.data) if error.cookie else None
        if answered is not None:
            errand, data = answered
            self._answers.put((errand.source, errand.request.cookie), data, now)
            self._actions.append(SendNg(data, errand.source))
            return
        self.counters.errors += 1
        if error.cookie:
            self._actions.append(SendNg(ng.reply(error.cookie, ng.error(str(error))), event.source))

    def _may_be_restored(self, request: ng.Request) -> bool:
        """Whether a command that comes before the stored sessions are back may be for one of them."""
        return self._not_new(request) or (self._restoring and bool(request.text(b"call-id")))

    def _not_new(self, request: ng.Request) -> bool:
        """Whether a command is for a call that was set up already, and not here."""
        if request.text(b"call-id") in self.sessions:
            return False
        command = request.command
        return command in ("answer", "delete", "query") or (command == "offer" and bool(request.text(b"to-tag")))

    # time

    def _timer(self, event: Timer, now: float) -> None:
        self._book.expire(now)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP
            self.matcher.sweep(now)
            self._forwarder.sweep(now)
            for pool in self._pools:
                pool.sweep(now)
            self._refill(now)
        if not self.ready and now >= self._ready_at:
            self.ready = True
            self._book.log("warning", "not_restored", reason="the store did not answer in time")
            self._refill(now)

    # store

    def _store_state(self, event: StoreState, now: float) -> None:
        self.store_available = event.available
        if not event.available:
            return
        another = bool(self._run_id) and event.run_id != self._run_id
        self._run_id = event.run_id
        if self._restore and not self._restoring:
            self._restoring = True
            read: Command = (b"HGETALL", self._book.keys.sessions(self.config.pod.name))
            self._actions.append(Store([read], RESTORE))
        elif another:
            self._book.write_all()

    def _store_reply(self, event: StoreReply, now: float) -> None:
        if isinstance(event.tag, tuple) and event.tag[0] == PLACE:
            errand = self._forwarder.placed(event.tag[1], event.replies, self._actions)
            if errand is not None:
                self._reply(errand.request, errand.source, now)
            return
        if event.tag != RESTORE:
            return
        if event.replies is None:
            self._restoring = False  # the connection broke: asked again with the next
            return
        self._restore = False
        fields = event.replies[0]
        for data in fields[1::2] if isinstance(fields, list) else []:
            self._book.take_up(data, now)
        if self.counters.restored or self.counters.not_restored:
            self._book.log("info", "restored", sessions=self.counters.restored, lost=self.counters.not_restored)
        self.ready = True
        self._refill(now)

    # everything else

    def _port_failed(self, event: PortFailed, now: float) -> None:
        port = self._handles.ports.get(event.handle)
        if port is None:
            return
        self._book.log("warning", "port_failed", address=port.interface.address, port=port.number, reason=event.reason)
        for session in {leg.party.session for leg in port.legs}:
            self.counters.not_restored += session.restored
            self._book.end(session, now, f"port {port.number}: {event.reason}")
        for pool in self._pools:
            if pool.interface is port.interface:
                pool.failed(port.number & ~1, now, self._actions)

    def _cordon(self, event: Cordon, now: float) -> None:
        self.cordoned = self._commands.closed = True

    def _uncordon(self, event: Uncordon, now: float) -> None:
        self.cordoned = self.draining = self._commands.closed = False

    def _drain(self, event: Drain, now: float) -> None:
        self.cordoned = self.draining = self._commands.closed = True

    def _configure(self, event: Configure, now: float) -> None:
        self._book.config = event.config

    def _peers(self, event: Peers, now: float) -> None:
        self._forwarder.update(event.leases)
