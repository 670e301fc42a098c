"""The userspace datapath: UDP sockets read in batches, one look-up a packet, no object and no coroutine for any.

An established stream costs a receive, a look-up in `Port.routes`, the counters, and a send. Everything else is decided
by the core's `packet`.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
from collections.abc import Callable, Iterable

from rtprelay.core import RelayCore
from rtprelay.core.events import Couple, Source, Uncouple
from rtprelay.core.model import Stream

PACKET_BYTES = 2048
"""Longer datagrams are cut: no RTP is longer than an Ethernet frame."""

QUEUE = 4096
"""More packets than a socket's queue can hold."""

BURST = 64
"""Packets read from one shared port before the next socket has its turn."""

SOCKET_BUFFER = 1 << 20
"""Of a shared port, bytes; the kernel's default holds about 90 packets of all its calls."""

ReceiveFrom = Callable[[int], tuple[bytes, Source]]
SendTo = Callable[[bytes, Source], int]
Receive = Callable[[int], bytes]
Send = Callable[[bytes], int]


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
        self._sends: dict[int, SendTo] = {}
        self._ports: dict[int, tuple[ReceiveFrom, dict[Source, Stream], int]] = {}
        """By file descriptor: receive, routes, handle."""
        self._coupled: dict[int, tuple[Receive, Stream, Send, int, Source]] = {}
        """By file descriptor, sockets that are connected to their one source: receive, its stream, send."""

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
        receive: ReceiveFrom = _receive6(sock) if v6 else sock.recvfrom
        self._sends[handle] = sock.sendto if self._crossing is None else self._crossing.wrap(handle, sock.sendto)
        self._ports[sock.fileno()] = (receive, port.routes, handle)

    def close(self, handle: int) -> None:
        sock = self._sockets.pop(handle, None)
        if sock is not None:
            self._coupled.pop(sock.fileno(), None)
            del self._ports[sock.fileno()], self._sends[handle]
            sock.close()

    def couple(self, action: Couple, now: float) -> None:
        """Connect both sockets to their one source: the kernel then looks nothing up for each packet.

        That saves a fifth of a packet's cost. What other sources had put into the queues before is judged one by one.
        """
        one, two = self._sockets.get(action.one), self._sockets.get(action.two)
        if one is None or two is None or self._crossing is not None:
            return
        ends = ((action.one, one, action.one_source, two), (action.two, two, action.two_source, one))
        try:
            for _, sock, source, _ in ends:
                sock.connect(source)
        except OSError:
            self.uncouple(Uncouple(action.one, action.two))
            return
        for handle, sock, source, out in ends:
            with contextlib.suppress(OSError):
                self._drain(sock.fileno(), QUEUE, now)
            port = self._core.port(handle)
            stream = port.routes.get(source) if port is not None else None
            if stream is not None:
                self._coupled[sock.fileno()] = (sock.recv, stream, out.send, handle, source)

    def uncouple(self, action: Uncouple) -> None:
        """Take packets from anybody again."""
        for handle in (action.one, action.two):
            sock = self._sockets.get(handle)
            if sock is not None:
                self._coupled.pop(sock.fileno(), None)
                _disconnect(sock)

    def pump(self, events: Iterable[tuple[int, int]], now: float) -> list[tuple[int, int]]:
        """Read and forward what came on media sockets; the events that are not theirs."""
        coupled, ports, sends, packet = self._coupled, self._ports, self._sends, self._core.packet
        others: list[tuple[int, int]] = []
        burst = BURST if self._shared else 1
        for event in events:
            fd = event[0]
            try:
                entry = coupled.get(fd)
                if entry is not None:
                    receive, stream, send, handle, source = entry
                    data = receive(PACKET_BYTES)
                    if stream.count(data, now):
                        send(data)
                    else:
                        forward = packet(data, handle, source, now)
                        if forward is not None:
                            sends[forward[1]](forward[0], forward[2])
                elif fd in ports:
                    self._drain(fd, burst, now)
                else:
                    others.append(event)
            except BlockingIOError:
                pass
            except OSError:
                self.errors += 1
        return others

    def _drain(self, fd: int, most: int, now: float) -> None:
        """Read and forward up to so many packets of a socket that takes them from anybody.

        Raises `BlockingIOError` when there are no more, `OSError` for what the network said of an earlier one.
        """
        receive, routes, handle = self._ports[fd]
        sends, packet = self._sends, self._core.packet
        for _ in range(most):
            data, source = receive(PACKET_BYTES)
            stream = routes.get(source)
            if stream is not None and stream.count(data, now):
                sends[stream.out](data, stream.target)
                continue
            forward = packet(data, handle, source, now)
            if forward is not None:
                sends[forward[1]](forward[0], forward[2])

    def send(self, handle: int, data: bytes, target: Source) -> None:
        """Send one packet of the core's own accord."""
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


def _disconnect(sock: socket.socket) -> None:
    """connect() to AF_UNSPEC, which `socket.connect` cannot say; the address stays bound."""
    _libc_connect()(sock.fileno(), bytes(16), 16)


@functools.cache
def _libc_connect() -> Callable[[int, bytes, int], int]:
    import ctypes

    connect: Callable[[int, bytes, int], int] = ctypes.CDLL(None).connect
    return connect


def _receive6(sock: socket.socket) -> ReceiveFrom:
    """Flow label and scope are no part of who a sender is."""

    def receive(size: int) -> tuple[bytes, Source]:
        data, source = sock.recvfrom(size)
        return data, source[:2]

    return receive


class Crossing:
    """SIPFLEET_BREAK=cross (docs/decisions/0005): packets leave with the content of the one before, of another port."""

    def __init__(self) -> None:
        self._last: tuple[int, bytes] | None = None

    def wrap(self, handle: int, send: SendTo) -> SendTo:
        def crossed(data: bytes, target: Source) -> int:
            last, self._last = self._last, (handle, data)
            return send(last[1] if last is not None and last[0] != handle else data, target)

        return crossed
