"""Timers of the core: a queue for each delay that is always the same, a heap for the odd ones.

Nearly all timers of SIP have one of a few lengths and nearly none of them fires to any effect: an entry is appended,
comes to the front, and finds that its transaction has moved on. Nothing is ever cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Callback = Callable[[Any, float], None]
"""Called with what was given to `start` and the time."""

_Entry = tuple[float, Callback, Any]


class Timers:
    """`start` some, ask `next`, and `run` when it is reached."""

    __slots__ = ("_heap", "_number", "_queues")

    def __init__(self, delays: tuple[float, ...]) -> None:
        """`delays` in seconds: those that get a queue of their own."""
        self._queues: dict[float, deque[_Entry]] = {delay: deque() for delay in delays}
        self._heap: list[tuple[float, int, Callback, Any]] = []
        self._number = 0

    def start(self, delay: float, now: float, callback: Callback, what: Any) -> None:
        """`callback(what, time)` in `delay` seconds."""
        queue = self._queues.get(delay)
        if queue is None:
            self._number += 1
            heappush(self._heap, (now + delay, self._number, callback, what))
        else:
            queue.append((now + delay, callback, what))

    def next(self) -> float | None:
        """When the first one is due."""
        due = [queue[0][0] for queue in self._queues.values() if queue]
        if self._heap:
            due.append(self._heap[0][0])
        return min(due) if due else None

    def run(self, now: float) -> None:
        """Fire what is due; within one length of delay the earliest first."""
        for queue in self._queues.values():
            while queue and queue[0][0] <= now:
                _, callback, what = queue.popleft()
                callback(what, now)
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, callback, what = heappop(heap)
            callback(what, now)

    def __len__(self) -> int:
        return len(self._heap) + sum(map(len, self._queues.values()))
