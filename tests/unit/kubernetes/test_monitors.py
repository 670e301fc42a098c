"""Whether ServiceMonitors are known: what the API server may say to that, and who is told."""

from __future__ import annotations

from aiohttp import web

from sipfleet.kubernetes.client import Api
from sipfleet.kubernetes.monitors import Monitors

from .test_client import play

GROUP = "/apis/monitoring.coreos.com/v1"


def look(*answers: web.Response) -> tuple[list[bool | None], int, list[str]]:
    """(`served` after each look, calls of `changed`, paths) when the API server answers so, one after the other."""
    paths: list[str] = []
    left = list(answers)

    async def server(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return left.pop(0)

    async def scene(api: Api) -> tuple[list[bool | None], int]:
        called: list[None] = []
        monitors = Monitors(api, lambda: called.append(None))
        assert monitors.served is None
        served: list[bool | None] = []
        for _ in answers:
            await monitors.look()
            served.append(monitors.served)
        assert monitors.looks == len(called)
        return served, len(called)

    served, calls = play(server, scene)
    return served, calls, paths


def kinds(*names: str) -> web.Response:
    return web.json_response({"kind": "APIResourceList", "resources": [{"name": name} for name in names]})


def no_group() -> web.Response:
    return web.Response(status=404, text="404 page not found")


def test_without_the_group_or_the_kind_nobody_is_told_anything() -> None:
    assert look(no_group(), kinds("podmonitors"), kinds()) == ([False, False, False], 0, [GROUP] * 3)


def test_each_look_that_finds_the_kind_has_them_applied_again() -> None:
    found = kinds("servicemonitors", "servicemonitors/status")
    assert look(no_group(), found, kinds("servicemonitors")) == ([False, True, True], 2, [GROUP] * 3)


def test_that_the_kind_is_gone_is_told_once() -> None:
    assert look(kinds("servicemonitors"), no_group(), no_group())[:2] == ([True, False, False], 2)


def test_an_api_server_that_does_not_say_changes_nothing() -> None:
    away = [web.Response(status=503) for _ in range(2)]
    assert look(away[0], kinds("servicemonitors"), away[1])[:2] == ([None, True, True], 1)


def test_a_monitor_that_could_not_be_applied_says_that_the_kind_is_gone() -> None:
    called: list[None] = []
    monitors = Monitors(None, lambda: called.append(None))  # type: ignore[arg-type]
    monitors.gone()
    assert (monitors.served, called) == (None, [])
    monitors.served = True
    monitors.gone()
    monitors.gone()
    assert (monitors.served, len(called)) == (False, 1)
