"""A slot is the place of a pod: its name, its address, and the incarnation that is in it now.

What belongs here: the data, and what it says about itself. Starting and stopping is `sipfleet.local.pods`, deciding is
`sipfleet.plan`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sipcore.record import Lease
from sipfleet.local.backoff import Backoff
from sipfleet.local.children import Child
from sipfleet.plan.types import Phase
from sipfleet.setkey import SetKey


@dataclass(frozen=True, slots=True)
class Leave:
    """The pod in the slot was told to end, and what comes after it."""

    revision: str | None
    """Revision of the next pod; None: the slot goes too."""
    told: float
    """Loop time of the SIGTERM."""


@dataclass(slots=True, eq=False)
class Slot:
    """One place and who is in it."""

    owner: SetKey
    ordinal: int
    revision: str
    address: str
    name: str = ""
    uid: str = ""
    """Of the incarnation; another with each start."""
    child: Child | None = None
    phase: Phase = Phase.PENDING
    message: str = ""
    ready: bool = False
    serving: bool = False
    since: float = 0.0
    """Unix time of the last change of phase, ready or serving."""
    version: str | None = None
    """The release that it was started with; the lease says what really runs."""
    lease: Lease | None = None
    """The last one seen of this incarnation."""
    lease_alive: bool = False
    reported: Lease | None = None
    """What the pod itself said on its admin port while the store had no lease of it."""
    stored_sessions: int | None = None
    """A relay's sessions in the store, counted while no process answers for them."""
    leave: Leave | None = None
    evict: bool = False
    """Somebody asked for it to be drained and replaced."""
    skip_drain: bool = False
    """The switch SIPFLEET_BREAK=drain: a drain was asked for and is taken as done."""
    backoff: Backoff = field(default_factory=Backoff)
    retry: asyncio.TimerHandle | None = None
    """The next start, while it waits."""
    restarts: int = 0
    config: str = ""
    """The configuration that it runs with."""
    busy: set[str] = field(default_factory=set)
    """Requests to its admin port that are under way."""
    told: set[str] = field(default_factory=set)
    """Requests that this incarnation has answered."""
    strikes: int = 0
    """Liveness probes in a row that got no answer."""
    misses: int = 0
    """Probes of its service in a row that got none."""

    def __post_init__(self) -> None:
        self.name = f"{self.owner.name}-{self.ordinal}"

    @property
    def key(self) -> tuple[SetKey, int]:
        return self.owner, self.ordinal

    @property
    def lease_id(self) -> str:
        return f"{self.name}/{self.uid}"

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child is not None and self.child.alive else None

    @property
    def said(self) -> Lease | None:
        """The newest that is known of this incarnation's own words."""
        return self.reported or self.lease

    def become(self, phase: Phase, now: float, message: str = "") -> None:
        """Change the phase; `now` is Unix time."""
        if phase is not self.phase:
            self.phase, self.since = phase, now
        self.message = message

    def mark(self, now: float, *, ready: bool | None = None, serving: bool | None = None) -> None:
        """Note what a probe found; `now` is Unix time."""
        before = self.ready, self.serving
        if ready is not None:
            self.ready = ready
        if serving is not None:
            self.serving = serving
        if before != (self.ready, self.serving):
            self.since = now
