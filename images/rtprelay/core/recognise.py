"""A party whose packets come from another port is recognised by its stream (RFC 3550 8.2).

NAT in front of a client, or the connection tracking of the node that we run on, may give the same socket another port
in mid-call. The IP must be one that SDP or SIP named; SSRC, sequence number and timestamp must say that this is what
the leg would have sent next. All legs that this is true of are named: with two of them nobody knows, and nobody learns.
"""

from __future__ import annotations

from collections.abc import Sequence

from rtprelay.core.events import Source
from rtprelay.core.model import Leg, Port
from sipcore.rtp import is_rtp, rtcp_sender

MOVE_SECONDS = 0.1
"""A leg moves no more often. While a node's entries are flushed one that was just made may go too, so the same party
can turn up at a second port milliseconds after the first: what it says until it may move again is not heard."""


def continued(port: Port, source: Source, data: bytes, now: float) -> list[Leg]:
    """The established legs on this port whose stream this packet of an unknown source continues."""
    if not is_rtp(data):
        return []
    ssrc = int.from_bytes(data[8:12], "big")
    return [
        leg
        for leg in port.by_ip.get(source[0], ())
        if leg.learnt is not None and leg.stream.has_ssrc(ssrc) and leg.stream.continued_by(data, now)
    ]


def reporter(legs: Sequence[Leg], data: bytes) -> Leg | None:
    """The only leg whose stream has the SSRC that sent this report.

    That holds for this packet and teaches nothing (DESIGN 3.2): a report has no sequence number that would prove it
    fresh, and where reports go is worth less than the harm that a forged one could do. Reports to a leg go on going
    where it signalled.
    """
    ssrc = rtcp_sender(data)
    found = [leg for leg in legs if ssrc >= 0 and leg.stream.has_ssrc(ssrc)]
    return found[0] if len(found) == 1 else None
