"""Messages for clients whose holder is gone: they wait, briefly, for the client's next packet (DESIGN 2.2)."""

from __future__ import annotations

from sipcore.flow import Flow

MAX_PARKED = 20_000
MAX_OF_ONE = 32
"""Messages for one client. Every retransmission of a message is the same message."""
MAX_AGE = 32.0
"""Seconds: 64*T1, after which nobody waits for a message any more (RFC 3261 timers B, F and H)."""


class Parked:
    """A bounded queue for each client."""

    def __init__(self) -> None:
        self._waiting: dict[Flow, list[tuple[float, bytes]]] = {}
        self.count = 0
        """Messages that wait."""

    def add(self, flow: Flow, data: bytes, now: float) -> bool:
        """Keep a message; False when there is no room for it."""
        queue = self._waiting.get(flow)
        if queue is None:
            if self.count >= MAX_PARKED:
                return False
            queue = self._waiting[flow] = []
        elif any(data == waiting for _, waiting in queue):
            return True
        if len(queue) >= MAX_OF_ONE or self.count >= MAX_PARKED:
            return False
        queue.append((now, data))
        self.count += 1
        return True

    def take(self, flow: Flow, now: float) -> list[bytes]:
        """What waits for this client and is not too old, in its order; nothing waits afterwards."""
        queue = self._waiting.pop(flow, None)
        if queue is None:
            return []
        self.count -= len(queue)
        return [data for at, data in queue if now - at < MAX_AGE]

    def peek(self, flow: Flow) -> list[bytes]:
        """The same, and it goes on waiting."""
        return [data for _, data in self._waiting.get(flow, ())]

    def flows(self) -> list[Flow]:
        """The clients for which something waits."""
        return list(self._waiting)
