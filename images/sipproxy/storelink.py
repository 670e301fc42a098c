"""The proxy's connection to the store: a non-blocking socket in the loop of SIP, around `sipcore.store.StoreClient`.

With sentinels each connection begins with the question which server is the master (`sipcore.sentinel`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from sipcore.errors import SipcoreError
from sipcore.sentinel import ASK_LIMIT, LOOK_UP_LIMIT, Address, Search
from sipcore.store import Answer, Command, StoreClient, StoreUrl

FIRST_RETRY = 0.05
LAST_RETRY = 1.0
CONNECT_LIMIT = 1.0
SILENCE_LIMIT = 2.0
"""Seconds that a reply may take before the connection counts as dead."""
CHUNK = 64 * 1024
"""Bytes read at once; from 128 KiB on malloc maps fresh pages for each read, which costs as much as five reads."""


class StoreLink:
    """Connects, connects again with back-off, writes at once, and reports answers and changes of state."""

    def __init__(
        self,
        url: StoreUrl,
        answered: Callable[[list[Answer]], None],
        changed: Callable[[bool, str], None],
    ) -> None:
        """`answered` gets the answers of tagged commands, `changed` gets (available, run_id)."""
        self._url = url
        self._client = StoreClient(url)
        self._search = Search(url) if url.sentinels else None
        self._answered = answered
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._backlog = b""
        self._waiting_since: float | None = None
        self._lost = asyncio.Event()
        self._served = False
        """Whether the connection of now, or the last one, was to a store that took our writes."""
        self._task = self._loop.create_task(self._keep())

    @property
    def available(self) -> bool:
        return self._client.available

    @property
    def dropped(self) -> int:
        return self._client.dropped

    def queue(self, commands: Sequence[Command], tag: object) -> bool:
        """Queue commands for the next `flush`; False when a tagged one will not be answered."""
        return self._client.send(commands, tag)

    def flush(self) -> None:
        """Write what is queued to the socket; what does not fit is written when it can be."""
        data = self._client.take()
        if not data or self._socket is None:
            return
        if self._waiting_since is None:
            self._waiting_since = self._loop.time()
        if self._backlog:
            self._backlog += data
            return
        self._write(data)

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._drop()

    def _write(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop()
            return
        if sent < len(data):
            self._backlog = data[sent:]
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        assert self._socket is not None
        self._loop.remove_writer(self._socket)
        data, self._backlog = self._backlog, b""
        self._write(data)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop()
            return
        was, run_id = self._client.available, self._client.run_id
        try:
            answers = self._client.feed(data)
        except SipcoreError:
            self._drop()
            return
        self._waiting_since = None
        self._served |= self._client.available
        if (not was and self._client.available) or run_id != self._client.run_id:
            self._changed(True, self._client.run_id)
        if answers:
            self._answered(answers)
        if self._client.demoted:
            self._served = False
            self._drop()
            return
        self.flush()

    def _drop(self) -> None:
        """The connection is of no more use: close it, tell, and let `_keep` make another."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        sock.close()
        self._backlog = b""
        self._waiting_since = None
        was = self._client.available
        answers = self._client.lost()
        if was:
            self._changed(False, self._client.run_id)
        if answers:
            self._answered(answers)
        self._lost.set()

    async def _keep(self) -> None:
        delay = FIRST_RETRY
        while True:
            self._served = False
            with contextlib.suppress(OSError):  # `_changed` has said that the store is away; it is tried again below
                await self._hold(await self._connect())
            if self._served:
                delay = FIRST_RETRY
            elif self._search is not None:
                self._search.misled()
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY)

    async def _hold(self, sock: socket.socket) -> None:
        """Until this connection is lost."""
        self._lost.clear()
        self._socket = sock
        self._loop.add_reader(sock, self._readable)
        self._client.connected()
        self.flush()
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), SILENCE_LIMIT / 2)
            since = self._waiting_since
            if since is not None and self._loop.time() - since > SILENCE_LIMIT:
                self._drop()

    async def _connect(self) -> socket.socket:
        """Raises `OSError`."""
        if self._url.path:
            return await asyncio.wait_for(self._open(self._url.path), CONNECT_LIMIT)
        name = (self._url.host, self._url.port) if self._search is None else await self._find_master(self._search)
        return await asyncio.wait_for(self._open((await self._look_up(name))[0]), CONNECT_LIMIT)

    async def _find_master(self, search: Search) -> Address:
        """The address that the first sentinel with an answer names. Raises `OSError` when none has one."""
        found = await asyncio.gather(*(self._look_up(name) for name in search.names), return_exceptions=True)
        for name, addresses in zip(search.names, found, strict=True):
            if not isinstance(addresses, BaseException):
                search.resolved(name, addresses)
        search.begin()
        while (sentinel := search.next()) is not None:
            with contextlib.suppress(OSError, SipcoreError):  # the next one may know
                return await asyncio.wait_for(self._ask(sentinel, search), ASK_LIMIT)
        raise OSError("no sentinel names a master")

    async def _ask(self, sentinel: Address, search: Search) -> Address:
        """Raises `OSError`, `SipcoreError`."""
        sock = await self._open(sentinel)
        try:
            await self._loop.sock_sendall(sock, search.question)
            while True:
                data = await self._loop.sock_recv(sock, CHUNK)
                if not data:
                    raise ConnectionResetError("the sentinel closed the connection")
                master = search.feed(data)
                if master is not None:
                    return master
        finally:
            sock.close()

    async def _look_up(self, name: Address) -> list[Address]:
        """The addresses of a name, at least one. Raises `OSError`."""
        try:
            found = await asyncio.wait_for(self._loop.getaddrinfo(*name, type=socket.SOCK_STREAM), LOOK_UP_LIMIT)
        except UnicodeError as error:
            raise OSError(f"{name[0]!r}: {error}") from None
        return [(str(address[0]), int(address[1])) for *_, address in found]

    async def _open(self, target: Address | str) -> socket.socket:
        """A connection to an address or a path. Raises `OSError`."""
        if isinstance(target, str):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, target)
        except BaseException:
            sock.close()
            raise
        return sock
