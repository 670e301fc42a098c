"""The relay's lease: what it says of itself once a second (DESIGN 2.7, 4.1)."""

from __future__ import annotations

from rtprelay.core import RelayCore
from rtprelay.link import SILENCE
from sipcore import __version__
from sipcore.lease import INTERVAL, LeaseKeeper
from sipcore.record import Lease
from sipcore.resp import Value
from sipcore.store import Command, Keys


class LeaseBeat(LeaseKeeper):
    """`sipcore.lease.LeaseKeeper` with the core's numbers filled in, and when the next beat is due."""

    def __init__(self, core: RelayCore, address: tuple[str, int], started: float) -> None:
        pod = core.config.pod
        lease = Lease(
            kind="relay",
            pod=pod.name,
            uid=pod.uid,
            set=pod.set,
            ordinal=pod.slot,
            version=__version__,
            revision=pod.revision,
            address=address,
            started=started,
        )
        super().__init__(Keys(pod.namespace, pod.set), lease)
        self._core = core
        self._ready = False
        self._asked: float | None = None
        self.next_at = 0.0

    def due(self, now: float) -> Command | None:
        """The heartbeat, when it is time for one: every second, and at once when readiness changes."""
        core = self._core
        if now < self.next_at and core.ready == self._ready:
            return None
        self._ready = core.ready
        self.next_at = now + INTERVAL
        self._asked = self._asked or now
        lease = self.lease
        lease.capacity, lease.active = core.config.capacity, len(core.sessions)
        lease.cordoned, lease.draining, lease.ready, lease.empty = core.cordoned, core.draining, core.ready, core.empty
        return self.heartbeat()

    def hurry(self) -> None:
        """Something that others must know has changed."""
        self.next_at = 0.0

    def answered(self, reply: Value, sent: float) -> None:
        self._asked = None
        before = self.lease.index
        super().answered(reply, sent)
        if self.lease.index != before:
            self.hurry()  # proxies know a relay by the index that stands in its lease

    def store_changed(self, available: bool, now: float) -> None:
        self._asked = None
        self.next_at = 0.0
        super().store_changed(available, now)

    def silent(self, now: float) -> bool:
        """Whether the store owes an answer for too long."""
        if self._asked is None or now - self._asked < SILENCE:
            return False
        self._asked = None
        return True
