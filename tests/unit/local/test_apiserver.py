"""The socket of a supervisor, over a real unix socket: answers, refusals, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sipfleet.local import apiserver
from sipfleet.local.apiserver import Answer, ApiServer, Request
from sipfleet.local.client import Client
from sipfleet.local.errors import NotRunningError, RefusedError


async def echo(request: Request) -> Answer:
    return 200, {"path": request.path, "query": request.query, "body": request.body}


async def broken(request: Request) -> Answer:
    raise RuntimeError("a fault in a handler")


def serve(tmp_path: Path, use: Callable[[Client], object], monkeypatch: pytest.MonkeyPatch) -> object:
    """What `use` gives back, called in a thread beside a running server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    client = Client("t")
    client.state.make()

    async def run() -> object:
        server = ApiServer(client.state.api_socket, [("PUT", r"/things/(?P<name>[^/]+)", echo), ("GET", r"/b", broken)])
        await server.start()
        try:
            return await asyncio.to_thread(use, client)
        finally:
            await server.close()

    return asyncio.run(run())


def refused(client: Client, method: str, path: str) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        client.request(method, path)
    return caught.value.lines


def test_a_handler_gets_path_query_and_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = serve(tmp_path, lambda c: c.request("PUT", "/things/a b?x=1&y=", {"z": [1, "ü"]}), monkeypatch)
    assert answer == {"path": {"name": "a b"}, "query": {"x": "1"}, "body": {"z": [1, "ü"]}}


def test_what_is_wrong_with_a_request_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(client: Client) -> object:
        return [
            refused(client, "DELETE", "/things/a"),
            refused(client, "GET", "/nothing"),
            refused(client, "GET", "/b"),
            client.request("PUT", "/things/still-alive")["path"],
        ]

    assert serve(tmp_path, use, monkeypatch) == [
        ["DELETE given, PUT allowed on /things/a"],
        ["/nothing is not served here"],
        ["RuntimeError: a fault in a handler"],
        {"name": "still-alive"},
    ]


def test_nobody_there_is_said_with_the_command_that_starts_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(NotRunningError, match="To start it: sipfleet up -f FILE"):
        Client("t").get("/v1")


def talk(tmp_path: Path, data: bytes) -> bytes:
    """What comes back on a raw connection, until the server closes it."""

    async def run() -> bytes:
        server = ApiServer(tmp_path / "api.sock", [("PUT", r"/x", echo)])
        await server.start()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "api.sock"))
        writer.write(data)
        answer = await _all(reader)
        writer.close()
        await server.close()
        return answer

    return asyncio.run(run())


async def _all(reader: asyncio.StreamReader) -> bytes:
    read: Awaitable[bytes] = reader.read()
    try:
        return await asyncio.wait_for(read, 2)
    except ConnectionError:
        return b""


def test_what_is_no_http_is_hung_up_on(tmp_path: Path) -> None:
    assert talk(tmp_path, b"\x00\xff rubbish\r\n\r\n") == b""


def test_a_body_that_is_too_large_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apiserver, "MAX_BODY", 10)
    assert talk(tmp_path, b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + b"1" * 20) == b""


def test_a_body_that_is_no_json_is_refused(tmp_path: Path) -> None:
    answer = talk(tmp_path, b"PUT /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "the body is no JSON" in json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]


def test_the_socket_of_a_killed_supervisor_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "api.sock").touch()
    assert talk(tmp_path, b"PUT /x HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
