"""HTTP/1.1 on a unix socket, on h11: how a supervisor is asked and told things while it runs.

Whoever may open the socket may do all of it; the state directory is 0700, so that is its user. A request is JSON or
nothing, an answer is JSON. Nothing that arrives here can end the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

MAX_BODY = 4 * 1024 * 1024
MAX_CONNECTIONS = 64
IDLE_LIMIT = 60.0
"""Seconds that a connection may stay silent."""

Answer = tuple[int, object]
"""HTTP status, and what is written as JSON."""

Handler = Callable[["Request"], Awaitable[Answer]]


class Request:
    """What a handler gets: the groups of its path pattern, the query, the decoded body."""

    __slots__ = ("body", "path", "query")

    def __init__(self, path: dict[str, str], query: dict[str, str], body: Any) -> None:
        self.path = path
        self.query = query
        self.body = body


def problem(status: int, *lines: str) -> Answer:
    """An answer that refuses, with its reasons."""
    return status, {"errors": list(lines)}


class ApiServer:
    """Serves a table of (method, path pattern, handler)."""

    def __init__(self, path: Path, routes: list[tuple[str, str, Handler]]) -> None:
        self._path = path
        self._routes = [(method, re.compile(pattern), handler) for method, pattern, handler in routes]
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The socket of a supervisor that was killed is taken over: whoever calls this holds the lock."""
        listener = socket.socket(socket.AF_UNIX)
        directory = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            # A path by descriptor is short, whatever the length of the directory's own.
            listener.bind(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._connections:
                task.cancel()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= MAX_CONNECTIONS:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            pass  # the client went away, or spoke something else
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(IDLE_LIMIT):
                    http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                head, body = event, bytearray()
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    return
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                status, value = await self._answer(head, bytes(body))
                data = json.dumps(value).encode()
                headers = [("content-type", "application/json"), ("content-length", str(len(data)))]
                for part in (h11.Response(status_code=status, headers=headers), h11.Data(data), h11.EndOfMessage()):
                    writer.write(http.send(part) or b"")
                await writer.drain()
                if http.our_state is not h11.DONE:
                    return
                http.start_next_cycle()
            else:
                return

    async def _answer(self, head: h11.Request, body: bytes) -> Answer:
        url = urlsplit(head.target.decode("ascii", "replace"))
        method = head.method.decode()
        allowed = []
        for known, pattern, handler in self._routes:
            match = pattern.fullmatch(url.path)
            if match is None:
                continue
            if known != method:
                allowed.append(known)
                continue
            try:
                given = json.loads(body) if body else None
            except ValueError as error:
                return problem(400, f"the body is no JSON: {error}")
            try:
                path = {name: unquote(value) for name, value in match.groupdict().items()}
                return await handler(Request(path, dict(parse_qsl(url.query)), given))
            except Exception as error:  # one request must not end the cluster
                return problem(500, f"{type(error).__name__}: {error}")
        if allowed:
            return problem(405, f"{method} given, {' or '.join(allowed)} allowed on {url.path}")
        return problem(404, f"{url.path} is not served here")
