"""What of the leases wakes a set, and sessions that were left in the store: each is one relay's of one namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from sipcore.lease import LeaseKeeper
from sipcore.record import Lease
from sipcore.store import SCRIPTS, Keys
from sipfleet.kubernetes.stores import Stores
from sipfleet.setkey import SetKey
from tests.integration.peers.redis_server import RedisServer

from .scenes import POOL_KEY, lease

OTHER_KEY = SetKey("MediaPool", "lab", "media")


@pytest.fixture
def server(tmp_path: Path, loopback_address: Callable[[], str]) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, loopback_address(), 16379) as found:
        yield found


class Scene:
    """Two pools of one name in two namespaces, on one store that is read when the test says so."""

    def __init__(self, server: RedisServer, client: redis.Redis) -> None:
        self.changed: list[SetKey] = []
        self.moved: list[SetKey] = []
        self.orphans: dict[SetKey, list[str]] = {}
        self.client = client
        self.stores = Stores(self.changed.append, self.moved.append, lambda key: self.orphans.get(key, []))
        self._url = server.url

    async def begin(self) -> None:
        for key in (POOL_KEY, OTHER_KEY):
            self.stores.use(key, self._url)
        for task in self.stores._tasks.values():
            task.cancel()
        await self.look()

    async def look(self) -> tuple[list[SetKey], list[SetKey]]:
        """Read the store; -> the sets that are other than before, and those of which only numbers are."""
        self.changed.clear()
        self.moved.clear()
        await self.stores.read_now(POOL_KEY)
        return list(self.changed), list(self.moved)

    def beat(self, one: Lease) -> None:
        self.client.execute_command(*LeaseKeeper(Keys("voice", "media"), one).heartbeat())


def play(server: RedisServer, scene: Callable[[Scene], object]) -> None:
    async def run() -> None:
        with server.client() as client:
            client.flushall()
            for script in SCRIPTS:
                client.script_load(script.text)
            found = Scene(server, client)
            await found.begin()
            try:
                result = scene(found)
                assert asyncio.iscoroutine(result)
                await result
            finally:
                await found.stores.close()

    asyncio.run(run())


def test_a_heartbeat_that_says_nothing_new_wakes_nobody(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        look.beat(lease(index=1))
        assert await look.look() == ([POOL_KEY], [])
        look.beat(lease(index=1))
        assert await look.look() == ([], [])

    play(server, scene)


def test_calls_that_come_and_go_only_move_numbers(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        look.beat(lease(index=1, active=3))
        await look.look()
        look.beat(lease(index=1, active=4, transactions=2))
        assert await look.look() == ([], [POOL_KEY])
        look.beat(lease(index=1, active=0, empty=True))
        assert await look.look() == ([], [POOL_KEY]), "a pod without a call is nothing special"

    play(server, scene)


@pytest.mark.parametrize(
    "change", [{"cordoned": True}, {"draining": True}, {"ready": False}, {"version": "2"}, {"capacity": 20}]
)
def test_what_a_plan_turns_on_wakes_its_set_at_once(server: RedisServer, change: dict[str, object]) -> None:
    async def scene(look: Scene) -> None:
        look.beat(lease(index=1))
        await look.look()
        look.beat(lease(index=1, **change))
        assert await look.look() == ([POOL_KEY], [])

    play(server, scene)


def test_that_a_draining_pod_is_empty_wakes_its_set_at_once(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        look.beat(lease(index=1, cordoned=True, draining=True, active=2))
        await look.look()
        look.beat(lease(index=1, cordoned=True, draining=True, active=1))
        assert await look.look() == ([], [POOL_KEY])
        look.beat(lease(index=1, cordoned=True, draining=True, active=0, empty=True))
        assert await look.look() == ([POOL_KEY], [])

    play(server, scene)


def test_a_lease_that_goes_wakes_its_set(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        one = lease(index=1)
        look.beat(one)
        await look.look()
        view = look.stores.view(POOL_KEY)
        assert view is not None
        view.store_changed(True, -10.0)  # this store has been the same for long
        look.client.execute_command(*LeaseKeeper(Keys("voice", "media"), one).release())
        assert (await look.look())[0] == [POOL_KEY]

    play(server, scene)


def test_a_store_that_goes_and_comes_wakes_every_set(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        await look.look()
        server.kill()
        assert sorted((await look.look())[0]) == [OTHER_KEY, POOL_KEY]
        assert await look.look() == ([], []), "that it is still away is nothing new"
        server.start()
        assert sorted((await look.look())[0]) == [OTHER_KEY, POOL_KEY]

    play(server, scene)


def test_sessions_of_relays_of_one_name_in_two_namespaces_are_counted_apart(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        for namespace, count in (("voice", 3), ("lab", 1)):
            for number in range(count):
                look.client.hset(Keys(namespace, "media").sessions("media-0").decode(), f"call-{number}", b"x")
        look.orphans = {POOL_KEY: ["media-0"], OTHER_KEY: ["media-0"]}
        await look.look()
        assert look.stores.stored == {(POOL_KEY, "media-0"): 3, (OTHER_KEY, "media-0"): 1}

    play(server, scene)


def test_a_count_ends_with_the_orphan_and_with_the_store(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        look.orphans = {POOL_KEY: ["media-0"]}
        await look.look()
        assert look.stores.stored == {(POOL_KEY, "media-0"): 0}
        look.orphans = {}
        await look.look()
        assert look.stores.stored == {}, "what was counted at its start says nothing of its end"
        look.orphans = {POOL_KEY: ["media-0"]}
        await look.look()
        server.kill()
        await look.look()
        assert look.stores.stored == {}, "nobody knows"

    play(server, scene)


def test_a_set_that_is_gone_leaves_nothing_behind(server: RedisServer) -> None:
    async def scene(look: Scene) -> None:
        look.orphans = {POOL_KEY: ["media-0"]}
        await look.look()
        look.stores.forget(POOL_KEY)
        assert look.stores.stored == {}
        assert look.stores.view(POOL_KEY) is None

    play(server, scene)
