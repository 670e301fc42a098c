"""Decisions become deeds: what is sent to a pod, once, and what is left alone. The admin ports are real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from sipcore.admin import AdminConnection, text
from sipfleet.local import execute
from sipfleet.local.events import Events
from sipfleet.local.execute import Executor
from sipfleet.local.slots import Leave, Slot
from sipfleet.plan.types import Action, Cordon, CreateSlot, Cut, Drain, PublishSrv, RemoveSlot, Replace, Uncordon
from sipfleet.setkey import SetKey

DEMO = SetKey("SipCluster", "default", "demo")
ADDRESS = "127.106.0.21"


class Process:
    """Stands for a process that is there."""

    alive = True
    pid = 4711


class Pods:
    """The launcher, as far as an executor knows it: what was asked of it is written down."""

    def __init__(self) -> None:
        self.slots: dict[tuple[SetKey, int], Slot] = {}
        self.asked: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def create(self, slot: Slot) -> None:
        slot.uid = "u1"
        self.slots[slot.key] = slot
        self.asked.append(f"create {slot.name} {slot.revision} {slot.address}")

    def end(self, slot: Slot, revision: str | None) -> None:
        slot.leave = Leave(revision, 0.0)
        self.asked.append(f"end {slot.name} {revision}")

    def kill(self, slot: Slot) -> None:
        self.asked.append(f"kill {slot.name}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))


class Scene:
    """An executor, its pods, and an admin port that answers `status` to everything."""

    def __init__(self, status: int, skip_drains: bool) -> None:
        self.pods = Pods()
        self.events = Events(lambda: 0.0)
        self.requests: list[str] = []
        self.cut: list[str] = []
        self.executor = Executor(
            self.pods,  # type: ignore[arg-type]
            self.events,
            lambda name: ADDRESS,
            lambda slot: self.cut.append(slot.name),
            skip_drains,
        )
        handler: Callable[[str], Any] = lambda path: lambda: self._said(path, status)  # noqa: E731
        self._table = {("POST", path): handler(path) for path in ("/cordon", "/uncordon", "/drain")}

    def _said(self, path: str, status: int) -> tuple[int, str, bytes]:
        self.requests.append(path)
        return text(status, "as you wish")

    def do(self, *actions: Action) -> None:
        for action in actions:
            self.executor.carry_out(DEMO, action)

    def slot(self) -> Slot:
        self.do(CreateSlot(0, "rev"))
        slot = self.pods.slots[DEMO, 0]
        slot.child = Process()  # type: ignore[assignment]
        self.pods.asked.clear()
        return slot

    async def settle(self) -> None:
        """Until everything that was sent is answered."""
        while pending := [task for task in self.pods.tasks if not task.done()]:
            await asyncio.wait(pending)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = AdminConnection(self._table)
        while not connection.closed and (data := await reader.read(4096)):
            writer.write(connection.feed(data))
        writer.close()


@asynccontextmanager
async def scene(status: int = 200, skip_drains: bool = False) -> AsyncIterator[Scene]:
    one = Scene(status, skip_drains)
    server = await asyncio.start_server(one.accept, ADDRESS, execute.ADMIN_PORT)
    before, execute.TELLING = execute.TELLING, 0.05
    try:
        yield one
    finally:
        execute.TELLING = before
        server.close()


def test_a_slot_is_created_once_at_its_address() -> None:
    async def run() -> None:
        async with scene() as one:
            one.do(CreateSlot(0, "rev"), CreateSlot(0, "rev"))
            assert one.pods.asked == [f"create demo-0 rev {ADDRESS}"]

    asyncio.run(run())


def test_cordon_drain_and_uncordon_go_to_the_admin_port() -> None:
    async def run() -> None:
        async with scene() as one:
            one.slot()
            one.do(Cordon(0, "u1"), Drain(0, "u1"))
            await one.settle()
            one.do(Uncordon(0, "u1"))
            await one.settle()
            assert sorted(one.requests[:2]) == ["/cordon", "/drain"]
            assert one.requests[2:] == ["/uncordon"]
            assert {event.reason for event in one.events.kept} == {"Created", "Cordoned", "Draining", "Uncordoned"}

    asyncio.run(run())


def test_what_is_under_way_is_not_sent_again_and_told_as_an_event_once() -> None:
    async def run() -> None:
        async with scene() as one:
            one.slot()
            one.do(*[Cordon(0, "u1")] * 5)
            await one.settle()
            assert one.requests == ["/cordon"]
            one.do(Cordon(0, "u1"))  # the planner still does not see it
            await one.settle()
            assert one.requests == ["/cordon", "/cordon"]
            assert [event.reason for event in one.events.kept].count("Cordoned") == 1

    asyncio.run(run())


def test_an_action_for_another_incarnation_or_for_one_that_leaves_is_void() -> None:
    async def run() -> None:
        async with scene() as one:
            slot = one.slot()
            one.do(Cordon(0, "old"), RemoveSlot(0, "old"), Replace(0, "old", "new"), Cut(0, "old"), Drain(7, "u1"))
            slot.leave = Leave(None, 0.0)
            one.do(RemoveSlot(0, "u1"), Drain(0, "u1"))
            await one.settle()
            assert (one.requests, one.pods.asked, one.cut) == ([], [], [])

    asyncio.run(run())


def test_remove_and_replace_end_the_pod_and_say_what_comes_after() -> None:
    async def run() -> None:
        async with scene() as one:
            slot = one.slot()
            one.do(Replace(0, "u1", "new"))
            slot.leave = None
            one.do(RemoveSlot(0, "u1"))
            assert one.pods.asked == ["end demo-0 new", "end demo-0 None"]

    asyncio.run(run())


def test_cut_forgets_what_the_store_keeps_before_the_pod_is_killed() -> None:
    async def run() -> None:
        async with scene() as one:
            one.slot()
            one.do(Cut(0, "u1"))
            assert (one.cut, one.pods.asked) == (["demo-0"], ["kill demo-0"])

    asyncio.run(run())


def test_a_pod_that_refuses_is_told_of_with_its_reason() -> None:
    async def run() -> None:
        async with scene(status=503) as one:
            one.slot()
            one.do(Drain(0, "u1"))
            await one.settle()
            assert one.events.kept[-1].message == "POST /drain: 503 as you wish"

    asyncio.run(run())


def test_with_the_switch_a_drain_is_not_sent_but_taken_as_done() -> None:
    async def run() -> None:
        async with scene(skip_drains=True) as one:
            slot = one.slot()
            one.do(Drain(0, "u1"), Drain(0, "u1"))
            await one.settle()
            assert (one.requests, slot.skip_drain) == ([], True)
            assert [event.reason for event in one.events.kept].count("DrainSkipped") == 1

    asyncio.run(run())


def test_published_records_are_those_of_the_last_action() -> None:
    async def run() -> None:
        async with scene() as one:
            one.do(PublishSrv(()), PublishSrv(()))
            assert one.executor.published == {DEMO: ()}

    asyncio.run(run())
