"""Events are told beside the work: in order for a set, not twice in a minute, and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from sipfleet.kubernetes import events
from sipfleet.kubernetes.client import Api, ApiError, Object, Resource
from sipfleet.kubernetes.events import Events

from .scenes import POOL_KEY, SIP_KEY, UID


class Slow:
    """An API server that takes its time, or refuses."""

    def __init__(self, seconds: float = 0.001, error: ApiError | None = None) -> None:
        self.written: list[Object] = []
        self._seconds = seconds
        self._error = error

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        self.written.append(body)
        return body


def play(api: Slow, scene: Callable[[Events], object]) -> None:
    async def run() -> None:
        told = Events(cast(Api, api), "operator-1")
        found = scene(told)
        assert asyncio.iscoroutine(found)
        await found
        await told.close()

    asyncio.run(run())


def test_an_event_names_the_object_the_reason_and_who_saw_it() -> None:
    async def scene(told: Events) -> None:
        await told.add(POOL_KEY, UID, "Scaled", "from 2 to 3 pods")

    api = Slow()
    play(api, scene)
    (event,) = api.written
    assert event["involvedObject"] == {
        "apiVersion": "sipfleet.io/v1alpha1",
        "kind": "MediaPool",
        "namespace": "voice",
        "name": "media",
        "uid": UID,
    }
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Scaled", "from 2 to 3 pods")
    assert event["reportingInstance"] == "operator-1"


def test_the_events_of_one_set_are_written_in_their_order() -> None:
    async def scene(told: Events) -> None:
        for number in range(20):
            for key in (POOL_KEY, SIP_KEY):
                await told.add(key, UID, "Created", f"{key.kind} {number}")

    api = Slow()
    play(api, scene)
    for kind in ("MediaPool", "SipCluster"):
        messages = [one["message"] for one in api.written if one["involvedObject"]["kind"] == kind]
        assert messages == [f"{kind} {number}" for number in range(20)]


def test_the_same_is_not_told_again_at_once() -> None:
    async def scene(told: Events) -> None:
        for _ in range(3):
            await told.add(POOL_KEY, UID, "Replacing", "pod/media-0 is dead", warning=True)

    api = Slow()
    play(api, scene)
    assert len(api.written) == 1
    assert api.written[0]["type"] == "Warning"


def test_who_does_something_does_not_wait_until_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FLUSH", 0.05)
    monkeypatch.setattr(events, "WAITING", 5)

    async def scene(told: Events) -> None:
        async with asyncio.timeout(0.5):
            for number in range(50):
                await told.add(POOL_KEY, UID, "Created", f"pod/media-{number}")

    play(Slow(seconds=60), scene)


def test_an_event_that_is_refused_is_lost_and_nothing_else() -> None:
    async def scene(told: Events) -> None:
        await told.add(POOL_KEY, UID, "Scaled", "one")
        await told.add(POOL_KEY, UID, "Scaled", "two")

    play(Slow(error=ApiError(403, "Forbidden", "no")), scene)


def test_a_message_is_no_longer_than_kubernetes_takes() -> None:
    async def scene(told: Events) -> None:
        await told.add(POOL_KEY, UID, "Refused", "x" * 5000)

    api = Slow()
    play(api, scene)
    assert len(api.written[0]["message"]) <= 1024
