"""The thin client against a server on loopback: answers, refusals, preconditions, and how a watch ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client as official

from sipfleet.kubernetes.client import PODS, STATEFULSETS, Api, ApiError, _connection_options

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def play(handler: Handler, scene: Callable[[Api], Awaitable[object]]) -> Any:
    """What `scene` gives back, with a client of a server that answers everything by `handler`."""

    async def run() -> object:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        configuration = official.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        configuration.api_key["BearerToken"] = "Bearer t0ken"
        api = Api(official.ApiClient(configuration))
        try:
            return await scene(api)
        finally:
            await api.close()
            await runner.cleanup()

    return asyncio.run(run())


def test_an_apply_is_a_patch_of_ours_with_the_fields_as_they_are() -> None:
    seen: dict[str, Any] = {}

    async def server(request: web.Request) -> web.StreamResponse:
        seen.update(method=request.method, path=request.path, query=dict(request.query), headers=request.headers)
        seen["body"] = json.loads(await request.text())
        return web.json_response({"metadata": {"generation": 3}})

    body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "media", "namespace": "voice"},
        "spec": {"replicas": 2, "template": {"on": "on", "ü": None, "n": [1, 2.5, True]}},
    }
    found = play(server, lambda api: api.apply(body))
    assert found == {"metadata": {"generation": 3}}
    assert (seen["method"], seen["path"]) == ("PATCH", STATEFULSETS.path("voice", "media"))
    assert seen["query"] == {"fieldManager": "sipfleet", "force": "true"}
    assert seen["headers"]["Content-Type"] == "application/apply-patch+yaml"
    assert seen["headers"]["Authorization"] == "Bearer t0ken"
    assert seen["body"] == body


def test_what_the_server_refuses_is_said_with_its_reason() -> None:
    async def server(request: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "Invalid", "message": "spec.replicas: must not be negative"}, status=422)

    with pytest.raises(ApiError, match=r"422 Invalid: spec\.replicas: must not be negative") as caught:
        play(server, lambda api: api.request("GET", "/api"))
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")


def test_a_server_that_is_not_there_and_one_that_speaks_something_else_are_errors_too() -> None:
    async def proxy_page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>bad gateway</html>", status=502)

    with pytest.raises(ApiError, match="502") as caught:
        play(proxy_page, lambda api: api.request("GET", "/api"))
    assert caught.value.status == 502

    async def scene(api: Api) -> None:
        api._configuration.host = "http://127.0.0.1:9"
        await api.request("GET", "/api")

    with pytest.raises(ApiError) as gone:
        play(proxy_page, scene)
    assert (gone.value.status, gone.value.reason) == (0, "NoAnswer")


def test_an_object_that_is_not_there_is_none() -> None:
    async def server(request: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "NotFound"}, status=404)

    assert play(server, lambda api: api.get(PODS, "voice", "media-0")) is None


@pytest.mark.parametrize(("status", "deleted"), [(200, True), (404, False), (409, False)])
def test_a_deletion_is_of_one_incarnation_and_another_of_its_name_stays(status: int, deleted: bool) -> None:
    bodies = []

    async def server(request: web.Request) -> web.StreamResponse:
        bodies.append(json.loads(await request.text()))
        return web.json_response({}, status=status)

    assert play(server, lambda api: api.delete(PODS, "voice", "media-0", "uid-1", grace=0)) is deleted
    assert bodies[0]["preconditions"] == {"uid": "uid-1"}
    assert bodies[0]["gracePeriodSeconds"] == 0


def watching(lines: list[object]) -> Any:
    async def server(request: web.Request) -> web.StreamResponse:
        assert request.query["resourceVersion"] == "7"
        answer = web.StreamResponse()
        await answer.prepare(request)
        for line in lines:
            await answer.write(json.dumps(line).encode() + b"\n")
        return answer

    async def scene(api: Api) -> list[tuple[str, Any]]:
        return [one async for one in api.watch(PODS, "7", selector="a=b")]

    return play(server, scene)


def test_a_watch_tells_each_change_and_ends_when_the_server_ends_it() -> None:
    lines: list[object] = [
        {"type": "ADDED", "object": {"metadata": {"name": "a" * 200_000}}},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
    ]
    assert [kind for kind, _ in watching(lines)] == ["ADDED", "BOOKMARK"]


def test_a_watch_from_too_old_a_version_is_an_error_with_its_status() -> None:
    said = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}
    with pytest.raises(ApiError) as caught:
        watching([said])
    assert caught.value.status == 410


@contextmanager
def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield


def test_a_proxy_of_the_environment_is_used_unless_the_server_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = official.Configuration(host="https://api.voice.example:6443")
    with environment(monkeypatch, https_proxy="http://proxy.example:3128"):
        assert _connection_options(configuration)["proxy"] == "http://proxy.example:3128"
    with environment(monkeypatch, https_proxy="http://proxy.example:3128", no_proxy="voice.example"):
        assert _connection_options(configuration) == {}
    with environment(monkeypatch):
        assert _connection_options(configuration) == {}
