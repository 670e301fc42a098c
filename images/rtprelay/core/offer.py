"""Offer and answer (RFC 3264): what a description changes in a session, and the description that goes on.

Ports stay those of the first offer for as long as the session lives. Forks that answered one offer share the ports
toward them; the one that answered last is connected, as its tag is the one that the proxy forwards.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import msgspec

from rtprelay.core.events import Action, Source
from rtprelay.core.match import FORMER_SECONDS, QUIET_SECONDS, Matcher
from rtprelay.core.model import Interface, Leg, Party, Session
from rtprelay.core.ports import LegWish, Pool, SharedPool, collides
from sipcore.errors import SipcoreError
from sipcore.rtp import clock_rate
from sipcore.sdp import Connection, Description, Media, MediaEdit, Origin, rewrite

MAX_MEDIA = 8
"""Media lines of one session; more are answered with an error."""

MAX_RATE = 1_000_000
"""Timestamp units per second."""


class RefusedError(SipcoreError):
    """A command that cannot be done; the text is the `error-reason`."""


class LoadLimitError(SipcoreError):
    """No port on which this leg could be told apart, or no room."""


class Wishes(msgspec.Struct):
    """The flags of a command that shape the description."""

    received: str = ""
    """The IP that the SIP message came from (`received-from`)."""
    family: str = ""
    """`address-family`: IP4 or IP6 toward the other side; empty: as it came."""
    direction: tuple[str, str] | None = None
    """Names of the interfaces toward the sender and toward the other side."""
    mux: frozenset[bytes] = frozenset()
    """`rtcp-mux`: offer, require, demux, accept, reject."""
    protocol: bytes = b""
    """`transport-protocol`."""
    trust_address: bool = True
    """Whether the address in SDP counts, or only that of the SIP message (`SIP-source-address`)."""


class Negotiator:
    """The offer/answer side of the core."""

    def __init__(self, interfaces: list[Interface], pools: list[Pool], matcher: Matcher, rng: Random) -> None:
        self._interfaces = interfaces
        self._pools = dict(zip(interfaces, pools, strict=True))
        self._matcher = matcher
        self._rng = rng

    def offer(
        self,
        session: Session,
        tags: tuple[bytes, bytes],
        branch: bytes,
        sdp: Description,
        wishes: Wishes,
        now: float,
        actions: list[Action],
    ) -> bytes:
        """Take in an offer; the description for the other side.

        Raises `RefusedError` or `LoadLimitError`; a session that was new is then to be ended.
        """
        check(sdp, wishes)
        near, far = wishes.direction or ("", "")
        family = _family(sdp)
        sender = session.by_tag(tags[0])
        if sender is None:
            sender = self._party(session, tags[0], b"", self._interface(near, family), now)
        other = session.by_tag(tags[1]) or self._other_side(session, sender, branch)
        if other is None:
            interface = self._interface(far or near, wishes.family or family)
            other = self._party(session, tags[1], branch, interface, now)
            other.peer = sender
        if sender.peer is None:
            sender.peer = other
        self._refuse_collisions(sender, sdp, wishes)
        self._open_legs(sender, other, sdp, wishes, now)
        self._describe(sender, sdp, wishes, now)
        self._connect((sender,), now, actions)
        edits: list[MediaEdit | None] = []
        for number, media in enumerate(sdp.media):
            leg, back = _leg(other, number), _leg(sender, number)
            if leg is None or back is None:
                edits.append(None if media.port else MediaEdit(0))
                continue
            back.mux_offered = media.rtcp_mux
            mux = (media.rtcp_mux and b"demux" not in wishes.mux) or bool(wishes.mux & {b"offer", b"require"})
            leg.mux_offered = mux
            edits.append(_edit(leg, media, mux, b"require" in wishes.mux, wishes.protocol or media.protocol))
        return self._print(other, sdp, edits)

    def answer(
        self,
        session: Session,
        tags: tuple[bytes, bytes],
        branch: bytes,
        sdp: Description,
        wishes: Wishes,
        now: float,
        actions: list[Action],
    ) -> bytes:
        """Take in the answer of the party `tags[1]` to the offer of `tags[0]`; the description for the offerer.

        Raises `RefusedError` or `LoadLimitError`; nothing has changed then.
        """
        check(sdp, wishes)
        offerer = session.by_tag(tags[0])
        if offerer is None:
            raise RefusedError("Unknown from-tag")
        answerer = self._answerer(session, offerer, tags[1], branch, now)
        self._refuse_collisions(answerer, sdp, wishes)
        answerer.tag = tags[1]
        answerer.peer, offerer.peer = offerer, answerer
        self._describe(answerer, sdp, wishes, now)
        edits: list[MediaEdit | None] = []
        for number, media in enumerate(sdp.media):
            leg, back = _leg(answerer, number), _leg(offerer, number)
            if leg is None or back is None:
                edits.append(None if media.port else MediaEdit(0))
                continue
            leg.peer, back.peer = back, leg
            leg.mux = leg.mux_offered and media.rtcp_mux
            back.mux = back.mux_offered and b"reject" not in wishes.mux and (leg.mux or bool(wishes.mux & {b"accept"}))
            back.active = leg.active
            edits.append(_edit(back, media, back.mux, back.mux, back.protocol))
        self._connect((offerer, answerer), now, actions)
        return self._print(offerer, sdp, edits)

    def remove(self, party: Party, now: float, actions: list[Action]) -> None:
        """Take one party out; its ports go when no fork shares them. Nothing of it refers to itself afterwards."""
        session = party.session
        session.parties.remove(party)
        for other in session.parties:
            if other.peer is party:
                other.peer = None
        kept = {id(leg.pair) for leg in session.legs()}
        for leg in party.legs:
            if leg is None:
                continue
            self._matcher.hush(leg, now)
            self._matcher.unindex(leg)
            peer, leg.peer = leg.peer, None
            if peer is not None and peer.peer is leg:
                peer.peer = None
                self._matcher.link(peer)
            if id(leg.pair) not in kept:
                self._pools[leg.pair.interface].release(leg.pair, now + QUIET_SECONDS, actions)
        party.legs, party.peer = [], None

    def _party(self, session: Session, tag: bytes, branch: bytes, interface: Interface, now: float) -> Party:
        party = Party(session, tag, branch, interface, now)
        session.parties.append(party)
        return party

    def _other_side(self, session: Session, sender: Party, branch: bytes) -> Party | None:
        """The other side of an earlier offer of this sender with this via-branch: it is offered again, on its ports."""
        if sender.peer is not None and sender.peer.peer is sender and sender.peer.branch == branch:
            return sender.peer
        for party in reversed(session.parties):
            if party.peer is sender and party.branch == branch:
                return party
        return None

    def _answerer(self, session: Session, offerer: Party, tag: bytes, branch: bytes, now: float) -> Party:
        known = session.by_tag(tag)
        if known is not None and known is not offerer:
            return known
        candidates = [p for p in session.parties if p.peer is offerer and p is not offerer]
        matching = [p for p in candidates if p.branch == branch] or candidates
        for party in matching:
            if not party.tag:
                return party
        if not matching:
            raise RefusedError("Answer without an offer")
        return self._fork(matching[-1], tag, now)

    def _fork(self, first: Party, tag: bytes, now: float) -> Party:
        """Another tag answers the same offer: a party of its own, on the same ports and with the same o= line state."""
        fork = self._party(first.session, tag, first.branch, first.interface, now)
        fork.peer, fork.origin, fork.digest = first.peer, first.origin, first.digest
        for leg in first.legs:
            if leg is None:
                fork.legs.append(None)
                continue
            twin = Leg(fork, leg.index, leg.pair)
            twin.kind, twin.protocol, twin.is_rtp = leg.kind, leg.protocol, leg.is_rtp
            twin.peer, twin.mux_offered = leg.peer, leg.mux_offered
            twin.stream.rate = leg.stream.rate
            fork.legs.append(twin)
        return fork

    def _open_legs(self, sender: Party, other: Party, sdp: Description, wishes: Wishes, now: float) -> None:
        """Ports for media lines that are new, toward both sides; what was there stays as it was when there is none."""
        received = wishes.received or sender.received
        for number, media in enumerate(sdp.media):
            if _leg(sender, number) is None and media.port and media.is_datagram:
                remote, named, identity = _address(sdp, media, received, wishes.trust_address)
                self._open(sender, number, media, LegWish(sender, remote, identity, named), now)
            leg = _leg(sender, number)
            if leg is None:
                continue
            back = _leg(other, number) or self._open(other, number, media, LegWish(other), now)
            back.peer = leg
            if leg.peer is None:
                leg.peer = back

    def _open(self, party: Party, number: int, media: Media, wish: LegWish, now: float) -> Leg:
        pair = self._pools[party.interface].take(wish, now)
        if pair is None:
            raise LoadLimitError(f"no free port on {party.interface.address} that tells this stream apart")
        leg = Leg(party, number, pair)
        leg.kind, leg.protocol, leg.is_rtp = media.kind, media.protocol, media.is_rtp
        while len(party.legs) <= number:
            party.legs.append(None)
        party.legs[number] = leg
        self._matcher.index(leg)
        return leg

    def _describe(self, party: Party, sdp: Description, wishes: Wishes, now: float) -> None:
        """Take in what the party's own description says of its legs."""
        party.received = wishes.received or party.received
        for number, media in enumerate(sdp.media):
            leg = _leg(party, number)
            if leg is None:
                continue
            remote, named, identity = _address(sdp, media, party.received, wishes.trust_address)
            self._matcher.unindex(leg)
            leg.active = media.port != 0
            leg.held = remote is None
            leg.direction = sdp.media_direction(media)
            leg.payloads = media.payload_types
            leg.is_rtp, leg.protocol = media.is_rtp, media.protocol
            leg.stream.rate = _rate(media)
            if remote is None:
                leg.named |= named
                continue  # on hold: where its packets come from, and where it is called back, stays
            _move(leg, remote, now)
            leg.remote, leg.named, leg.identity = remote, named, identity
            leg.remote_rtcp = sdp.rtcp_endpoint(media)

    def _connect(self, parties: tuple[Party, ...], now: float, actions: list[Action]) -> None:
        """Put the parties' legs where packets find them, then let go on what waited for that."""
        legs = [leg for party in parties for leg in party.legs if leg is not None]
        for leg in legs:
            for other in list(leg.pair.rtp.legs):
                if _siblings(leg, other):
                    self._matcher.unindex(other)
            self._matcher.index(leg)
        for leg in legs:
            self._matcher.forget(leg, now)
            if leg.peer is not None:
                self._matcher.forget(leg.peer, now)
        for leg in legs:
            self._matcher.link(leg)
            if leg.peer is not None:
                self._matcher.link(leg.peer)
        for leg in legs:
            self._matcher.release(leg.pair.rtp, now, actions)

    def _refuse_collisions(self, answerer: Party, sdp: Description, wishes: Wishes) -> None:
        received = wishes.received or answerer.received
        for number, media in enumerate(sdp.media):
            leg = _leg(answerer, number)
            if leg is None or not isinstance(self._pools[leg.pair.interface], SharedPool):
                continue
            remote, _, identity = _address(sdp, media, received, wishes.trust_address)
            if identity and collides(leg.pair.rtp, remote, answerer):
                raise LoadLimitError(f"{remote} is a party of another call on this port already")

    def _interface(self, name: str, family: str) -> Interface:
        """The interface of this name and family; as rtpengine does, the default for a name that nobody knows."""
        named = [i for i in self._interfaces if i.name == name] or self._interfaces
        for interface in [*named, *self._interfaces]:
            if interface.family == family:
                return interface
        return named[0]

    def _print(self, toward: Party, sdp: Description, edits: list[MediaEdit | None]) -> bytes:
        """The description with our o= line; its version goes up only when something else changed (RFC 3264 8)."""
        origin = toward.origin
        if origin is None:
            origin = toward.origin = Origin("-", self._rng.randrange(1 << 20, 1 << 31), 1)
        interface = toward.interface
        connection = Connection(interface.family, interface.advertised)
        body = rewrite(sdp, Origin(origin.username, origin.session_id, 0), connection, edits)
        digest = blake2b(body, digest_size=8).digest()
        if toward.digest and digest != toward.digest:
            origin.version += 1
        toward.digest = digest
        head = f"o={origin.username} {origin.session_id} ".encode()
        return body.replace(head + b"0 ", head + b"%d " % origin.version, 1)


def check(sdp: Description, wishes: Wishes) -> None:
    """Refuse what this relay cannot carry.

    Raises `RefusedError`.
    """
    if len(sdp.media) > MAX_MEDIA:
        raise RefusedError(f"{len(sdp.media)} media lines given, at most {MAX_MEDIA} allowed")
    if wishes.protocol:
        for media in sdp.media:
            if media.is_rtp and (b"SAVP" in media.protocol) != (b"SAVP" in wishes.protocol):
                given, wanted = media.protocol.decode(), wishes.protocol.decode("ascii", "replace")
                raise RefusedError(
                    f"transport-protocol {wanted} for {given}: SRTP is passed on, not made or taken away"
                )


def _leg(party: Party, number: int) -> Leg | None:
    return party.legs[number] if number < len(party.legs) else None


def _siblings(leg: Leg, other: Leg) -> bool:
    """Whether two legs are forks of one offer, of which only one can be connected."""
    one, two = leg.party, other.party
    return (
        leg is not other
        and one.session is two.session
        and leg.index == other.index
        and one.peer is two.peer
        and one.branch == two.branch
    )


def _rate(media: Media) -> int:
    """Timestamp units per second of its first payload type (RFC 8866 6.6, else RFC 3551)."""
    first = media.formats[0]
    for line in media.lines:
        if line.startswith(b"a=rtpmap:%b " % first) and (rate := line.split(b"/")[1:2]) and rate[0].isdigit():
            return max(1, min(int(rate[0]), MAX_RATE))
    return clock_rate(int(first)) if media.is_rtp and first.isdigit() else 8000


def _family(sdp: Description) -> str:
    for media in sdp.media:
        connection = media.connection or sdp.connection
        if media.port and connection:
            return connection.family
    return sdp.connection.family if sdp.connection else "IP4"


def _address(sdp: Description, media: Media, received: str, trust: bool) -> tuple[Source | None, frozenset[str], bool]:
    """(signalled ip:port or None on hold, IPs that were named, whether packets may come from exactly that ip:port)."""
    remote = sdp.endpoint(media)
    if remote is None or remote[0] in ("0.0.0.0", "::"):
        return None, frozenset((received,)) if received else frozenset(), False
    if not received or received == remote[0]:
        return remote, frozenset((remote[0],)), True
    if not trust:
        return (received, remote[1]), frozenset((received,)), True
    if _is_private(remote[0]) and not _is_private(received):
        # Behind NAT: many clients of many homes have this same address; nothing ever arrives from it.
        return remote, frozenset((received,)), False
    return remote, frozenset((remote[0], received)), True


def _is_private(ip: str) -> bool:
    """RFC 1918, RFC 6598, RFC 4193, link-local and loopback."""
    if ":" in ip:
        return ip.startswith(("fc", "fd", "fe8", "fe9", "fea", "feb")) or ip == "::1"
    first, second = (int(part) for part in ip.split(".", 2)[:2])
    return (
        first in (10, 127)
        or (first == 172 and 16 <= second <= 31)
        or (first, second) in ((192, 168), (169, 254))
        or (first == 100 and 64 <= second <= 127)
    )


def _move(leg: Leg, remote: Source, now: float) -> None:
    """The party signalled another address: what was learnt is over, and its late packets teach nothing for a while."""
    if leg.remote is not None and remote != leg.remote and leg.learnt is not None and leg.learnt != remote:
        leg.former, leg.former_until = leg.learnt, now + FORMER_SECONDS
        leg.learnt = None


def _edit(leg: Leg, media: Media, mux: bool, same_port: bool, protocol: bytes) -> MediaEdit:
    if not media.port:
        return MediaEdit(0)
    if not media.is_rtp:
        return MediaEdit(leg.pair.number)
    number = leg.pair.number
    return MediaEdit(number, number if same_port else number + 1, mux, protocol)
