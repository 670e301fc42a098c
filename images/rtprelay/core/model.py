"""What a relay knows of a call: session, parties, and one leg for each media line of each party.

A *leg* is our end toward one party for one media line: the ports that face the party, what its SDP said, and where its
packets really come from. Two legs that are each other's `peer` exchange packets. No decisions here; `match` and `offer`
change these objects.
"""

from __future__ import annotations

from collections import deque
from math import inf

import msgspec

from rtprelay.core.events import Source
from rtprelay.core.gate import Gate
from sipcore.rtp import Mark, Reception
from sipcore.sdp import Origin

Quiet = tuple[float, tuple[int, ...]]
"""DESIGN 3.6: until when a source is quiet, seconds, and the SSRCs that it sent."""


class Interface(msgspec.Struct, frozen=True):
    """One address of this relay: `[NAME/]ADDRESS[!ADVERTISED]`."""

    name: str
    address: str
    advertised: str
    """What stands in SDP."""
    family: str
    """`IP4` or `IP6`."""


class Stream(Reception):
    """The RTP that comes from one leg's party, and where it goes. The packet path reads `out` and `target`."""

    __slots__ = ("kept", "news", "out", "quiet", "target")

    def __init__(self, rate: int = 8000) -> None:
        super().__init__(rate)
        self.out = 0
        """Handle of the port it leaves from."""
        self.target: Source = ("", 0)
        self.quiet: Quiet = (0.0, ())
        """Streams of earlier calls from the same source: they are not this call's (DESIGN 3.6)."""
        self.kept: Mark | None = None
        """What came before the restart; counts do not go on from it."""
        self.news = False
        """Whether its SSRC is another than the stored one."""

    @property
    def known(self) -> Mark | None:
        """What tells this stream from others, from now or from before the restart."""
        return self.mark or self.kept

    def has_ssrc(self, ssrc: int) -> bool:
        return self.ssrc == ssrc or (self.ssrc < 0 and self.kept is not None and self.kept.ssrc == ssrc)

    def continued_by(self, data: bytes, now: float) -> bool:
        """Whether a packet is a later one of this stream, wherever it comes from (RFC 3550 8.2)."""
        known = self.known
        return known is not None and known.continued_by(data, self.rate, now)

    def _jump(self, sequence: int, ssrc: int, now: float) -> bool:
        if ssrc in self.quiet[1] and now < self.quiet[0]:
            return False
        if not self.has_ssrc(ssrc):
            self.news = True
        return super()._jump(sequence, ssrc, now)


class Port:
    """One UDP socket of ours. Its tables are the core's; the packet path only reads `routes`."""

    __slots__ = (
        "beside",
        "by_ip",
        "coupled",
        "exact",
        "handle",
        "held",
        "interface",
        "learnt",
        "legs",
        "number",
        "quiet",
        "routes",
        "rtcp",
        "strangers",
        "unnamed",
    )

    def __init__(self, handle: int, interface: Interface, number: int, rtcp: bool) -> None:
        self.handle = handle
        self.beside = handle
        """Handle of the socket beside, where there is one: for what leaves before anything came (`gate`)."""
        self.interface = interface
        self.number = number
        self.rtcp = rtcp
        self.routes: dict[Source, Stream] = {}
        """Established streams: learnt source -> stream with somewhere to go."""
        self.learnt: dict[Source, Leg] = {}
        self.exact: dict[Source, Leg] = {}
        """By signalled ip:port (on an RTCP port: of RTCP)."""
        self.by_ip: dict[str, list[Leg]] = {}
        """By each IP that SDP or SIP named."""
        self.legs: dict[Leg, None] = {}
        self.unnamed = 0
        """Legs of `legs` of which no IP is known yet: their answer is on its way."""
        self.coupled: Port | None = None
        """The other port of a `Couple`."""
        self.held: dict[Source, deque[tuple[float, bytes]]] = {}
        self.quiet: dict[Source, Quiet] = {}
        """Sources of calls that ended."""
        self.strangers: dict[Source, tuple[float, float]] = {}
        """Sources that belong to no leg: when first and last heard, seconds."""

    def socket(self, gate: Gate, target: Source) -> int:
        """Handle that packets to this address, whose gate this is, leave from."""
        return self.handle if gate.at_port(target) else self.beside


class Pair(msgspec.Struct, eq=False):
    """RTP on an even port and RTCP on the next (RFC 3550 11)."""

    rtp: Port
    rtcp: Port

    @property
    def number(self) -> int:
        return self.rtp.number

    @property
    def interface(self) -> Interface:
        return self.rtp.interface


class Leg:
    """Our end toward one party for one media line."""

    __slots__ = (
        "active",
        "direction",
        "former",
        "former_until",
        "gate",
        "held",
        "identity",
        "index",
        "indexed",
        "is_rtp",
        "kept_alive",
        "kind",
        "learnt",
        "moved",
        "mux",
        "mux_offered",
        "named",
        "pair",
        "party",
        "payloads",
        "peer",
        "protocol",
        "remote",
        "remote_rtcp",
        "rtcp_bytes",
        "rtcp_gate",
        "rtcp_last",
        "rtcp_packets",
        "stream",
    )

    def __init__(self, party: Party, index: int, pair: Pair) -> None:
        self.party = party
        self.index = index
        self.pair = pair
        self.kind = b"audio"
        self.protocol = b"RTP/AVP"
        self.is_rtp = True
        self.active = True
        """False while the media line is rejected (port 0)."""
        self.remote: Source | None = None
        """Where the party's SDP wants RTP."""
        self.remote_rtcp: Source | None = None
        self.identity = False
        """Whether packets may come from exactly `remote`; not from the private address of a client behind NAT."""
        self.named: frozenset[str] = frozenset()
        """IPs that the party's SDP or SIP packets named; nobody else is learnt."""
        self.payloads: frozenset[int] = frozenset()
        self.direction = b"sendrecv"
        """Of the party's own SDP."""
        self.held = False
        """c=0.0.0.0: nothing is sent to the party."""
        self.mux = False
        """rtcp-mux agreed with this party."""
        self.mux_offered = False
        """By whichever side of this leg offered last."""
        self.learnt: Source | None = None
        self.former: Source | None = None
        """The source before the party moved; its late packets are not learnt until `former_until`."""
        self.former_until = 0.0
        self.moved = -inf
        """When it was last recognised at another source."""
        self.kept_alive = -inf
        """When it was last sent a keepalive."""
        self.gate = Gate()
        self.rtcp_gate = Gate()
        """Of the RTCP port; with rtcp-mux `gate` is for both."""
        self.peer: Leg | None = None
        self.indexed = False
        self.stream = Stream()
        self.rtcp_packets = 0
        self.rtcp_bytes = 0
        self.rtcp_last = 0.0

    @property
    def target(self) -> Source | None:
        """Where RTP to this party goes."""
        if self.held or not self.active:
            return None
        return self.learnt or self.remote

    @property
    def rtcp_target(self) -> Source | None:
        """Where RTCP to this party goes: as signalled, unless NAT moved it and we know only the RTP port there."""
        if self.held or not self.active:
            return None
        if self.mux:
            return self.learnt or self.remote
        if self.learnt and (self.remote_rtcp is None or self.remote_rtcp[0] != self.learnt[0]):
            return self.learnt[0], (self.learnt[1] + 1) & 0xFFFF
        return self.remote_rtcp

    @property
    def rtcp_way(self) -> tuple[Port, Gate]:
        """The port that RTCP to this party leaves from, and its gate."""
        return (self.pair.rtp, self.gate) if self.mux else (self.pair.rtcp, self.rtcp_gate)

    @property
    def used(self) -> float:
        """When something last went either way between the RTP port and this party; NATs have known it since then."""
        last = max(self.stream.last, self.kept_alive, self.rtcp_last if self.mux else 0.0)
        peer = self.peer
        if peer is None or self.target is None:
            return last
        return max(last, peer.stream.last, peer.rtcp_last if self.mux else 0.0)

    @property
    def muted(self) -> bool:
        """No RTP has to come from this party."""
        return self.held or self.direction in (b"recvonly", b"inactive")


class Party:
    """One participant: the offerer, or one answerer (each fork has its own tag)."""

    __slots__ = (
        "__weakref__",
        "branch",
        "created",
        "digest",
        "interface",
        "legs",
        "origin",
        "peer",
        "received",
        "session",
        "tag",
    )

    def __init__(self, session: Session, tag: bytes, branch: bytes, interface: Interface, created: float) -> None:
        self.session = session
        self.tag = tag
        """Empty until an answer names it."""
        self.branch = branch
        """via-branch of the offer that made it."""
        self.interface = interface
        self.legs: list[Leg | None] = []
        """One for each m= line; None for lines that never had a port, or are no UDP."""
        self.peer: Party | None = None
        self.received = ""
        """The IP that its SIP came from."""
        self.origin: Origin | None = None
        """The o= line toward this party, ours from the first SDP on (DESIGN 3.4)."""
        self.digest = b""
        """Of the last SDP that we made for it, o= aside."""
        self.created = created


class Session:
    """One Call-ID."""

    __slots__ = ("call_id", "created", "last_signal", "metadata", "parties", "restored", "stored", "watched")

    def __init__(self, call_id: bytes, created: float) -> None:
        self.call_id = call_id
        self.created = created
        """Seconds on the core's clock."""
        self.last_signal = created
        self.parties: list[Party] = []
        self.metadata = b""
        """Opaque; the proxies' own (DESIGN 2.9)."""
        self.restored = False
        self.stored = False
        """Whether the store has been told where it is."""
        self.watched = inf
        """When its timeouts are looked at next."""

    def by_tag(self, tag: bytes) -> Party | None:
        if not tag:
            return None
        for party in self.parties:
            if party.tag == tag:
                return party
        return None

    @property
    def answered(self) -> bool:
        return any(party.peer is not None and party.tag and party.peer.tag for party in self.parties)

    def legs(self) -> list[Leg]:
        return [leg for party in self.parties for leg in party.legs if leg is not None]
