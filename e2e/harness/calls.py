"""Calls from outside of the cluster, something that happens to them, and the verdict."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from e2e.harness.fleet import DOMAIN, Fleet
from e2e.harness.waits import Waits, within
from sipfleet import probes
from sipfleet.calls import CallGenerator, CallPlan
from sipfleet.calls.audio import PERIOD
from sipfleet.calls.netns import place
from sipfleet.demo.stage import Outcome

PLANNED_MS = 250.0
"""The longest gap beyond control where no relay was killed. Nothing that is planned makes one; this is what two cores
leave undone for a moment when they start pods, run three kubelets and carry the calls. The control stream does not see
all of it: it runs in the callers' process, before the relays' turn. Both figures are printed."""
KILLED_RELAY_MS = 8000.0
"""The longest gap of a relay whose pod was deleted by force."""
LOST_NODE_MS = 20000.0
"""The longest gap where a node died."""
AFTERMATH = 20.0
"""Seconds that calls are watched after a disturbance before anything else is done: longer than a failover, a replaced
pod or a new conntrack entry takes, so that what does not recover shows."""
REACHED = 60.0
"""Seconds within which a load balancer serves the address of pods that are ready: its health checks come later."""
LEAST = 50
"""Calls that must be up when something happens, or it has proved nothing."""

Deed = Callable[[CallGenerator], Awaitable[None]]


class Outside:
    """Where callers and callees are, and what they wrote down."""

    def __init__(self, fleet: Fleet, callers: str, callee: str, results: Path) -> None:
        """`callers` and `callee` are paths of network namespaces, empty for this process's own."""
        self.fleet = fleet
        self.callers = callers
        self.callee = callee
        self.results = results

    def plan(self, **changes: Any) -> CallPlan:
        """60 calls at once, each 20 to 60 s long, and more arriving."""
        usual = CallPlan(
            target=f"sip:callee@{DOMAIN}",
            proxy=(self.fleet.address, 5060),
            listen=self.fleet.callee,
            calls=60,
            rate=10.0,
            duration=(20.0, 60.0),
            keep_arriving=True,
            seed=random.getrandbits(31),
            keepalive=10.0,
            caller_netns=self.callers,
            callee_netns=self.callee,
        )
        return replace(usual, **changes)

    def play(
        self, name: str, deed: Deed, *, limit_ms: float = PLANNED_MS, events: tuple[str, ...] = (), **changes: Any
    ) -> Outcome:
        """Calls up, then the deed, then all of them to their end; -> what came of them. Prints one JSON line, and
        keeps it.

        `events` names the marks of the deed that must have met calls.
        """
        return asyncio.run(self._play(name, deed, limit_ms, events, self.plan(**changes)))

    async def _play(self, name: str, deed: Deed, limit_ms: float, events: tuple[str, ...], plan: CallPlan) -> Outcome:
        outcome = Outcome(name, limit_ms)
        await act(_until_reached, plan)
        began = time.monotonic()
        with Waits() as waits:
            async with CallGenerator(plan, self._cdrs) as calls:
                await calls.until_established(min(plan.calls, LEAST + 5), timeout=plan.calls / plan.rate + 30)
                try:
                    await deed(calls)
                except (AssertionError, TimeoutError) as error:  # the calls are judged all the same
                    outcome.problems.append(str(error))
                outcome.report = await calls.finish(timeout=plan.duration[1] + 120)
        for event in outcome.report.events:
            up = outcome.report.up_at(event.at)
            if event.name in events and up < LEAST:
                outcome.problems.append(f"{event.name} met {up} calls, at least {LEAST} expected")
        longest = outcome.longest
        if longest.gap_ms:
            start = outcome.report.began + longest.gap_at
            waited = within(waits.seen, start, start + longest.gap_ms / 1000 + PERIOD)
            found = set(waits.found.values())  # of what was never looked at a 0 would be no figure
            outcome.facts["waited_ms"] = {who: round(ms, 1) for who, ms in waited.items() if who in found}
        outcome.facts["seconds"] = round(time.monotonic() - began, 1)
        told = {"scenario": name, **outcome.as_json()}
        print(json.dumps(told))
        with self.results.open("a") as file:
            file.write(json.dumps(told) + "\n")
        return outcome

    async def _cdrs(self, call_ids: Collection[str]) -> Mapping[str, int]:
        found = await asyncio.to_thread(self.fleet.cdrs)
        return {call_id: found[call_id] for call_id in call_ids if call_id in found}


def _until_reached(plan: CallPlan) -> None:
    """Wait until callers and trunk get an answer: what goes to an address before anybody serves it is lost, and with it
    the trunk's first keepalive, by which the proxies know where the trunk's packets arrive."""
    deadline = time.monotonic() + REACHED
    for path in {plan.caller_netns, plan.callee_netns}:
        while not _answers(path, plan.proxy):
            assert time.monotonic() < deadline, f"nobody answers at {plan.proxy} from {path or 'here'}"


def _answers(path: str, target: tuple[str, int]) -> bool:
    """Whether OPTIONS from there is answered within a second."""
    try:
        with place(path)(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            source: str = sock.getsockname()[0]
            return asyncio.run(probes.options(target, source, 1.0))
    except OSError:  # no way there yet
        time.sleep(0.2)
        return False


def passed(outcome: Outcome) -> None:
    """Assert that every call was kept, and say what was not."""
    told = outcome.as_json()
    lost = [
        {
            "number": one.number,
            "reason": one.reason,
            "detail": one.detail,
            "call_id": one.call_id,
            "answered_at": round(one.answered_at, 3),
            "bye_at": round(one.bye_at, 3),
        }
        for one in (outcome.report.calls if outcome.report is not None else [])
        if not one.kept
    ]
    assert outcome.passed, json.dumps({"complaints": outcome.complaints(), "lost": lost[:8], **told}, indent=1)


async def act(function: Callable[..., Any], *words: Any) -> Any:
    """Something that blocks, beside the calls."""
    return await asyncio.to_thread(function, *words)
