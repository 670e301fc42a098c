"""The front of the call generator: starts the engine, follows it, marks events, and judges what came of the calls.

async with CallGenerator(plan) as calls:
    await calls.until_established(50)
    calls.mark("kill", "proxy-1")
    report = await calls.finish()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Self

from . import wire
from .errors import EngineError
from .judge import Limits, judge
from .plan import CallPlan
from .results import CallResult, Event, Report, Status

CdrSource = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]
"""Asked with Call-IDs, answers how many CDRs there are for each (0 may be left out)."""

CDR_PATIENCE = 10.0
"""How long after the last call its CDR may come, seconds."""


class CallGenerator:
    """Calls through a cluster of which only the address is known."""

    def __init__(self, plan: CallPlan, cdrs: CdrSource | None = None, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.plan = plan
        self.status = Status()
        self.calls: list[CallResult] = []
        """Those that are over, not judged yet."""
        self.events: list[Event] = []
        self._cdrs = cdrs
        self._limits = limits
        self._zero = 0.0
        self._began = 0.0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._done: wire.Done | None = None
        self._failure = ""
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sipfleet.calls.engine", str(theirs.fileno()), pass_fds=(theirs.fileno(),)
            )
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=wire.LONGEST_LINE)
        self._zero, self._began = time.monotonic(), time.time()
        self._reader = asyncio.create_task(self._follow(reader))
        self._send(wire.Start(self.plan, self._zero))
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), 8)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    @property
    def now(self) -> float:
        """Seconds since the zero of the run."""
        return time.monotonic() - self._zero

    def mark(self, name: str, detail: str = "") -> Event:
        """Write down that something was done to the cluster just now."""
        event = Event(name, round(self.now, 6), detail)
        self.events.append(event)
        return event

    async def until_established(self, count: int | None = None, timeout: float = 60.0) -> Status:
        """Wait until so many calls (default: all of the plan) are up at once.

        Raises `EngineError` when that does not happen within `timeout` seconds.
        """
        wanted = self.plan.calls if count is None else count
        return await self.until(lambda status: status.established >= wanted, timeout, f"{wanted} calls up at once")

    async def until(self, test: Callable[[Status], bool], timeout: float | None, what: str) -> Status:
        """Wait for a status that passes the test.

        Raises `EngineError` when none does within `timeout` seconds, or when the engine ended.
        """
        try:
            async with asyncio.timeout(timeout), self._changed:
                while not test(self.status):
                    self._check()
                    await self._changed.wait()
                return self.status
        except TimeoutError:
            raise EngineError(f"no {what} within {timeout:g} s: {_brief(self.status)}") from None

    def more(self, calls: int) -> None:
        """Make it so many calls in all (at once, when calls keep arriving)."""
        self._send(wire.More(calls))

    def stop(self) -> None:
        """No new calls."""
        self._send(wire.Stop())

    def hang_up(self) -> None:
        """No new calls, and a BYE for those that are up."""
        self._send(wire.HangUp())

    async def finish(self, timeout: float | None = None) -> Report:
        """Wait for the calls of the plan to end by themselves (when calls keep arriving: no new ones), and judge them.

        Raises `EngineError` when they have not ended within `timeout` seconds.
        """
        if self.plan.keep_arriving:
            self.stop()
        self._send(wire.Finish())
        try:
            async with asyncio.timeout(timeout), self._changed:
                while self._done is None:
                    self._check()
                    await self._changed.wait()
        except TimeoutError:
            raise EngineError(f"calls did not end within {timeout:g} s: {_brief(self.status)}") from None
        return await self._report(self._done)

    async def _report(self, done: wire.Done) -> Report:
        calls = sorted(self.calls, key=lambda call: call.number)
        if self._cdrs is not None:
            found = await self._count_cdrs(self._cdrs, [call.call_id for call in calls if call.answered_at])
            calls = [replace(call, cdrs=found.get(call.call_id, 0) if call.answered_at else None) for call in calls]
        return Report(
            seed=self.plan.seed,
            calls=[judge(call, self._limits) for call in calls],
            events=list(self.events),
            control=done.control,
            began=self._began,
            seconds=done.seconds,
            packets_per_second=done.packets / done.seconds if done.seconds else 0.0,
            engine_cpu=done.cpu / done.seconds if done.seconds else 0.0,
        )

    async def _count_cdrs(self, source: CdrSource, call_ids: list[str]) -> Mapping[str, int]:
        deadline = time.monotonic() + CDR_PATIENCE
        while True:
            found = await source(call_ids)
            if all(found.get(call_id) for call_id in call_ids) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        try:
            while text := await reader.readline():
                self._take(wire.answer(text))
                async with self._changed:
                    self._changed.notify_all()
        except (OSError, ValueError) as error:
            self._failure = str(error)
        finally:
            self._failure = self._failure or "the engine ended"
            async with self._changed:
                self._changed.notify_all()

    def _take(self, answer: wire.Answer) -> None:
        match answer:
            case wire.Now(status):
                self.status = status
            case wire.Ended(call):
                self.calls.append(call)
            case wire.Done():
                self._done = answer
            case wire.Failed(error):
                self._failure = error

    def _check(self) -> None:
        if self._failure and self._done is None:
            raise EngineError(self._failure)

    def _send(self, command: wire.Command) -> None:
        if self._writer is None:
            raise EngineError("the generator is not running: use it as `async with`")
        self._writer.write(wire.line(command))


def _brief(status: Status) -> str:
    return (
        f"{status.started} started, {status.setting_up} setting up, {status.established} established, "
        f"{status.leaving} leaving, {status.ended} ended, {status.failed} failed"
    )
