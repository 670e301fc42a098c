"""The proxy's connection to the store: a non-blocking socket in the loop of SIP, around `sipcore.store.StoreClient`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from sipcore.errors import SipcoreError
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
        self._answered = answered
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._backlog = b""
        self._waiting_since: float | None = None
        self._task = self._loop.create_task(self._keep())
        self._lost = asyncio.Event()

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
        if (not was and self._client.available) or run_id != self._client.run_id:
            self._changed(True, self._client.run_id)
        if answers:
            self._answered(answers)
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
            try:
                sock = await asyncio.wait_for(self._connect(), CONNECT_LIMIT)
            except (OSError, TimeoutError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY)
                continue
            delay = FIRST_RETRY
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
            await asyncio.sleep(delay)

    async def _connect(self) -> socket.socket:
        """Raises `OSError`."""
        url = self._url
        target: str | tuple[str, int]
        if url.path:
            sock, target = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), url.path
        else:
            family, kind, _, _, address = (await self._loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM))[0]
            sock, target = socket.socket(family, kind), (str(address[0]), int(address[1]))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, target)
        except BaseException:
            sock.close()
            raise
        return sock
