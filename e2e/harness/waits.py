"""How long the programs that carry calls were ready to run and had no core, from the kernel's scheduler (Linux,
Documentation/scheduler/sched-stats: run_delay). Where relays and callers share a machine's cores with everything that
starts pods on it, this is what a gap is compared with. Only programs of this machine are seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.journal import Background

PERIOD = 0.02
"""Seconds between two looks."""
SEARCH = 2.0
"""Seconds between two searches for programs that have begun."""
WORTH = 0.001
"""Seconds of waiting between two looks that are worth being kept."""
PROGRAMS = {b"rtprelay": "relay", b"sipfleet.calls.engine": "callers"}
"""What stands in a command line, and what the waits of such a program are told as."""


@dataclass(frozen=True)
class Wait:
    """Between two looks (Unix time in seconds) one process waited so long (seconds)."""

    program: str
    pid: int
    since: float
    until: float
    seconds: float


def within(waits: list[Wait], start: float, end: float) -> dict[str, float]:
    """How long the process of each program that waited most did so from `start` to `end`: milliseconds. A look that
    lies partly in that time counts whole, but none waited longer than that time is."""
    each: dict[tuple[str, int], float] = {}
    for wait in waits:
        if wait.until > start and wait.since < end:
            key = (wait.program, wait.pid)
            each[key] = each.get(key, 0.0) + wait.seconds
    most = dict.fromkeys(PROGRAMS.values(), 0.0)
    for (program, _), seconds in each.items():
        most[program] = max(most[program], min(seconds, end - start) * 1000)
    return most


class Waits(Background):
    """Looks at relays and callers until the `with` ends."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Wait] = []
        self.found: dict[int, str] = {}
        """What was looked at: process ids and programs. Relays of a cluster elsewhere are not among them."""

    def _look(self) -> None:
        programs: dict[int, str] = {}
        last: dict[int, tuple[float, float]] = {}
        search_at = 0.0
        while not self._ended.wait(PERIOD):
            if time.monotonic() >= search_at:
                search_at = time.monotonic() + SEARCH
                programs = dict(_programs())
                self.found |= programs
            for pid, name in list(programs.items()):
                try:
                    now, waited = time.time(), _waited(pid)
                except OSError:  # it has ended
                    del programs[pid]
                    continue
                since, before = last.get(pid, (now, waited))
                if waited - before >= WORTH:
                    self.seen.append(Wait(name, pid, since, now, waited - before))
                last[pid] = now, waited


def _programs() -> Iterator[tuple[int, str]]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                line = (directory / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            for word, name in PROGRAMS.items():
                if word in line:
                    yield int(directory.name), name


def _waited(pid: int) -> float:
    """Seconds that the main thread of a process has waited for a core since it began."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
