"""The store's socket in the relay's loop: never waited for, reconnected for ever."""

from __future__ import annotations

import errno
import select
import socket

from sipcore.errors import SipcoreError
from sipcore.store import Answer, Command, StoreClient, StoreUrl

RETRY_FIRST = 0.05
RETRY_MOST = 1.0
SILENCE = 3.0
"""Seconds without an answer to a heartbeat after which the connection is thought dead."""

READ_BYTES = 262_144


class StoreLink:
    """One connection of `sipcore.store.StoreClient`."""

    def __init__(self, url: StoreUrl, epoll: select.epoll) -> None:
        self.client = StoreClient(url)
        self._url = url
        self._epoll = epoll
        self._sock: socket.socket | None = None
        self._connecting = False
        self._out = b""
        self._retry = RETRY_FIRST
        self._retry_at = 0.0

    @property
    def fd(self) -> int:
        return self._sock.fileno() if self._sock is not None else -1

    @property
    def retry_at(self) -> float | None:
        """When to call `connect` again, on the loop's clock; None while there is a connection."""
        return self._retry_at if self._sock is None else None

    def connect(self, now: float) -> None:
        """Begin to connect; failures are tried again later."""
        unix = bool(self._url.path)
        target = self._url.path if unix else (self._url.host, self._url.port)
        try:
            if unix:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            else:
                family = socket.AF_INET6 if ":" in self._url.host else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            status = sock.connect_ex(target)
        except OSError as error:
            status = error.errno or errno.EIO
        if status not in (0, errno.EINPROGRESS):
            sock.close()
            self._later(now)
            return
        self._sock, self._connecting, self._out = sock, True, b""
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def ready(self, mask: int, now: float) -> list[Answer]:
        """The socket can be read or written; answers that are complete."""
        sock = self._sock
        if sock is None:
            return []
        answers: list[Answer] = []
        try:
            if self._connecting and mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if status:
                    raise OSError(status, "connect")
                self._connecting = False
                self.client.connected()
            if mask & ~select.EPOLLOUT:
                data = sock.recv(READ_BYTES)
                if not data:
                    raise OSError(errno.ECONNRESET, "closed")
                answers = self.client.feed(data)
                self._retry = RETRY_FIRST
        except BlockingIOError:
            pass
        except (OSError, SipcoreError):
            return answers + self.lost(now)
        return answers + self.write(now)

    def send(self, commands: list[Command], tag: object = None) -> bool:
        """Queue commands; `write` puts them on the wire."""
        return self.client.send(commands, tag)

    def write(self, now: float) -> list[Answer]:
        """Write what is queued, without waiting; answers (None) when that breaks the connection."""
        sock = self._sock
        if sock is None or self._connecting:
            return []
        self._out += self.client.take()
        full = False
        try:
            if self._out:
                self._out = self._out[sock.send(self._out) :]
                full = bool(self._out)
        except BlockingIOError:
            full = True
        except OSError:
            return self.lost(now)
        self._epoll.modify(sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if full else 0))
        return []

    def lost(self, now: float) -> list[Answer]:
        """End the connection; what was waited for is answered with None."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._later(now)
        return self.client.lost()

    def _later(self, now: float) -> None:
        self._retry_at = now + self._retry
        self._retry = min(self._retry * 2, RETRY_MOST)
