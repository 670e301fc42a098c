"""The userspace datapath: UDP sockets read in batches, one look-up a packet, no object and no coroutine for any.

An established stream costs a receive, a look-up in `Port.routes`, the counters, and a send. Everything else is decided
by the core's `packet`.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable

from rtprelay.core import RelayCore
from rtprelay.core.events import Source
from rtprelay.core.model import Stream

PACKET_BYTES = 2048
"""Longer datagrams are cut: no RTP is longer than an Ethernet frame."""

BURST = 64
"""Packets read from one shared port before the next socket has its turn."""

SOCKET_BUFFER = 1 << 20
"""Of a shared port, bytes; the kernel's default holds about 90 packets of all its calls."""

Receive = Callable[[int], tuple[bytes, Source]]
Send = Callable[[bytes, Source], int]


class Datapath:
    """All RTP and RTCP sockets."""

    def __init__(self, core: RelayCore, epoll: select.epoll, *, tos: int, shared: bool, crossed: bool = False) -> None:
        self.errors = 0
        """Sends that the kernel refused."""
        self._core = core
        self._epoll = epoll
        self._tos = tos
        self._shared = shared
        self._crossing = Crossing() if crossed else None
        self._sockets: dict[int, socket.socket] = {}
        self._sends: dict[int, Send] = {}
        self._ports: dict[int, tuple[Receive, dict[Source, Stream], int]] = {}
        """By file descriptor: receive, routes, handle."""

    def open(self, handle: int, address: str, number: int) -> None:
        """Bind a socket and read from it from now on.

        Raises `OSError`.
        """
        port = self._core.port(handle)
        if port is None:
            return
        v6 = ":" in address
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if v6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, self._tos)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, self._tos)
            if self._shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
            sock.bind((address, number))
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        except OSError:
            sock.close()
            raise
        self._sockets[handle] = sock
        receive: Receive = _receive6(sock) if v6 else sock.recvfrom
        self._sends[handle] = sock.sendto if self._crossing is None else self._crossing.wrap(handle, sock.sendto)
        self._ports[sock.fileno()] = (receive, port.routes, handle)

    def close(self, handle: int) -> None:
        sock = self._sockets.pop(handle, None)
        if sock is not None:
            del self._ports[sock.fileno()], self._sends[handle]
            sock.close()

    def pump(self, events: Iterable[tuple[int, int]], now: float) -> list[tuple[int, int]]:
        """Read and forward what came on media sockets; the events that are not theirs."""
        ports, sends, packet, errors = self._ports, self._sends, self._core.packet, 0
        others: list[tuple[int, int]] = []
        burst = BURST if self._shared else 1
        for event in events:
            entry = ports.get(event[0])
            if entry is None:
                others.append(event)
                continue
            receive, routes, handle = entry
            try:
                for _ in range(burst):
                    data, source = receive(PACKET_BYTES)
                    stream = routes.get(source)
                    if stream is not None and stream.count(data, now):
                        sends[stream.out](data, stream.target)
                        continue
                    forward = packet(data, handle, source, now)
                    if forward is not None:
                        sends[forward[1]](forward[0], forward[2])
            except BlockingIOError:
                pass
            except OSError:
                errors += 1
        self.errors += errors
        return others

    def send(self, handle: int, data: bytes, target: Source) -> None:
        """Send one packet that was held."""
        send = self._sends.get(handle)
        if send is None:
            return
        try:
            send(data, target)
        except OSError:
            self.errors += 1

    def shut(self) -> None:
        for handle in list(self._sockets):
            self.close(handle)


def _receive6(sock: socket.socket) -> Receive:
    """Flow label and scope are no part of who a sender is."""

    def receive(size: int) -> tuple[bytes, Source]:
        data, source = sock.recvfrom(size)
        return data, source[:2]

    return receive


class Crossing:
    """SIPFLEET_BREAK=cross (docs/decisions/0005): a packet leaves with the content of the one before it of another port."""

    def __init__(self) -> None:
        self._last: tuple[int, bytes] | None = None

    def wrap(self, handle: int, send: Send) -> Send:
        def crossed(data: bytes, target: Source) -> int:
            last, self._last = self._last, (handle, data)
            return send(last[1] if last is not None and last[0] != handle else data, target)

        return crossed
