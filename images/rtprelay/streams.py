"""TCP in the relay's loop: the admin port, and the connections by which proxies learn of our death (DESIGN 3.5)."""

from __future__ import annotations

import contextlib
import select
import socket
from collections import Counter
from collections.abc import Callable

MAX_CONNECTIONS = 256
"""Of one listener."""

READ_BYTES = 65_536

Source = tuple[str, int]


def listen(address: Source) -> socket.socket:
    """A listening socket.

    Raises `OSError`.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    return sock


class Streams:
    """Listeners and their connections by file descriptor; `make` gives what reads a new connection."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._listeners: dict[int, tuple[socket.socket, Callable[[socket.socket], Connection]]] = {}
        self._connections: dict[int, tuple[Connection, socket.socket]] = {}
        self._counts: Counter[socket.socket] = Counter()

    def listen(self, address: Source, make: Callable[[socket.socket], Connection]) -> None:
        """Raises `OSError`."""
        sock = listen(address)
        self._listeners[sock.fileno()] = (sock, make)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def handle(self, fd: int, mask: int) -> bool:
        """Whether the event was ours."""
        if fd in self._listeners:
            self._accept(*self._listeners[fd])
            return True
        found = self._connections.get(fd)
        if found is None:
            return False
        connection = found[0]
        try:
            keep = connection.ready(mask)
        except OSError:
            keep = False
        if keep:
            self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if connection.out else 0))
        else:
            self._drop(fd)
        return True

    def _accept(self, listener: socket.socket, make: Callable[[socket.socket], Connection]) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if self._counts[listener] >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        self._counts[listener] += 1
        self._connections[sock.fileno()] = (make(sock), listener)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _drop(self, fd: int) -> None:
        connection, listener = self._connections.pop(fd)
        self._counts[listener] -= 1
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)
        connection.sock.close()

    def close(self) -> None:
        for sock, _ in self._listeners.values():
            sock.close()
        for fd in list(self._connections):
            self._drop(fd)


class Connection:
    """A connection that is only held: whatever comes is thrown away, its end is the news."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.out = b""
        """Bytes not written yet."""

    def ready(self, mask: int) -> bool:
        """Read and write what goes without waiting; False at the end.

        Raises `OSError`.
        """
        keep = True
        if mask & ~select.EPOLLOUT:
            with contextlib.suppress(BlockingIOError):
                keep = self.receive(self.sock.recv(READ_BYTES))
        if self.out:
            with contextlib.suppress(BlockingIOError):
                self.out = self.out[self.sock.send(self.out) :]
        return keep or bool(self.out)

    def receive(self, data: bytes) -> bool:
        return bool(data)
