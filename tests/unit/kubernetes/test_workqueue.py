"""The keyed queue: nothing is lost, nothing is done twice at once, and what is due later is done by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sipfleet.kubernetes.workqueue import WorkQueue

Scene = Callable[[WorkQueue[str]], Awaitable[None]]


def play(scene: Scene) -> None:
    async def run() -> None:
        await scene(WorkQueue())

    asyncio.run(run())


async def soon(queue: WorkQueue[str]) -> str | None:
    """The next key, None when there is none."""
    try:
        async with asyncio.timeout(0.05):
            return await queue.get()
    except TimeoutError:
        return None


def test_a_key_that_waits_already_is_not_queued_twice() -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        queue.add("b")
        queue.add("a")
        assert [await soon(queue), await soon(queue), await soon(queue)] == ["a", "b", None]

    play(scene)


def test_a_key_that_is_worked_on_is_queued_again_when_that_is_done_and_not_before() -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        assert await soon(queue) == "a"
        queue.add("a")
        queue.add("a")
        assert await soon(queue) is None
        queue.done("a")
        assert [await soon(queue), await soon(queue)] == ["a", None]

    play(scene)


def test_a_key_is_due_at_the_earliest_of_the_times_that_were_asked_for() -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        queue.add_after("a", 30.0)
        queue.add_after("a", 0.01)
        queue.add_after("a", 20.0)
        assert await soon(queue) == "a"

    play(scene)


def test_what_is_done_now_needs_not_be_done_later_too() -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        queue.add_after("a", 0.01)
        queue.add("a")
        queue.add_after("a", 0.01)
        assert await soon(queue) == "a"
        queue.done("a")
        assert await soon(queue) is None

    play(scene)


def test_a_time_that_comes_during_the_work_counts_after_it() -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        assert await soon(queue) == "a"
        queue.add_after("a", 0.01)
        assert await soon(queue) is None
        queue.done("a")
        assert await soon(queue) == "a"

    play(scene)


def test_nothing_more_is_done_for_a_key_that_is_forgotten() -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        assert await soon(queue) == "a"
        queue.add("a")
        queue.add_after("b", 0.01)
        queue.forget("a")
        queue.forget("b")
        queue.done("a")
        assert await soon(queue) is None
        assert len(queue) == 0

    play(scene)


@pytest.mark.parametrize("workers", [1, 4])
def test_many_workers_never_have_one_key_at_once_and_do_each_change(workers: int) -> None:
    async def scene(queue: WorkQueue[str]) -> None:
        busy: set[str] = set()
        seen: dict[str, int] = {}
        asked = dict.fromkeys("abc", 0)

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                wanted = asked[key]
                await asyncio.sleep(0.001)
                seen[key] = wanted
                busy.discard(key)
                queue.done(key)

        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        for number in range(200):
            key = "abc"[number % 3]
            asked[key] = number
            queue.add(key)
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in tasks)
        assert seen == asked
        for task in tasks:
            task.cancel()

    play(scene)
