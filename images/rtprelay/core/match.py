"""Whose packet is this? The order of matching of DESIGN 3.2, learning of sources, hold buffer and quiet time.

For each packet: a learnt ip:port; else the exact signalled ip:port; else the only leg on this port that waits for a
source from this IP; else it is held for at most 200 ms, 10 packets a source, until an answer names it. Nothing is
learnt from an IP that neither SDP nor SIP named, from RTCP, or with a payload type that was not negotiated. There is no
guess: a packet that two legs could claim goes to neither.
"""

from __future__ import annotations

from collections import deque

from rtprelay.core.events import Action, Couple, SendPacket, Source, Uncouple
from rtprelay.core.model import Leg, Port, Session
from rtprelay.core.ports import Handles, waits
from sipcore.rtp import is_rtcp, is_rtp

HOLD_SECONDS = 0.2
HOLD_PACKETS = 10
HOLD_SOURCES = 64
"""Sources held on one port; more are dropped."""

QUIET_SECONDS = 30.0
QUIET_SOURCES = 4096
"""Quiet sources remembered on one port."""

QUIET_SSRCS = 16
"""Streams remembered of one quiet source."""

FORMER_SECONDS = 2.0
"""After a party moved by SDP, late packets of its old source are not learnt for so long."""

Forward = tuple[bytes, int, Source]
"""(packet, handle of the port that it leaves from, where to)."""

DROPS = ("unknown", "held", "quiet", "payload", "no_target", "rtcp", "expired")
"""Why packets were dropped; `held` counts those that came to a full hold buffer."""


class Matcher:
    """The packet side of the core."""

    def __init__(self, handles: Handles, *, shared: bool) -> None:
        self._ports = handles.ports
        self._shared = shared
        self.couplings: list[Couple | Uncouple] = []
        """For the edge; without effect on who hears whom."""
        self.dropped = dict.fromkeys(DROPS, 0)
        self.rtcp_packets = 0
        self.changed: set[Session] = set()
        """Sessions that learnt a source since they were stored."""

    def packet(self, data: bytes, handle: int, source: Source, now: float) -> Forward | None:
        """Decide one packet; `now` in seconds. What an edge may shortcut stands in `Port.routes`."""
        port = self._ports.get(handle)
        if port is None:
            return None
        stream = port.routes.get(source)
        if stream is not None and stream.count(data, now):
            return data, stream.out, stream.target
        if port.rtcp or is_rtcp(data):
            return self._rtcp(data, port, source, now)
        return self._slow(data, port, source, now)

    def _slow(self, data: bytes, port: Port, source: Source, now: float) -> Forward | None:
        leg = port.learnt.get(source)
        if leg is None:
            if port.quiet and self._is_quiet(data, port, source, now):
                return self._drop("quiet")
            leg = port.exact.get(source) or self._waiting(port, source, now)
            if leg is None:
                return self._hold(data, port, source, now)
            if not _acceptable(leg, data):
                return self._pass(data, leg)
            self._learn(leg, source, now)
        if not leg.stream.count(data, now):
            return self._pass(data, leg)
        if source not in port.routes:
            return self._drop("no_target")
        return data, leg.stream.out, leg.stream.target

    def _waiting(self, port: Port, source: Source, now: float) -> Leg | None:
        """The only leg that waits for a source from this IP."""
        found = None
        for leg in port.by_ip.get(source[0], ()):
            if waits(leg) and not (leg.former == source and now < leg.former_until):
                if found is not None:
                    return None
                found = leg
        return found

    def _pass(self, data: bytes, leg: Leg) -> Forward | None:
        """A packet that is no RTP (T.38, DTLS) of a leg whose media line allows that; nothing is learnt from it."""
        peer = leg.peer
        if (
            (leg.is_rtp and is_rtp(data))
            or leg.protocol in (b"RTP/AVP", b"RTP/AVPF")
            or peer is None
            or peer.peer is not leg
            or not peer.target
        ):
            return self._drop("payload")
        return data, peer.pair.rtp.handle, peer.target

    def _is_quiet(self, data: bytes, port: Port, source: Source, now: float) -> bool:
        entry = port.quiet.get(source)
        if entry is None or entry[0] <= now:
            return False
        # The same phone may call again from the same port: a signalled ip:port with another SSRC is another stream.
        return not (source in port.exact and is_rtp(data) and int.from_bytes(data[8:12], "big") not in entry[1])

    def _learn(self, leg: Leg, source: Source, now: float) -> None:
        port = leg.pair.rtp
        if leg.learnt is not None:
            port.learnt.pop(leg.learnt, None)
            port.routes.pop(leg.learnt, None)
            self._uncouple(port)
        leg.learnt = source
        leg.stream.quiet = port.quiet.get(source, leg.stream.quiet)
        port.learnt[source] = leg
        self.link(leg)
        if leg.peer is not None:
            self.link(leg.peer)
        self.changed.add(leg.party.session)

    def _hold(self, data: bytes, port: Port, source: Source, now: float) -> Forward | None:
        if not port.legs:
            return self._drop("unknown")
        held = port.held.get(source)
        if held is None:
            if len(port.held) >= HOLD_SOURCES:
                self._expire(port, now)
            if len(port.held) >= HOLD_SOURCES:
                return self._drop("held")
            held = port.held[source] = deque()
        while held and (len(held) >= HOLD_PACKETS or now - held[0][0] > HOLD_SECONDS):
            held.popleft()
            self._drop("expired")
        held.append((now, data))
        return None

    def _expire(self, port: Port, now: float) -> None:
        for source in [s for s, held in port.held.items() if now - held[-1][0] > HOLD_SECONDS]:
            self.dropped["expired"] += len(port.held.pop(source))

    def release(self, port: Port, now: float, actions: list[Action]) -> None:
        """Something was named on this port: whatever can be told apart now goes on, in the order it came."""
        if not port.held:
            return
        self._expire(port, now)
        for source in list(port.held):
            leg = port.exact.get(source) or self._waiting(port, source, now)
            if leg is None:
                continue
            for at, data in port.held.pop(source):
                if now - at > HOLD_SECONDS:
                    self._drop("expired")
                elif forward := self.packet(data, port.handle, source, now):
                    actions.append(SendPacket(*forward))

    def _rtcp(self, data: bytes, port: Port, source: Source, now: float) -> Forward | None:
        leg = self._rtcp_leg(port, source) if is_rtcp(data) else None
        if leg is None or leg.peer is None or leg.peer.peer is not leg:
            return self._drop("rtcp")
        peer = leg.peer
        target = peer.rtcp_target
        leg.rtcp_packets += 1
        leg.rtcp_bytes += len(data)
        leg.rtcp_last = now
        self.rtcp_packets += 1
        if target is None:
            return self._drop("no_target")
        return data, (peer.pair.rtp if peer.mux else peer.pair.rtcp).handle, target

    def _rtcp_leg(self, port: Port, source: Source) -> Leg | None:
        """By RTP's learnt source, by what was signalled, or the only leg that knows this IP. RTCP teaches nothing."""
        if not port.rtcp:
            leg = port.learnt.get(source) or port.exact.get(source)
            return leg if leg is not None and leg.mux else None
        leg = port.exact.get(source)
        if leg is not None:
            return leg
        found = None
        for leg in port.by_ip.get(source[0], ()):
            if leg.learnt is not None and leg.learnt[0] == source[0] and leg.learnt[1] + 1 == source[1]:
                return leg
            if found is not None:
                found = None
                break
            found = leg
        return found

    def _drop(self, reason: str) -> Forward | None:
        self.dropped[reason] += 1
        return None

    def hush(self, leg: Leg, now: float) -> None:
        """The leg's call ended: its source reaches no other call on this port for the quiet time (DESIGN 3.6)."""
        quiet = leg.pair.rtp.quiet
        source = leg.learnt or leg.remote
        if source is None or (len(quiet) >= QUIET_SOURCES and source not in quiet):
            return
        until, earlier = quiet.get(source, (0.0, ()))
        ssrcs = (*(earlier if until > now else ()), leg.stream.ssrc)
        quiet[source] = (now + QUIET_SECONDS, ssrcs[-QUIET_SSRCS:])

    def sweep(self, now: float) -> None:
        """Forget what is over; every few seconds."""
        for port in self._ports.values():
            if port.held:
                self._expire(port, now)
            if port.quiet:
                port.quiet = {source: entry for source, entry in port.quiet.items() if entry[0] > now}

    def index(self, leg: Leg) -> None:
        """Make the leg findable on its ports, by what is known of it now."""
        if leg.indexed:
            self.unindex(leg)
        rtp, rtcp = leg.pair.rtp, leg.pair.rtcp
        rtp.legs[leg] = rtcp.legs[leg] = None
        if leg.active:
            if leg.remote is not None and leg.identity:
                rtp.exact[leg.remote] = leg
            if leg.remote_rtcp is not None and leg.identity:
                rtcp.exact[leg.remote_rtcp] = leg
            for ip in leg.named:
                rtp.by_ip.setdefault(ip, []).append(leg)
                rtcp.by_ip.setdefault(ip, []).append(leg)
            if leg.learnt is not None:
                rtp.learnt[leg.learnt] = leg
        leg.indexed = True

    def unindex(self, leg: Leg) -> None:
        """Take the leg out of its ports' tables; before anything that `index` reads is changed."""
        rtp, rtcp = leg.pair.rtp, leg.pair.rtcp
        _remove(rtp.exact, leg.remote, leg)
        _remove(rtcp.exact, leg.remote_rtcp, leg)
        if _remove(rtp.learnt, leg.learnt, leg) and leg.learnt is not None:
            rtp.routes.pop(leg.learnt, None)
            self._uncouple(rtp)
        for port in (rtp, rtcp):
            port.legs.pop(leg, None)
            for ip in leg.named:
                legs = port.by_ip.get(ip, [])
                if leg in legs:
                    legs.remove(leg)
                if not legs:
                    port.by_ip.pop(ip, None)
        leg.indexed = False

    def link(self, leg: Leg) -> None:
        """Decide where the leg's packets go, and say so where the packet path looks."""
        port, source, peer = leg.pair.rtp, leg.learnt, leg.peer
        if source is None or port.learnt.get(source) is not leg:
            return
        target = peer.target if peer is not None and peer.peer is leg else None
        if peer is None or target is None or not leg.is_rtp:
            port.routes.pop(source, None)
            self._uncouple(port)
            return
        stream, out = leg.stream, peer.pair.rtp
        if port.coupled is out and stream.target == target and stream.out == out.handle:
            return
        stream.out, stream.target = out.handle, target
        port.routes[source] = stream
        self._couple(leg, peer)

    def _couple(self, leg: Leg, peer: Leg) -> None:
        """Both ways established and both ports theirs alone: the edge may bind each to its one source."""
        one, two = leg.pair.rtp, peer.pair.rtp
        self._uncouple(one)
        self._uncouple(two)
        if self._shared or leg.learnt is None or peer.learnt is None or peer.learnt not in two.routes:
            return
        if _settled(leg) and _settled(peer) and peer.target == peer.learnt and leg.target == leg.learnt:
            one.coupled, two.coupled = two, one
            self.couplings.append(Couple(one.handle, leg.learnt, two.handle, peer.learnt))

    def _uncouple(self, port: Port) -> None:
        other = port.coupled
        if other is not None:
            port.coupled = other.coupled = None
            self.couplings.append(Uncouple(port.handle, other.handle))


def _settled(leg: Leg) -> bool:
    """Whether no other source can take the leg over without new signalling."""
    return leg.learnt == leg.remote or not leg.identity


def _acceptable(leg: Leg, data: bytes) -> bool:
    """Whether a leg may learn from this packet."""
    if not leg.is_rtp:
        return True
    if not is_rtp(data):
        return False
    payload_type = data[1] & 0x7F
    return payload_type in leg.payloads or (leg.peer is not None and payload_type in leg.peer.payloads)


def _remove(table: dict[Source, Leg], source: Source | None, leg: Leg) -> bool:
    if source is None or table.get(source) is not leg:
        return False
    del table[source]
    return True
