"""The edge of the proxy: one loop that owns every socket, feeds the core and carries its actions out in order.

One turn: sockets are read until they are empty (bounded), each datagram is fed to the core, then all store commands of
the turn are written to the store's socket, then everything else leaves in order (DESIGN 2.4, 7).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from time import CLOCK_BOOTTIME, clock_gettime

from sipcore.config import ProxyConfig, endpoint
from sipcore.store import Answer, StoreUrl
from sipproxy import sockets
from sipproxy.core import ProxyCore
from sipproxy.core.actions import (
    Action,
    JoinSelection,
    LeaveSelection,
    Log,
    Relays,
    Send,
    SendHop,
    SendNg,
    Store,
)
from sipproxy.core.events import (
    Datagram,
    Event,
    Hop,
    NgReply,
    PeerDown,
    RelayState,
    StoreReply,
    StoreState,
    TargetError,
    Timer,
)
from sipproxy.log import JsonLog
from sipproxy.relaywatch import RelayWatch
from sipproxy.storelink import StoreLink

Address = tuple[str, int]

TURN = 64
"""Datagrams read from a socket before the loop looks at the others."""
MAX_PEERS = 1024
_READ_AGAIN = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINTR)


def boot_time() -> float:
    """Seconds on the clock that goes on while the machine sleeps (DESIGN 2.7)."""
    return clock_gettime(CLOCK_BOOTTIME)


class Edge:
    """Sockets around one `ProxyCore`."""

    def __init__(self, config: ProxyConfig, core: ProxyCore, log: JsonLog) -> None:
        """Opens the sockets.

        Raises `OSError` with the address that cannot be had, `ConfigError` for one that cannot be read.
        """
        self.core = core
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        internal = endpoint(config.internal) if config.internal else None
        self._listeners = [
            sockets.open_udp((one.address, one.port), shared=True, errors=True) for one in config.listeners
        ]
        self._beside = {
            number: sockets.open_udp((one.address, 0), errors=True)
            for number, one in enumerate(config.listeners, len(config.listeners))
            if config.flows and one.advertised
        }
        """By which what nobody holds is spoken to (`sipproxy.core.flows`)."""
        self._senders = [
            *self._listeners,
            *(self._beside.get(number, sock) for number, sock in enumerate(self._listeners, len(self._listeners))),
        ]
        """By the number that a `Send` names."""
        self._internal = sockets.open_udp(internal) if internal else None
        self._internal_host = internal[0] if internal else ""
        self._ng: dict[socket.AddressFamily, socket.socket] = {}
        self._peers: dict[Address, socket.socket] = {}
        self._relays = RelayWatch(lambda address, up: self.feed(RelayState(address, up)))
        self._watches = []
        for number, sock in (*enumerate(self._listeners), *self._beside.items()):
            self._watches.append(sockets.watch(sock))
            self._loop.add_reader(self._watches[-1], self._reader(sock, number))
        if self._internal is not None:
            self._loop.add_reader(self._internal, self._read_internal, self._internal)
        self.store = (
            StoreLink(StoreUrl.parse(config.store), self._store_answered, self._store_changed)
            if config.store != "none"
            else None
        )

    def start(self) -> None:
        """The first turn: the core says what it needs."""
        self.feed(Timer())

    # -- into the core

    def feed(self, *events: Event) -> None:
        """One turn: the events go in, what the core wants is done."""
        now = boot_time()
        actions: list[Action] = []
        for event in events:
            actions += self.core.feed(event, now)
        if actions:
            self._perform(actions)
        self._arm(now)

    def _arm(self, now: float) -> None:
        due = self.core.next_timer()
        if due is None or due >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(max(0.0, due - now), self._timer_due)

    def _timer_due(self) -> None:
        self._timer, self._due = None, float("inf")
        self.feed(Timer())

    def _reader(self, sock: socket.socket, listener: int) -> Callable[[], None]:
        receive, feed, perform = sock.recvfrom, self.core.feed, self._perform

        def failed(now: float) -> list[Action]:
            actions: list[Action] = []
            for target, piece in sockets.failed_sends(sock):
                actions += feed(TargetError(target, listener, piece), now)
            return actions

        def read() -> None:
            actions: list[Action] = []
            now = boot_time()
            for turn in range(TURN):
                try:
                    data, source = receive(sockets.MAX_DATAGRAM)
                except BlockingIOError:
                    if turn == 0:
                        # Woken for the error queue alone: a send has taken the error itself.
                        actions += failed(now)
                    break
                except OSError as error:
                    if error.errno in _READ_AGAIN:
                        actions += failed(now)
                        continue
                    self._log.line("error", "read-failed", fields={"listener": listener, "error": str(error)})
                    break
                actions += feed(Datagram(data, source if len(source) == 2 else source[:2], listener), now)
            if actions:
                perform(actions)
            self._arm(now)

        return read

    def _read_internal(self, sock: socket.socket) -> None:
        events: list[Event] = []
        for _ in range(TURN):
            try:
                events.append(Hop(sock.recv(sockets.MAX_DATAGRAM)))
            except OSError:
                break
        self.feed(*events)

    def _read_ng(self, sock: socket.socket) -> None:
        events: list[Event] = []
        for _ in range(TURN):
            try:
                data, relay = sock.recvfrom(sockets.MAX_DATAGRAM)
            except BlockingIOError:
                break
            except OSError:
                continue
            events.append(NgReply(relay[:2], data))
        self.feed(*events)

    def _store_answered(self, answers: list[Answer]) -> None:
        self.feed(*[StoreReply(tag, replies) for tag, replies in answers])

    def _store_changed(self, available: bool, run_id: str) -> None:
        self._log.line("info" if available else "warning", "store", fields={"available": available})
        self.feed(StoreState(available, run_id))

    # -- out of the core

    def _perform(self, actions: list[Action]) -> None:
        store = self.store
        unanswered: list[object] = []
        written = False
        for action in actions:
            if type(action) is Store:
                if store is not None:
                    written = True
                    if store.queue(action.commands, action.tag) or action.tag is None:
                        continue
                if action.tag is not None:
                    unanswered.append(action.tag)
        if written and store is not None:
            store.flush()
        senders = self._senders
        for action in actions:
            kind = type(action)
            if kind is Send:
                # mypy does not see that `kind` says what `action` is.
                try:
                    senders[action.listener].sendto(action.data, action.target)  # type: ignore[union-attr]
                except OSError:  # an ICMP error of an earlier datagram may have been in the way
                    self._send_again(action)  # type: ignore[arg-type]
            elif kind is not Store:
                _DO[kind](self, action)
        self._log.flush()
        if unanswered:
            # The core is not entered again from inside its own turn.
            self._loop.call_soon(self.feed, *[StoreReply(tag, None) for tag in unanswered])

    def _send_again(self, action: Send) -> None:
        number = sockets.send(self._senders[action.listener], action.data, action.target)
        if number not in (0, errno.EAGAIN):
            self._loop.call_soon(self.feed, TargetError(action.target, action.listener, action.data))

    def _send_hop(self, action: SendHop) -> None:
        sock = self._peers.get(action.peer)
        if sock is None:
            sock = self._connect_peer(action.peer)
            if sock is None:
                return
        try:
            sock.send(action.data)
        except BlockingIOError:
            pass
        except OSError:
            self._peer_down(action.peer)

    def _connect_peer(self, peer: Address) -> socket.socket | None:
        if len(self._peers) >= MAX_PEERS:
            self._close_peer(next(iter(self._peers)))
        try:
            sock = sockets.open_udp((self._internal_host or ("::" if ":" in peer[0] else "0.0.0.0"), 0))
            sock.connect(peer)
        except OSError as error:
            self._log.line("error", "peer-unreachable", fields={"peer": f"{peer[0]}:{peer[1]}", "error": str(error)})
            self._loop.call_soon(self.feed, PeerDown(peer))
            return None
        self._peers[peer] = sock
        self._loop.add_reader(sock, self._peer_readable, peer, sock)
        return sock

    def _peer_readable(self, peer: Address, sock: socket.socket) -> None:
        """Nobody answers on this socket: what can be read is the ICMP error of a dead peer."""
        try:
            sock.recv(1)
        except BlockingIOError:
            pass
        except OSError:
            self._peer_down(peer)

    def _peer_down(self, peer: Address) -> None:
        self._close_peer(peer)
        self._loop.call_soon(self.feed, PeerDown(peer))

    def _close_peer(self, peer: Address) -> None:
        sock = self._peers.pop(peer, None)
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()

    def _send_ng(self, action: SendNg) -> None:
        family = sockets.family_of(action.relay[0])
        sock = self._ng.get(family)
        if sock is None:
            host = self._internal_host
            if not host or sockets.family_of(host) != family:
                host = "::" if family == socket.AF_INET6 else "0.0.0.0"
            sock = self._ng[family] = sockets.open_udp((host, 0))
            self._loop.add_reader(sock, self._read_ng, sock)
        sockets.send(sock, action.data, action.relay)

    def _watch_relays(self, action: Relays) -> None:
        self._relays.watch(action.addresses)

    def _leave(self, action: LeaveSelection) -> None:
        for number in action.listeners:
            sockets.leave_selection(self._listeners[number])

    def _join(self, action: JoinSelection) -> None:
        for number in action.listeners:
            sockets.join_selection(self._listeners[number])

    def _write_log(self, action: Log) -> None:
        self._log.add(action.level, action.event, action.call_id, action.fields)

    async def close(self) -> None:
        """Close everything; what the store's socket still takes is written first."""
        if self._timer is not None:
            self._timer.cancel()
        self._relays.close()
        if self.store is not None:
            self.store.flush()
            await self.store.close()
        everything = [*self._listeners, *self._beside.values(), *self._peers.values(), *self._ng.values()]
        if self._internal is not None:
            everything.append(self._internal)
        for watch in self._watches:
            self._loop.remove_reader(watch)
            watch.close()
        for sock in everything:
            with contextlib.suppress(OSError, ValueError):
                self._loop.remove_reader(sock)
            sock.close()


_DO: dict[type, Callable[[Edge, Action], None]] = {
    SendHop: Edge._send_hop,  # type: ignore[dict-item]
    SendNg: Edge._send_ng,  # type: ignore[dict-item]
    Relays: Edge._watch_relays,  # type: ignore[dict-item]
    LeaveSelection: Edge._leave,  # type: ignore[dict-item]
    JoinSelection: Edge._join,  # type: ignore[dict-item]
    Log: Edge._write_log,  # type: ignore[dict-item]
}
