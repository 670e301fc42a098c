"""What every scenario has in common: settings, a cluster, calls, and the outcome."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sipfleet.calls import CallGenerator, CallPlan, Report
from sipfleet.calls.cdr import RedisCdrs
from sipfleet.calls.report import beyond_control_ms
from sipfleet.calls.results import Heard

from .cluster import Cluster
from .manifests import DOMAIN

GAP_LIMIT_MS = 60.0
"""The longest gap where no relay died."""
KILLED_RELAY_LIMIT_MS = 2000.0
"""The longest gap where one did."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is played. Times are seconds."""

    calls: int = 65
    """Calls at once."""
    least: int = 50
    """Calls that must be up at an event, or it has proved nothing."""
    rate: float = 30.0
    duration: tuple[float, float] = (15.0, 30.0)
    rolling_duration: tuple[float, float] = (15.0, 20.0)
    """Of the calls that keep arriving: a drain waits for the longest of them."""
    mischief: tuple[float, float] = (0.5, 4.0)
    """Earliest and latest moment of an event after the calls are up."""
    t1: float = 0.5


@dataclass(slots=True)
class Outcome:
    """What came of one scenario."""

    name: str
    gap_limit_ms: float
    report: Report | None = None
    problems: list[str] = field(default_factory=list)
    """What went wrong besides calls that were not kept."""
    facts: dict[str, Any] = field(default_factory=dict)
    """More for the JSON: which pod was killed, with how many calls."""

    @property
    def calls(self) -> int:
        return len(self.report.calls) if self.report is not None else 0

    @property
    def kept(self) -> int:
        return self.report.kept if self.report is not None else 0

    @property
    def longest(self) -> Heard:
        """The direction of a call with the longest gap; one without any where there were no calls."""
        calls = self.report.calls if self.report is not None else []
        heard = (heard for call in calls for heard in (call.to_caller, call.to_callee))
        return max(heard, key=lambda one: one.gap_ms, default=Heard())

    @property
    def max_gap_ms(self) -> float:
        return self.report.max_gap_ms if self.report is not None else 0.0

    @property
    def extra_gap_ms(self) -> float:
        """The longest gap without the part in which the control stream beside the relays was silent too: what the
        cluster answers for, and not the machine."""
        report = self.report
        return max((beyond_control_ms(call, report) for call in report.calls), default=0.0) if report else 0.0

    @property
    def passed(self) -> bool:
        return not self.complaints()

    def complaints(self) -> list[str]:
        """Everything that makes this scenario fail, in words."""
        found = list(self.problems)
        if self.report is None:
            return found or ["not played"]
        if not self.calls:
            found.append("no call was made")
        elif not self.report.all_kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.report.reasons().items())
            found.append(f"{self.calls - self.kept} calls not kept: {reasons}")
        if self.extra_gap_ms >= self.gap_limit_ms:
            seen = f"a gap of {self.max_gap_ms:.0f} ms, {self.extra_gap_ms:.0f} ms of it not in the control stream"
            found.append(f"{seen}, limit {self.gap_limit_ms:.0f} ms")
        return found

    def as_json(self) -> dict[str, Any]:
        report = self.report
        told: dict[str, Any] = {
            "calls": self.calls,
            "kept": self.kept,
            "max_gap_ms": round(self.max_gap_ms, 1),
            "gap_limit_ms": self.gap_limit_ms,
            "passed": self.passed,
        }
        if report is not None:
            told["gap_beyond_control_ms"] = round(self.extra_gap_ms, 1)
            told["control_gap_ms"] = round(report.control.gap_ms, 1)
            told["gap_at"] = round(self.longest.gap_at, 3)
            told["began"] = round(report.began, 3)
            told["lost_packets"] = sum(call.lost for call in report.calls)
            told["events"] = [
                {
                    "name": event.name,
                    "at": round(event.at, 3),
                    "calls_up": report.up_at(event.at),
                    "detail": event.detail,
                }
                for event in report.events
            ]
        if not self.passed:
            told["problems"] = self.complaints()
        return {**told, **self.facts}


class Stage:
    """A cluster to play on, seeded chance, and a voice."""

    def __init__(
        self, cluster: Cluster, settings: Settings, seed: int, next_version: str, say: Callable[[str], None]
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self.next_version = next_version
        """The release that a roll goes to."""
        self.seed = seed
        self._say = say
        self._began = time.monotonic()

    def chance(self, scenario: str) -> random.Random:
        """The scenario's own seeded randomness, the same whether it is played alone or with others."""
        return random.Random(f"{self.seed} {scenario}")

    def say(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began:6.1f} s  {text}")

    @asynccontextmanager
    async def calls(self, chance: random.Random, **changes: Any) -> AsyncIterator[CallGenerator]:
        """Calls through the cluster's SIP address, with the CDRs counted at the end; `changes` are of the plan."""
        settings, manifests = self.settings, self.cluster.manifests
        usual = CallPlan(
            target=f"sip:callee@{DOMAIN}",
            proxy=(manifests.address, 5060),
            listen=manifests.callee,
            calls=settings.calls,
            rate=settings.rate,
            duration=settings.duration,
            seed=chance.getrandbits(31),
            t1=settings.t1,
        )
        plan = replace(usual, **changes)
        cdrs = RedisCdrs(await self.cluster.cdr_url())
        try:
            async with CallGenerator(plan, cdrs) as calls:
                await calls.until_established(timeout=plan.calls / plan.rate + 15)
                yield calls
        finally:
            await cdrs.close()

    def check_events(self, outcome: Outcome, names: tuple[str, ...]) -> None:
        """An event that met too few calls has proved nothing; one that only says that something is over need not."""
        report = outcome.report
        if report is None:
            return
        for event in report.events:
            up = report.up_at(event.at)
            if event.name in names and up < self.settings.least:
                outcome.problems.append(f"{event.name} met {up} calls, at least {self.settings.least} expected")


Scenario = Callable[[Stage], Awaitable[Outcome]]
