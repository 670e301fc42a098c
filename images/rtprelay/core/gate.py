"""Who speaks first (docs/decisions/0007): whether we may send toward a leg before it has sent.

Behind a Service only an answer leaves from the Service's address. A packet of ours that comes before the client's
first opens an entry of its own in the node's connection tracking: it leaves from an address that the client does not
listen to, and the client's first packet, whose entry would collide with that one, gets another source port. So we wait,
but not for ever: who only listens (early media to a caller that sends none) gets what there is after a while, from a
socket beside the port, which is in nobody's way.
"""

from __future__ import annotations

from rtprelay.core.events import Source

WAIT_SECONDS = 2.0
"""From the first packet that could go there; then it goes, from the socket beside and whatever address that makes."""

FORGOTTEN_SECONDS = 30.0
"""Without packets either way after which connection tracking may have forgotten a leg (nf_conntrack_udp_timeout)."""


class Gate:
    """The way from one port of ours to one leg.

    Closed; then open to the address that the leg was heard from, or, when it stayed silent, to the one that we waited
    for. Another address is another way and closed again. A session that is restored begins with a closed gate: the node
    knows nothing of this pod.
    """

    __slots__ = ("answered", "heard", "since", "unheard", "wanted")

    def __init__(self) -> None:
        self.heard: Source | None = None
        """Where packets of the leg came from."""
        self.unheard: Source | None = None
        """Where we send although nothing came from there in time."""
        self.answered: Source | None = None
        """Of these the one that sends to the socket beside: it took the sender of what we sent for its peer."""
        self.wanted: Source | None = None
        """Where something waits to go, since `since`."""
        self.since = 0.0

    def is_open(self, target: Source) -> bool:
        """Whether packets go to this address."""
        return target in (self.heard, self.unheard)

    def at_port(self, target: Source) -> bool:
        """Whether packets to this address leave from the port itself, and not from the socket beside it."""
        return target == self.heard and target != self.answered

    def ask(self, target: Source, now: float) -> bool:
        """Whether this packet may go, `now` in seconds; the first that may not starts the wait."""
        if self.is_open(target):
            return True
        if self.wanted != target:
            self.wanted, self.since = target, now
        if now - self.since < WAIT_SECONDS:
            return False
        self.unheard = target
        return True
