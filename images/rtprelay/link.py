"""The store's socket in the relay's loop: never waited for, reconnected for ever.

On the way to a connection are up to three steps, each with a limit: names are looked up, sentinels are asked which
server is the master (`sipcore.sentinel`), the server is connected to and answers the handshake.
"""

from __future__ import annotations

import errno
import functools
import select
import socket
from collections.abc import Callable, Sequence

from rtprelay.resolve import Resolver, is_numeric
from sipcore.errors import SipcoreError
from sipcore.sentinel import ASK_LIMIT, LOOK_UP_LIMIT, Address, Search
from sipcore.store import Answer, Command, StoreClient, StoreUrl

RETRY_FIRST = 0.05
RETRY_MOST = 1.0
CONNECT_LIMIT = 2.0
"""Seconds until the store must have taken the connection and answered the handshake."""
SILENCE = 3.0
"""Seconds without an answer to a heartbeat after which the connection is thought dead."""

READ_BYTES = 262_144


class StoreLink:
    """One connection of `sipcore.store.StoreClient`."""

    def __init__(self, url: StoreUrl, epoll: select.epoll) -> None:
        self.client = StoreClient(url)
        self._url = url
        self._epoll = epoll
        self._search = Search(url) if url.sentinels else None
        self._resolver = Resolver(epoll)
        self._pending: set[Address] = set()
        """Names that are being looked up for the step of now."""
        self._known: dict[Address, list[Address]] = {}
        self._sock: socket.socket | None = None
        """To a sentinel or to the store."""
        self._asking = False
        """It is a sentinel's."""
        self._connecting = False
        self._out = b""
        self._retry = RETRY_FIRST
        self._due_at = 0.0
        self._due: Callable[[float], object] = self._begin
        """What to do when a limit is reached."""

    @property
    def due_at(self) -> float | None:
        """When to call `tick`, on the loop's clock; None while there is a connection."""
        return None if self.client.available else self._due_at

    def owns(self, fd: int) -> bool:
        """Whether what happened on this file descriptor is for `ready`."""
        return (self._sock is not None and fd == self._sock.fileno()) or (fd == self._resolver.fd)

    def tick(self, now: float) -> None:
        """Begin to connect, or go on when a step took too long. To be called at `due_at`."""
        if self.due_at is not None and now >= self._due_at:
            self._due(now)

    def ready(self, fd: int, mask: int, now: float) -> list[Answer]:
        """Something can be read or written; answers that are complete."""
        if fd == self._resolver.fd:
            self._resolved(now)
            return []
        if self._asking:
            self._heard(mask, now)
            return []
        return self._served(mask, now)

    def send(self, commands: list[Command], tag: object = None) -> bool:
        """Queue commands; `write` puts them on the wire."""
        return self.client.send(commands, tag)

    def write(self, now: float) -> list[Answer]:
        """Write what is queued, without waiting; answers (None) when that breaks the connection."""
        sock = self._sock
        if sock is None or self._connecting or self._asking:
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
        if self._search is not None and (self.client.demoted or not self.client.available):
            self._search.misled()
        self._close()
        self._later(now)
        return self.client.lost()

    # names

    def _begin(self, now: float) -> None:
        if self._url.path:
            self._connect(self._url.path, now)
        elif self._search is not None:
            self._look_up(self._search.names, self._ask, now)
        else:
            name = (self._url.host, self._url.port)
            self._look_up((name,), functools.partial(self._connect_to, name), now)

    def _look_up(self, names: Sequence[Address], then: Callable[[float], object], now: float) -> None:
        """Go on with `then` when all names are looked up, or it took too long."""
        self._pending = {name for name in names if not is_numeric(name[0])}
        self._due_at, self._due = now + LOOK_UP_LIMIT, then
        for name in names:
            if name in self._pending:
                self._resolver.start(name)
            else:
                self._known[name] = [name]
        if not self._pending:
            then(now)

    def _resolved(self, now: float) -> None:
        waited = bool(self._pending)
        for name, addresses in self._resolver.take():
            if addresses:
                self._known[name] = addresses
            self._pending.discard(name)
        if waited and not self._pending:
            self._due(now)

    # sentinels

    def _ask(self, now: float) -> None:
        """Begin a round of questions."""
        self._pending.clear()
        search = self._search
        assert search is not None
        for name in search.names:
            search.resolved(name, self._known.get(name, ()))
        search.begin()
        self._ask_next(now)

    def _ask_next(self, now: float) -> None:
        search = self._search
        assert search is not None
        self._close()
        while (sentinel := search.next()) is not None:
            if self._open(sentinel):
                self._asking = True
                self._due_at, self._due = now + ASK_LIMIT, self._ask_next
                return
        self._later(now)

    def _heard(self, mask: int, now: float) -> None:
        """The sentinel's socket can be read or written."""
        sock, search = self._sock, self._search
        assert sock is not None
        assert search is not None
        master: Address | None = None
        try:
            if self._connecting:
                self._established(sock)
                sock.send(search.question)
                self._epoll.modify(sock.fileno(), select.EPOLLIN)
            elif data := sock.recv(READ_BYTES):
                master = search.feed(data)
            else:
                raise OSError(errno.ECONNRESET, "closed")
        except BlockingIOError:
            pass
        except (OSError, SipcoreError):
            self._ask_next(now)
            return
        if master is not None:
            self._close()
            self._look_up((master,), functools.partial(self._connect_to, master), now)

    # the store

    def _connect_to(self, name: Address, now: float) -> None:
        self._pending.clear()
        addresses = self._known.get(name)
        if addresses:
            self._connect(addresses[0], now)
        else:
            self.lost(now)

    def _connect(self, target: Address | str, now: float) -> None:
        """Begin to connect; failures are tried again later."""
        if self._open(target):
            self._due_at, self._due = now + CONNECT_LIMIT, self.lost
        else:
            self.lost(now)

    def _served(self, mask: int, now: float) -> list[Answer]:
        """The store's socket can be read or written."""
        sock = self._sock
        if sock is None:
            return []
        answers: list[Answer] = []
        try:
            if self._connecting and mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                self._established(sock)
                self.client.connected()
            if mask & ~select.EPOLLOUT:
                data = sock.recv(READ_BYTES)
                if not data:
                    raise OSError(errno.ECONNRESET, "closed")
                answers = self.client.feed(data)
        except BlockingIOError:
            pass
        except (OSError, SipcoreError):
            return answers + self.lost(now)
        if self.client.demoted:
            return answers + self.lost(now)
        if self.client.available:
            self._retry = RETRY_FIRST
        return answers + self.write(now)

    # sockets

    def _open(self, target: Address | str) -> bool:
        """Begin to connect a new socket; False when that fails at once."""
        try:
            if isinstance(target, str):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            else:
                sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            status = sock.connect_ex(target)
        except OSError as error:
            status = error.errno or errno.EIO
        if status not in (0, errno.EINPROGRESS):
            sock.close()
            return False
        self._sock, self._connecting, self._out = sock, True, b""
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return True

    def _established(self, sock: socket.socket) -> None:
        """The socket that was connecting is connected. Raises `OSError` when it is not."""
        status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, "connect")
        self._connecting = False

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._asking = False

    def _later(self, now: float) -> None:
        self._due_at, self._due = now + self._retry, self._begin
        self._retry = min(self._retry * 2, RETRY_MOST)
