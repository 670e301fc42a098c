"""Keepalives from unknown ports: any of them may be a client of ours that is shown under another port (DESIGN 2.2).

When a node loses its conntrack entries, a packet of ours that leaves before the client's next one opens an entry of its
own. The client's next packet is then shown under another port, and nothing in a keepalive says whose it is. What finds
the client is the message that waits for it. A request without a body that got no answer goes to those too who turned up
at the same address since the client was last heard; whoever is not meant says 481 (RFC 3261 12.2.2), which is dropped.
A final response that was not acknowledged is ignored by whoever is not meant (18.1.2); with keys in its SDP (RFC 4568)
it goes to a stranger only when there is just one.
"""

from __future__ import annotations

from sipcore.uri import Address

LIFE = 40.0
"""Seconds: longer than the 25 between keepalives, and than a transaction lasts."""
MAX_STRANGERS = 2000
MAX_AT_ONE = 8
"""Of one address."""
MAX_SENT = 256


class Strangers:
    """Bounded tables; `LIFE` after their last packet strangers are forgotten."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[Address, tuple[float, float]]] = {}
        """Address -> source -> its first and its last packet."""
        self._order: dict[Address, None] = {}
        """All, the one that was silent for longest first."""
        self._sent: dict[bytes, None] = {}
        """Messages that were sent once already."""
        self.asked: dict[Address, float] = {}
        """Who was sent what may be another's -> when."""

    def came(self, source: Address, now: float) -> None:
        """A keepalive from a source that nobody knows."""
        there = self.hosts.setdefault(source[0], {})
        first, last = there.get(source, (now, now))
        if now - last >= LIFE:
            first = now
        elif source not in there and (len(there) >= MAX_AT_ONE or len(self._order) >= MAX_STRANGERS):
            self.forget(next(iter(there)) if len(there) >= MAX_AT_ONE else next(iter(self._order)))
            there = self.hosts.setdefault(source[0], {})
        there[source] = first, now
        self._order.pop(source, None)
        self._order[source] = None

    def forget(self, source: Address) -> None:
        """It is known now, or too many are there."""
        there = self.hosts.get(source[0])
        if there is not None and there.pop(source, None) is not None:
            del self._order[source]
            if not there:
                del self.hosts[source[0]]

    def asked_for(self, data: bytes, client: Address, since: float, now: float) -> list[Address]:
        """To whom else an unanswered message for a client goes that was last heard at `since`."""
        there = self.hosts.get(client[0])
        if there is None:
            return []
        response = data[:8] == b"SIP/2.0 "
        if data[8:9] == b"1" if response else data[-4:] != b"\r\n\r\n" or data[:4] in (b"ACK ", b"INVI"):
            return []
        if data not in self._sent:
            if len(self._sent) >= MAX_SENT:
                del self._sent[next(iter(self._sent))]
            self._sent[data] = None
            return []  # its answer may be on its way
        found = [source for source, (first, last) in there.items() if first > since and now - last < LIFE]
        if response:
            return found if len(found) == 1 or b"a=crypto:" not in data else []
        for source in found:
            if self.asked.pop(source, None) is None and len(self.asked) >= MAX_STRANGERS:
                del self.asked[next(iter(self.asked))]
            self.asked[source] = now
        return found

    def disowns(self, data: bytes, source: Address, now: float) -> bool:
        """Whether a response only says that its sender was not meant."""
        asked = self.asked.get(source)
        return asked is not None and now - asked < LIFE and data[8:9] != b"2"
