"""The relay's loop: one epoll, media first, then control. Nothing in it waits for anything else."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from random import SystemRandom

from rtprelay.configfile import ConfigFile
from rtprelay.core import RelayCore
from rtprelay.core.events import (
    Action,
    ClosePort,
    Cordon,
    Couple,
    Drain,
    Event,
    Log,
    Ng,
    OpenPort,
    Peers,
    PortFailed,
    SendNg,
    SendPacket,
    Store,
    StoreReply,
    StoreState,
    Timer,
    Uncordon,
    Uncouple,
)
from rtprelay.datapath import Datapath
from rtprelay.lease import LeaseBeat
from rtprelay.link import StoreLink
from rtprelay.log import Logger
from rtprelay.streams import Connection, Streams
from sipcore.config import RelayConfig, endpoint
from sipcore.store import Answer, StoreUrl

NG_BURST = 32
"""Commands read before media has its turn again."""

MAX_WAIT = 1.0

clock: Callable[[], float] = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class Relay:
    """One running relay."""

    def __init__(self, config: RelayConfig, log: Logger, broken: frozenset[str] = frozenset()) -> None:
        """Raises `ConfigError`, or `OSError` when the ng or admin address cannot be bound."""
        now = clock()
        self.config = config
        self.log = log
        self.broken = broken
        self.file: ConfigFile | None = None
        self.started = now
        self.stopping = False
        self._exit_when_empty = False
        stored = config.store != "none"
        self.core = RelayCore(config, SystemRandom(), time.time() - now, store=stored, restore="restore" not in broken)
        self._epoll = select.epoll()
        self.datapath = Datapath(
            self.core, self._epoll, tos=config.tos, shared=self.core.spec.shared, crossed="cross" in broken
        )
        self._streams = Streams(self._epoll)
        address = endpoint(config.ng)
        self._ng = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._ng.setblocking(False)
        self._ng.bind(address)
        self._epoll.register(self._ng.fileno(), select.EPOLLIN)
        self._streams.listen(address, Connection)
        if config.admin:
            self._streams.listen(endpoint(config.admin), self._admin)
        self.link = StoreLink(StoreUrl.parse(config.store), self._epoll) if stored else None
        self.lease = LeaseBeat(self.core, address, time.time()) if stored else None
        self._store_seen = (False, "")
        self._wake, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)

    def run(self) -> None:
        """Serve until told to end."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        signal.signal(signal.SIGINT, lambda *_: self._stop())
        if self.link is not None:
            self.link.tick(self.started)
        self.act(self.core.start(self.started))
        self.log("info", "started", interfaces=self.config.interfaces, ports=self.config.ports, ng=self.config.ng)
        # What stands now stands for ever; sessions hold no cycles once they are over.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        try:
            while not self.stopping:
                self._turn()
        finally:
            self._close()

    def _turn(self) -> None:
        core = self.core
        events = self._epoll.poll(max(0.0, min(self._next() - clock(), MAX_WAIT)))
        now = clock()
        others = self.datapath.pump(events, now)
        if core.matcher.changed or core.matcher.couplings:
            self.act(core.flush(now))
        for fd, mask in others:
            self._control(fd, mask, now)
        if core.next_timer() <= now:
            self.feed(Timer(), now)
        if self.link is not None:
            self._tend_store(now)
        if self.file is not None and self.file.next_at <= now and self.file.replaced(now):
            self._load_file()
        if self._exit_when_empty and core.empty:
            self.stopping = True

    def _admin(self, sock: socket.socket) -> Connection:
        """A connection on the admin port. HTTP is imported with the first: after a restart the calls come first."""
        from rtprelay.admin import Admin, admin_table

        return Admin(sock, admin_table(self))

    def _load_file(self) -> None:
        from rtprelay.admin import reload

        reload(self)

    def _next(self) -> float:
        at = self.core.next_timer()
        if self.link is not None:
            if self.link.due_at is not None:
                at = min(at, self.link.due_at)
            elif self.lease is not None:
                at = min(at, self.lease.next_at)
        return at

    def _control(self, fd: int, mask: int, now: float) -> None:
        if fd == self._ng.fileno():
            self._read_ng(now)
        elif self.link is not None and self.link.owns(fd):
            self._answers(self.link.ready(fd, mask, now), now)
        elif fd == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        else:
            self._streams.handle(fd, mask)

    def _read_ng(self, now: float) -> None:
        for _ in range(NG_BURST):
            try:
                data, source = self._ng.recvfrom(65_535)
            except OSError:
                return
            self.feed(Ng(data, source[:2]), now)

    def feed(self, event: Event, now: float | None = None) -> None:
        """Give the core an event and do what it says."""
        self.act(self.core.feed(event, clock() if now is None else now))

    def act(self, actions: list[Action]) -> None:
        """Carry actions out in order."""
        later: list[Event] = []
        wrote = False
        for action in actions:
            if isinstance(action, SendNg):
                with contextlib.suppress(OSError):
                    self._ng.sendto(action.data, action.target)
            elif isinstance(action, SendPacket):
                self.datapath.send(action.handle, action.data, action.target)
            elif isinstance(action, OpenPort):
                try:
                    self.datapath.open(action.handle, action.address, action.number)
                except OSError as error:
                    later.append(PortFailed(action.handle, str(error)))
            elif isinstance(action, ClosePort):
                self.datapath.close(action.handle)
            elif isinstance(action, Couple):
                self.datapath.couple(action, clock())
            elif isinstance(action, Uncouple):
                self.datapath.uncouple(action)
            elif isinstance(action, Store):
                if self.link is not None:
                    wrote = True
                    if not self.link.send(list(action.commands), action.tag) and action.tag is not None:
                        later.append(StoreReply(action.tag, None))
            elif isinstance(action, Log):
                self.log(action.level, action.event, action.call_id, **action.fields)
        if wrote and self.link is not None:
            self._answers(self.link.write(clock()), clock())
        for event in later:
            self.feed(event)

    # the store and the lease

    def _tend_store(self, now: float) -> None:
        link, lease = self.link, self.lease
        if link is None or lease is None:
            return
        link.tick(now)
        if lease.silent(now):
            self._answers(link.lost(now), now)
        state = (link.client.available, link.client.run_id)
        if state != self._store_seen:
            self._store_seen = state
            lease.store_changed(state[0], now)
            self.log("info" if state[0] else "warning", "store", available=state[0])
            self.feed(StoreState(*state), now)
        command = lease.due(now) if state[0] else None
        if command is not None:
            link.send([command], ("beat", now))
            self._answers(link.write(now), now)

    def _answers(self, answers: list[Answer], now: float) -> None:
        for tag, replies in answers:
            if isinstance(tag, tuple) and tag[0] == "beat":
                if replies is not None and self.lease is not None:
                    self.lease.answered(replies[0], tag[1])
                    self.feed(Peers(list(self.lease.alive.values())), now)
            else:
                self.feed(StoreReply(tag, replies), now)

    # admin verbs and signals

    def cordon(self) -> None:
        self.feed(Cordon())
        self._announce("cordoned")

    def uncordon(self) -> None:
        self.feed(Uncordon())
        self._announce("uncordoned")

    def drain(self) -> None:
        """No new sessions; with SIPFLEET_BREAK=drain the calls are cut (docs/decisions/0005)."""
        self.feed(Drain())
        self._announce("draining")
        if "drain" in self.broken:
            self.stopping = True

    def _announce(self, event: str) -> None:
        self.log("info", event, sessions=len(self.core.sessions))
        if self.lease is not None:
            self.lease.hurry()

    def _terminate(self) -> None:
        """SIGTERM: drain, and end when empty."""
        self._exit_when_empty = True
        self.drain()

    def _stop(self) -> None:
        """SIGINT: end now; sessions stay in the store for the next incarnation."""
        self.stopping = True

    def _close(self) -> None:
        self.log("info", "stopped", sessions=len(self.core.sessions))
        if self.link is not None and self.lease is not None and self.link.client.available:
            self.link.send([self.lease.release()])
            self.link.write(clock())
        self.datapath.shut()
        self._streams.close()
        self._ng.close()
