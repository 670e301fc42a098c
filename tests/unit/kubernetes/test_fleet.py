"""Which change lets which set have its turn: what matters does at once, what does not never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from sipfleet.kubernetes import names
from sipfleet.kubernetes.client import Api
from sipfleet.kubernetes.fleet import Fleet
from sipfleet.kubernetes.objects.protection import disruption_budget
from sipfleet.setkey import SetKey

from .scenes import POOL_KEY, SETTINGS, UID, Object, node, pod, pool


class Applied:
    """An API server that takes everything and counts it; each time an object is another version."""

    def __init__(self) -> None:
        self.bodies: list[Object] = []

    async def apply(self, body: Object, *, sub: str | None = None) -> Object:
        self.bodies.append(body)
        version = len(self.bodies)
        return {**body, "metadata": {**body["metadata"], "generation": version, "resourceVersion": str(version)}}


def manifest(generation: int = 1, **metadata: object) -> Object:
    wire = pool().to_wire()
    wire["metadata"] |= {"uid": UID, "generation": generation, "finalizers": [names.FINALIZER], **metadata}
    return wire


def play(scene: Callable[[Fleet, Applied], object]) -> None:
    """A scene on a fleet with one MediaPool whose turn is over."""

    async def run() -> None:
        api = Applied()
        fleet = Fleet(cast(Api, api), SETTINGS)
        fleet.set_changed("ADDED", manifest())
        assert await turns(fleet) == [POOL_KEY]
        found = scene(fleet, api)
        if asyncio.iscoroutine(found):
            await found

    asyncio.run(run())


async def turns(fleet: Fleet) -> list[SetKey]:
    """The sets whose turn it is, each of which has it."""
    found = []
    while len(fleet.queue):
        key = await fleet.queue.get()
        found.append(key)
        fleet.queue.done(key)
    return found


def test_a_change_of_the_spec_is_the_sets_turn_and_one_of_the_status_is_not() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        fleet.set_changed("MODIFIED", {**manifest(1), "status": {"replicas": 2}})
        assert await turns(fleet) == []
        fleet.set_changed("MODIFIED", manifest(2))
        assert await turns(fleet) == [POOL_KEY]
        fleet.set_changed("MODIFIED", manifest(2, deletionTimestamp="2026-01-01T00:00:00Z"))
        assert await turns(fleet) == [POOL_KEY]

    play(scene)


def test_a_set_that_is_gone_is_forgotten_and_one_made_again_under_its_name_is_another() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        fleet.sets[POOL_KEY].exposure = "clusterIP"
        fleet.set_changed("ADDED", manifest(uid="second"))
        assert fleet.sets[POOL_KEY].exposure is None
        fleet.set_changed("DELETED", manifest())
        assert POOL_KEY in fleet.sets, "it was the first that is gone"
        fleet.set_changed("DELETED", manifest(uid="second"))
        assert POOL_KEY not in fleet.sets

    play(scene)


def test_an_object_that_stands_as_it_was_applied_is_not_applied_again() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        state = fleet.sets[POOL_KEY]
        assert await fleet.ensure(state, disruption_budget(POOL_KEY, UID))
        assert not await fleet.ensure(state, disruption_budget(POOL_KEY, UID))
        assert len(api.bodies) == 1

    play(scene)


def budget(generation: int) -> Object:
    body = disruption_budget(POOL_KEY, UID)
    body["metadata"] |= {"generation": generation, "resourceVersion": "9"}
    return body


def test_that_our_own_change_is_seen_is_nobodys_turn() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        await fleet.ensure(fleet.sets[POOL_KEY], disruption_budget(POOL_KEY, UID))
        fleet.budgets._changed("MODIFIED", budget(1))
        assert await turns(fleet) == []

    play(scene)


def test_what_somebody_else_changed_or_deleted_is_applied_again() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        state = fleet.sets[POOL_KEY]
        for event, generation in (("MODIFIED", 7), ("DELETED", 8)):
            await fleet.ensure(state, disruption_budget(POOL_KEY, UID))
            before, drift = len(api.bodies), state.drift
            fleet.budgets._changed(event, budget(generation))
            assert await turns(fleet) == [POOL_KEY]
            assert state.drift > drift, "a pass looks at its objects again"
            assert await fleet.ensure(state, disruption_budget(POOL_KEY, UID))
            assert len(api.bodies) == before + 1

    play(scene)


def labelled(found: Object) -> Object:
    found["metadata"]["labels"] |= names.labels(POOL_KEY)
    return found


def test_a_change_of_a_pod_is_the_turn_of_its_set_and_pods_of_others_are_nobodys() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        fleet.pods._changed("ADDED", labelled(pod()))
        assert await turns(fleet) == [POOL_KEY]
        assert list(fleet.of(fleet.pods, POOL_KEY)) == ["media-0"]
        fleet.pods._changed("ADDED", pod("web-0"))
        assert await turns(fleet) == []
        fleet.pods._changed("DELETED", labelled(pod()))
        assert await turns(fleet) == [POOL_KEY]
        assert not fleet.of(fleet.pods, POOL_KEY)

    play(scene)


def test_a_node_lets_the_sets_with_a_pod_on_it_have_their_turn_when_it_says_something_new() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        fleet.pods.watches[0]._take("ADDED", labelled(pod()))
        await turns(fleet)
        for told, expected in (
            (node(), [POOL_KEY]),
            (node(), []),
            (node("Unknown"), [POOL_KEY]),
            (node("Unknown", unschedulable=True), [POOL_KEY]),
            (node("Unknown", unschedulable=True), []),
            ({**node(), "metadata": {"name": "b"}}, []),
        ):
            fleet._node_changed("MODIFIED", told)
            assert await turns(fleet) == expected

    play(scene)


def test_of_two_sets_with_one_name_the_older_has_it() -> None:
    async def scene(fleet: Fleet, api: Applied) -> None:
        other = manifest(creationTimestamp="2026-01-02T00:00:00Z")
        other["kind"] = "SipCluster"
        fleet.sets[POOL_KEY].manifest["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        fleet.set_changed("ADDED", other)
        assert fleet.name_taken(SetKey("SipCluster", "voice", "media"))
        assert not fleet.name_taken(POOL_KEY)

    play(scene)
