"""What happened, for people and programs: a bounded list of events as Kubernetes has them, and who listens."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

KEPT = 500

Type = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done, seen or refused."""

    time: float
    """Unix time."""
    type: Type
    reason: str
    """CamelCase, for programs."""
    object: str
    """`pod/demo-0`, `sipcluster/demo`, `store` or `cluster`."""
    message: str


class Events:
    """The last events, and the listeners of new ones."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.kept: deque[Event] = deque(maxlen=KEPT)
        self.listeners: list[Callable[[Event], None]] = []

    def add(self, reason: str, object: str, message: str, type: Type = "Normal") -> None:
        event = Event(self._clock(), type, reason, object, message)
        self.kept.append(event)
        for listener in self.listeners:
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more: no reason to end a cluster
                listener(event)

    def warn(self, reason: str, object: str, message: str) -> None:
        self.add(reason, object, message, "Warning")
