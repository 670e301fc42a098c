"""When a process that died is started again. Pure: `now` is a monotonic clock in seconds."""

from __future__ import annotations

FORGET = 60.0
"""Seconds of life after which earlier deaths no longer count."""
LONGEST = 30.0


class Backoff:
    """The first restart is at once; from the second death within 60 s on the wait is 1, 2, 4 ... 30 s."""

    __slots__ = ("deaths",)

    def __init__(self) -> None:
        self.deaths = 0
        """Deaths in a row, each less than 60 s after its start."""

    def died(self, started: float, now: float) -> float:
        """A process that was started at `started` died now -> seconds to wait before the next start."""
        if now - started >= FORGET:
            self.deaths = 0
        self.deaths += 1
        if self.deaths == 1:
            return 0.0
        return min(LONGEST, 2.0 ** min(self.deaths - 2, 10))
