"""Pods as processes: started, watched, started again, told to end.

The kernel wakes us when one ends, so a first restart happens within milliseconds: a relay must be back on its ports,
with its sessions, well within 500 ms (DESIGN 3.5). What should run where is decided elsewhere; this only makes it so.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from sipfleet import admin, probes
from sipfleet.local.addresses import ADMIN_PORT, NG_PORT
from sipfleet.local.backoff import Backoff
from sipfleet.local.children import Child, bound_log, exit_text, last_line, stop_all
from sipfleet.local.errors import LocalError
from sipfleet.local.events import Events
from sipfleet.local.releases import environment
from sipfleet.local.slots import Leave, Slot
from sipfleet.local.state import StateDirectory
from sipfleet.plan.types import Phase
from sipfleet.setkey import SetKey

PROGRAMS = {"SipCluster": "sipproxy", "MediaPool": "rtprelay"}

READY_INTERVALS = [0.03] * 40 + [0.1] * 40
"""Seconds between looks at a pod that starts; the last one goes on."""
LIVE_INTERVAL = 5.0
LIVE_TIMEOUT = 3.0
LIVE_STRIKES = 3
"""So many unanswered liveness probes in a row: the pod hangs and is killed."""
PROBE_TIMEOUT = 2.0
START_LIMIT = 20.0
"""Seconds that a pod may take until it answers its first liveness probe."""
STOP_PATIENCE = 2.0
"""Seconds from SIGINT to SIGKILL when everything stops."""

Rendered = tuple[str, str | None, tuple[str, int] | None]
"""Configuration text, version to run, SIP address for the probe (proxies)."""


class Pods:
    """All slots of one supervisor and their processes."""

    def __init__(
        self,
        state: StateDirectory,
        events: Events,
        render: Callable[[Slot], Rendered],
        wake: Callable[[], None],
        probe_source: str,
    ) -> None:
        """`render` says what a slot runs (raises `LocalError` when it cannot); `wake` is called when the planner should
        look again; `probe_source` is the address that probes come from."""
        self.slots: dict[tuple[SetKey, int], Slot] = {}
        self.stopping = False
        self._state = state
        self._events = events
        self._render = render
        self._wake = wake
        self._probe_source = probe_source
        self._tasks: set[asyncio.Task[None]] = set()
        self._sip: dict[str, tuple[str, int]] = {}

    def of(self, owner: SetKey) -> list[Slot]:
        """The slots of a set, lowest ordinal first."""
        return sorted((s for s in self.slots.values() if s.owner == owner), key=lambda s: s.ordinal)

    def named(self, name: str) -> Slot | None:
        return next((s for s in self.slots.values() if s.name == name), None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside; it ends with us."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.warn("InternalError", "cluster", f"{type(error).__name__}: {error}")

    def create(self, slot: Slot) -> None:
        """Put a slot in place and start its first pod."""
        self.slots[slot.key] = slot
        slot.become(Phase.PENDING, time.time())
        self.start(slot)

    def start(self, slot: Slot) -> None:
        """Start a pod in the slot, now. When that fails, it is tried again with back-off."""
        if slot.retry is not None:
            slot.retry.cancel()
            slot.retry = None
        if self.stopping:
            return
        now = time.time()
        slot.uid = secrets.token_hex(8)
        slot.lease, slot.reported, slot.lease_alive = None, None, False
        slot.strikes = slot.misses = 0
        slot.told.clear()
        slot.mark(now, ready=False, serving=False)
        program = PROGRAMS[slot.owner.kind]
        try:
            slot.config, slot.version, sip = self._render(slot)
            variables = environment(self._state, slot.version)
            self._state.write_text(f"pods/{slot.name}.json", slot.config)
            slot.child = Child(
                [sys.executable, "-P", "-m", program, "--config", str(self._state / "pods" / f"{slot.name}.json")],
                self._state / "logs" / f"{slot.name}.log",
                lambda child, status: self._ended(slot, child, status),
                variables,
            )
        except (LocalError, OSError) as error:
            slot.child = None
            delay = max(1.0, slot.backoff.died(0.0, 0.0))
            slot.become(Phase.FAILED, now, str(error))
            self._events.warn("CannotStart", f"pod/{slot.name}", f"{error}; next attempt in {delay:g} s")
            self._retry(slot, delay)
            return
        if sip is not None:
            self._sip[slot.name] = sip
        slot.become(Phase.RUNNING, now)
        self.spawn(self._come_up(slot, slot.child))

    def end(self, slot: Slot, revision: str | None) -> None:
        """Tell the pod to end when it is empty (SIGTERM); then the slot goes, or gets a pod of `revision`."""
        slot.leave = Leave(revision, asyncio.get_running_loop().time())
        if slot.child is None or not slot.child.alive:
            self._left(slot)
            return
        slot.become(Phase.TERMINATING, time.time())
        slot.child.send(signal.SIGKILL if slot.skip_drain else signal.SIGTERM)

    def kill(self, slot: Slot) -> None:
        if slot.child is not None:
            slot.child.send(signal.SIGKILL)

    async def stop(self) -> None:
        """End everything, quickly: SIGINT, then SIGKILL."""
        self.stopping = True
        for slot in self.slots.values():
            if slot.retry is not None:
                slot.retry.cancel()
        for task in self._tasks:
            task.cancel()
        await stop_all([s.child for s in self.slots.values() if s.child is not None], signal.SIGINT, STOP_PATIENCE)

    def pids(self) -> list[int]:
        return [slot.pid for slot in self.slots.values() if slot.pid is not None]

    def _retry(self, slot: Slot, delay: float) -> None:
        slot.retry = asyncio.get_running_loop().call_later(delay, self.start, slot)

    def _ended(self, slot: Slot, child: Child, status: int) -> None:
        """From the loop, once for each process."""
        if slot.child is not child:
            return
        slot.child = None
        slot.lease_alive = False
        slot.mark(time.time(), ready=False, serving=False)
        if self.stopping:
            return
        if slot.leave is not None:
            self._left(slot)
            return
        delay = slot.backoff.died(child.started, asyncio.get_running_loop().time())
        slot.restarts += 1
        why = exit_text(status)
        if status > 0 and (line := last_line(child.log)):
            why += f" ({line})"
        what = f"{why}; " + (f"next start in {delay:g} s" if delay else "started again")
        if delay:
            slot.become(Phase.FAILED, time.time(), f"{why}, {slot.backoff.deaths} times in a row")
            self._retry(slot, delay)
        else:
            self.start(slot)
        self._events.warn("Died", f"pod/{slot.name}", what)
        self._wake()

    def _left(self, slot: Slot) -> None:
        """The pod that was told to end is gone."""
        leave, slot.leave = slot.leave, None
        if slot.retry is not None:
            slot.retry.cancel()
            slot.retry = None
        slot.skip_drain = False
        if leave is None or leave.revision is None:
            self.slots.pop(slot.key, None)
            self._sip.pop(slot.name, None)
            self._state.remove(f"pods/{slot.name}.json")
            self._events.add("Removed", f"pod/{slot.name}", "ended, and its slot is gone")
        else:
            slot.revision, slot.evict, slot.backoff = leave.revision, False, Backoff()
            self._events.add("Replaced", f"pod/{slot.name}", f"now of revision {leave.revision}")
            self.start(slot)
        self._wake()

    async def _come_up(self, slot: Slot, child: Child) -> None:
        """Look until the pod is ready, then until something goes through it."""
        turns = iter(READY_INTERVALS)
        pause = READY_INTERVALS[-1]
        while slot.child is child and not slot.ready:
            status, _ = await admin.request((slot.address, ADMIN_PORT), "GET", "/readyz", 1.0)
            if slot.child is child and status == 200:
                slot.mark(time.time(), ready=True)
                self._wake()
                break
            pause = next(turns, pause)
            await asyncio.sleep(pause)
        while slot.child is child and not slot.serving:
            if await self._serves(slot) and slot.child is child:
                slot.mark(time.time(), serving=True)
                self._wake()
                return
            await asyncio.sleep(0.5)

    async def _check_service(self, slot: Slot, child: Child) -> None:
        """Whether a pod that served still answers; one that leaves need not (a draining proxy is in no selection)."""
        said = slot.said
        if not slot.serving or slot.leave is not None or (said is not None and said.draining):
            slot.misses = 0
            return
        if slot.owner.kind == "MediaPool":
            answers = await probes.ping((slot.address, NG_PORT), self._probe_source, PROBE_TIMEOUT)
        else:
            answers = await self._serves(slot)
        if slot.child is not child:
            return
        slot.misses = 0 if answers else slot.misses + 1
        if slot.misses >= LIVE_STRIKES:
            slot.mark(time.time(), serving=False)
            self._events.warn("NotServing", f"pod/{slot.name}", f"{slot.misses} probes in a row got no answer")
            self.spawn(self._come_up(slot, child))
            self._wake()

    async def _serves(self, slot: Slot) -> bool:
        if slot.owner.kind == "MediaPool":
            return await probes.rtp_echo((slot.address, NG_PORT), self._probe_source, PROBE_TIMEOUT)
        target = self._sip.get(slot.name)
        return target is not None and await probes.options(target, self._probe_source, PROBE_TIMEOUT)

    async def watch(self) -> None:
        """Liveness, service, and logs that do not grow without end; runs for ever."""
        while True:
            await asyncio.sleep(LIVE_INTERVAL)
            for log in (self._state / "logs").glob("*.log"):
                bound_log(log)
            await asyncio.gather(*(self._check(slot) for slot in list(self.slots.values())))

    async def _check(self, slot: Slot) -> None:
        child = slot.child
        if child is None:
            return
        status, answer = await admin.request((slot.address, ADMIN_PORT), "GET", "/livez", LIVE_TIMEOUT)
        if slot.child is not child:
            return
        if status == 200:
            slot.strikes = 0
            await self._check_service(slot, child)
            return
        if not slot.ready and asyncio.get_running_loop().time() - child.started < START_LIMIT:
            return
        slot.strikes += 1
        if slot.strikes >= LIVE_STRIKES:
            why = answer.decode("utf-8", "replace")[:200]
            self._events.warn("Hangs", f"pod/{slot.name}", f"{slot.strikes} liveness probes failed ({why}): killed")
            child.send(signal.SIGKILL)
