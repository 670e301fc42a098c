"""Virtual time and a seeded network: the only sources of time and chance of a simulated cluster."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Address = tuple[str, int]

EPOCH = 1_800_000_000.0
"""Unix time at which every simulation begins; the monotonic clock of the cores is the same."""


class Clock:
    """Events in order of time; equal times in the order in which they were set."""

    def __init__(self) -> None:
        self.now = EPOCH
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def after(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + max(0.0, delay), self._number, call, arguments))

    def run(self, until: float) -> None:
        """Let time pass up to `until`."""
        while self._events and self._events[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
        self.now = until


@dataclass(frozen=True)
class Weather:
    """What the network does to datagrams."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: tuple[float, float] = (0.0002, 0.004)
    """Seconds, from and to; drawn for each datagram, so they also overtake one another."""


class Network:
    """Datagrams between addresses; whoever hears an address is found when the datagram arrives."""

    def __init__(self, clock: Clock, rng: Random, weather: Weather) -> None:
        self.weather = weather
        self._clock = clock
        self._rng = rng
        self._ears: dict[Address, Callable[[bytes, Address], None]] = {}
        self.counts = {"sent": 0, "lost": 0, "duplicated": 0, "refused": 0}

    def listen(self, address: Address, ear: Callable[[bytes, Address], None]) -> None:
        self._ears[address] = ear

    def close(self, address: Address) -> None:
        self._ears.pop(address, None)

    def send(self, data: bytes, source: Address, target: Address, refused: Callable[[], None] | None = None) -> None:
        """Carry a datagram; `refused` is called when nobody listens there (ICMP port unreachable)."""
        self.counts["sent"] += 1
        copies = 1
        if self._rng.random() < self.weather.loss:
            copies = 0
            self.counts["lost"] += 1
        elif self._rng.random() < self.weather.duplication:
            copies = 2
            self.counts["duplicated"] += 1
        for _ in range(copies):
            self._clock.after(self._rng.uniform(*self.weather.delay), self._arrive, data, source, target, refused)

    def _arrive(self, data: bytes, source: Address, target: Address, refused: Callable[[], None] | None) -> None:
        ear = self._ears.get(target)
        if ear is not None:
            ear(data, source)
        else:
            self.counts["refused"] += 1
            if refused is not None:
                self._clock.after(self._rng.uniform(*self.weather.delay), refused)
