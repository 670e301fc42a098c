"""Everything that affects the state of a transaction: RFC 3261 figures 5 to 8 with RFC 6026, as tables.

Theory of operation. A transaction is one integer, its state. An event is an integer too. `TABLE[state][event]` is
(next state, actions), actions being flags that the holder carries out. What is not in a figure is illegal: the state
stays and nothing is done (`IGNORE`). There are no timers here: the holder starts those that an action names, and feeds
their expiry back as an event. Which timer is how long stands in `durations`.

The four machines share the names of states, because the RFC does; each has its own table. "TU" is the transaction
user, here the proxy core (RFC 3261 16.6 ff.).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec


class State(IntEnum):
    """The states of all four machines."""

    TRYING = 0
    """CALLING in figure 5."""
    PROCEEDING = 1
    COMPLETED = 2
    CONFIRMED = 3
    ACCEPTED = 4
    """RFC 6026."""
    TERMINATED = 5


class Event(IntEnum):
    """What a message, the TU or a timer brings. Timers stand under the letter that is the last to use them."""

    REQUEST = 0
    """Server: the request again."""
    ACK = 1
    """INVITE server: the ACK."""
    PROVISIONAL = 2
    """1xx: from the wire in a client transaction, from the TU in a server transaction."""
    SUCCESS = 3
    """2xx."""
    FAILURE = 4
    """300 to 699."""
    RETRANSMIT = 5
    """Timer A, E or G."""
    TIMEOUT = 6
    """Timer B, F or H."""
    LINGER = 7
    """Timer D, I, J, K, L or M."""
    TRANSPORT_ERROR = 8


class Do(IntFlag):
    """What the holder does on a transition, lowest first."""

    SEND = 1
    """Server: send the response that the TU passed. Client: send the ACK of a non-2xx (RFC 3261 17.1.1.3)."""
    RESEND = 2
    """Send again what was sent last."""
    TO_TU = 4
    """The message (or the time-out, or the error) concerns the TU."""
    RETRANSMIT = 8
    """Start (again) timer A, E or G, with its next interval."""
    TIMEOUT = 16
    """Start timer H."""
    LINGER = 32
    """Start the timer that ends this state: D, I, J, K, L or M."""
    FREE = 64
    """The transaction is over: forget it."""


Transition = tuple[int, int]
Table = tuple[tuple[Transition, ...], ...]

S, E = State, Event
STATES, EVENTS = len(State), len(Event)


def _table(transitions: dict[tuple[State, Event], tuple[State, Do]]) -> Table:
    """Fill up with what is illegal: stay, do nothing."""
    return tuple(
        tuple(
            (int(transitions[s, e][0]), int(transitions[s, e][1])) if (s, e) in transitions else (int(s), 0)
            for e in Event
        )
        for s in State
    )


CLIENT_INVITE = _table(
    {
        (S.TRYING, E.RETRANSMIT): (S.TRYING, Do.RESEND | Do.RETRANSMIT),
        (S.TRYING, E.TIMEOUT): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.TRYING, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.TRYING, E.PROVISIONAL): (S.PROCEEDING, Do.TO_TU),
        (S.TRYING, E.SUCCESS): (S.ACCEPTED, Do.TO_TU | Do.LINGER),
        (S.TRYING, E.FAILURE): (S.COMPLETED, Do.SEND | Do.TO_TU | Do.LINGER),
        (S.PROCEEDING, E.PROVISIONAL): (S.PROCEEDING, Do.TO_TU),
        (S.PROCEEDING, E.SUCCESS): (S.ACCEPTED, Do.TO_TU | Do.LINGER),
        (S.PROCEEDING, E.FAILURE): (S.COMPLETED, Do.SEND | Do.TO_TU | Do.LINGER),
        (S.ACCEPTED, E.SUCCESS): (S.ACCEPTED, Do.TO_TU),
        (S.ACCEPTED, E.LINGER): (S.TERMINATED, Do.FREE),
        (S.COMPLETED, E.FAILURE): (S.COMPLETED, Do.RESEND),
        (S.COMPLETED, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.COMPLETED, E.LINGER): (S.TERMINATED, Do.FREE),
    }
)
"""RFC 3261 figure 5 with RFC 6026 figure 1: timers A, B, D, M. In COMPLETED what was sent last is the ACK."""

CLIENT_OTHER = _table(
    {
        (S.TRYING, E.RETRANSMIT): (S.TRYING, Do.RESEND | Do.RETRANSMIT),
        (S.TRYING, E.TIMEOUT): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.TRYING, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.TRYING, E.PROVISIONAL): (S.PROCEEDING, Do.TO_TU),
        (S.TRYING, E.SUCCESS): (S.COMPLETED, Do.TO_TU | Do.LINGER),
        (S.TRYING, E.FAILURE): (S.COMPLETED, Do.TO_TU | Do.LINGER),
        (S.PROCEEDING, E.RETRANSMIT): (S.PROCEEDING, Do.RESEND | Do.RETRANSMIT),
        (S.PROCEEDING, E.TIMEOUT): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.PROCEEDING, E.PROVISIONAL): (S.PROCEEDING, Do.TO_TU),
        (S.PROCEEDING, E.SUCCESS): (S.COMPLETED, Do.TO_TU | Do.LINGER),
        (S.PROCEEDING, E.FAILURE): (S.COMPLETED, Do.TO_TU | Do.LINGER),
        (S.COMPLETED, E.LINGER): (S.TERMINATED, Do.FREE),
    }
)
"""RFC 3261 figure 6: timers E, F, K."""

SERVER_INVITE = _table(
    {
        (S.PROCEEDING, E.REQUEST): (S.PROCEEDING, Do.RESEND),
        (S.PROCEEDING, E.PROVISIONAL): (S.PROCEEDING, Do.SEND),
        (S.PROCEEDING, E.SUCCESS): (S.ACCEPTED, Do.SEND | Do.LINGER),
        (S.PROCEEDING, E.FAILURE): (S.COMPLETED, Do.SEND | Do.RETRANSMIT | Do.TIMEOUT),
        (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.ACCEPTED, E.SUCCESS): (S.ACCEPTED, Do.SEND),
        (S.ACCEPTED, E.ACK): (S.ACCEPTED, Do.TO_TU),
        (S.ACCEPTED, E.TRANSPORT_ERROR): (S.ACCEPTED, Do.TO_TU),
        (S.ACCEPTED, E.LINGER): (S.TERMINATED, Do.FREE),
        (S.COMPLETED, E.REQUEST): (S.COMPLETED, Do.RESEND),
        (S.COMPLETED, E.RETRANSMIT): (S.COMPLETED, Do.RESEND | Do.RETRANSMIT),
        (S.COMPLETED, E.ACK): (S.CONFIRMED, Do.LINGER),
        (S.COMPLETED, E.TIMEOUT): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.COMPLETED, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.CONFIRMED, E.LINGER): (S.TERMINATED, Do.FREE),
    }
)
"""RFC 3261 figure 7 with RFC 6026 figure 2: timers G, H, I, L. Begins in PROCEEDING; ACCEPTED absorbs the request."""

SERVER_OTHER = _table(
    {
        (S.TRYING, E.PROVISIONAL): (S.PROCEEDING, Do.SEND),
        (S.TRYING, E.SUCCESS): (S.COMPLETED, Do.SEND | Do.LINGER),
        (S.TRYING, E.FAILURE): (S.COMPLETED, Do.SEND | Do.LINGER),
        (S.PROCEEDING, E.REQUEST): (S.PROCEEDING, Do.RESEND),
        (S.PROCEEDING, E.PROVISIONAL): (S.PROCEEDING, Do.SEND),
        (S.PROCEEDING, E.SUCCESS): (S.COMPLETED, Do.SEND | Do.LINGER),
        (S.PROCEEDING, E.FAILURE): (S.COMPLETED, Do.SEND | Do.LINGER),
        (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.COMPLETED, E.REQUEST): (S.COMPLETED, Do.RESEND),
        (S.COMPLETED, E.TRANSPORT_ERROR): (S.TERMINATED, Do.TO_TU | Do.FREE),
        (S.COMPLETED, E.LINGER): (S.TERMINATED, Do.FREE),
    }
)
"""RFC 3261 figure 8: timer J. Begins in TRYING, where a retransmission is discarded."""

CLIENT = (CLIENT_OTHER, CLIENT_INVITE)
SERVER = (SERVER_OTHER, SERVER_INVITE)
"""By `int(method is INVITE)`."""


class Durations(msgspec.Struct, frozen=True):
    """Timers over UDP in seconds (RFC 3261 table 4, RFC 6026)."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def timeout(self) -> float:
        """B, F, H, and D, J, L, M: 64*T1 (timer D must be at least 32 s with T1 = 500 ms)."""
        return 64 * self.t1

    @property
    def linger(self) -> float:
        """I, K."""
        return self.t4

    def next_interval(self, interval: float, invite_client: bool) -> float:
        """Timer A doubles without end (17.1.1.2), E and G up to T2 (17.1.2.2, 17.2.1)."""
        return interval * 2 if invite_client else min(interval * 2, self.t2)


def event_of(status: int) -> int:
    """The event that a response of this status is."""
    return 2 if status < 200 else 3 if status < 300 else 4
