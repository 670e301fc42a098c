"""Whose packet is this? The order of matching of DESIGN 3.2, learning of sources, hold buffer and quiet time.

For each packet: a learnt ip:port; else the exact signalled ip:port; else the only leg on this port whose stream it
continues from another port of a named IP; else the only leg that waits for a source from this IP, unless the source
was there long before the leg, and only after 200 ms when the leg signalled another port and an answer is awaited that
may name this one; else it is held for at most 200 ms, 10 packets a source, until an answer names it.
Nothing is learnt from an IP that neither SDP nor SIP named, from RTCP, or with a payload type that was not negotiated.
There is no guess: a packet that two legs could claim goes to neither.
"""

from __future__ import annotations

from collections import deque

from rtprelay.core.events import Action, Couple, Log, SendPacket, Source, Uncouple
from rtprelay.core.gate import FORGOTTEN_SECONDS, Gate
from rtprelay.core.model import Leg, Port, Session
from rtprelay.core.ports import Handles, waits
from rtprelay.core.recognise import MOVE_SECONDS, continued, reporter
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
"""After a party moved, late packets of its old source are not learnt for so long."""

STRANGER_SECONDS = 1.0
"""A source that nobody knew for longer than this before a leg was there is another call's, whatever its IP."""

SILENT_SECONDS = 4.0
"""A coupled port that hears nothing for so long listens to other sources again: its party may have another port."""

KEEPALIVE_SECONDS = 10.0
"""A party that nothing was sent to and nothing came from for so long gets a keepalive with the next sweep: it comes
before the 15 s of RFC 6263 7 are over, and NATs and the node's connection tracking go on knowing the party."""

NEWS_MOST = 200
"""Sessions whose streams have new SSRCs, written in one round."""

Forward = tuple[bytes, int, Source]
"""(packet, handle of the port that it leaves from, where to)."""

DROPS = ("unknown", "held", "quiet", "payload", "no_target", "unheard", "late", "rtcp", "expired")
"""Why packets were dropped; `held` counts those that came to a full hold buffer, `unheard` those to a leg that has to
speak first, `late` those of a leg's former source."""


class Matcher:
    """The packet side of the core."""

    def __init__(self, handles: Handles, *, shared: bool, speak_first: bool = True) -> None:
        self._ports = handles.ports
        self._speak_first = speak_first
        # A connected socket hears no source but one; behind a Service a leg's source may change at any time.
        self._coupling = speak_first and not shared
        self.couplings: list[Couple | Uncouple | Log | SendPacket] = []
        """For the edge; without effect on who hears whom."""
        self.keepalives = 0
        """Keepalives sent."""
        self.moves = 0
        """Legs that were recognised at another source."""
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
        if handle != port.handle and not self._answers(port, source):
            return self._drop("unknown")
        if port.rtcp or is_rtcp(data):
            return self._rtcp(data, port, source, now)
        return self._slow(data, port, source, now)

    def _answers(self, port: Port, source: Source) -> bool:
        """Something came to the socket beside: whether from one that we spoke to from there; it goes on that way."""
        leg = port.learnt.get(source) or port.exact.get(source)
        gate = None if leg is None else leg.rtcp_gate if port.rtcp else leg.gate
        if gate is None or gate.unheard != source:
            return False
        gate.answered = source
        return True

    def _slow(self, data: bytes, port: Port, source: Source, now: float) -> Forward | None:
        leg = port.learnt.get(source)
        if leg is not None:
            self._hear(leg, source)
        else:
            if port.quiet and self._is_quiet(data, port, source, now):
                return self._drop("quiet")
            leg = port.exact.get(source)
            if leg is not None and _is_late(leg, data, source, now):
                return self._drop("late")
            if leg is None and (legs := continued(port, source, data, now)):
                return self._continued(data, legs, port, source, now)
            leg = leg or self._waiting(port, source, now)
            if leg is None:
                return self._hold(data, port, source, now)
            if not _acceptable(leg, data):
                self._hear(leg, source)
                return self._pass(data, leg, now)
            self._learn(leg, source, now)
        return self._count(data, leg, source, now)

    def _count(self, data: bytes, leg: Leg, source: Source, now: float) -> Forward | None:
        if not leg.stream.count(data, now):
            return self._pass(data, leg, now)
        if leg.party.session in self.changed:
            leg.stream.news = False  # it is about to be written
        routes = leg.pair.rtp.routes
        if source not in routes:
            peer = leg.peer
            target = peer.target if peer is not None and peer.peer is leg else None
            if peer is None or target is None:
                return self._drop("no_target")
            if not self._may_go(peer.gate, target, now):
                return self._drop("unheard")
            self.link(leg)
            if source not in routes:
                return self._drop("no_target")
        return data, leg.stream.out, leg.stream.target

    def _continued(self, data: bytes, legs: list[Leg], port: Port, source: Source, now: float) -> Forward | None:
        """The packet continues these legs' streams: if it is one leg alone, that leg has moved."""
        leg = legs[0]
        if len(legs) > 1 or now - leg.moved < MOVE_SECONDS:
            return self._hold(data, port, source, now)
        if not _acceptable(leg, data):
            return self._drop("payload")
        self.moves += 1
        leg.moved = now
        where = {"address": source[0], "port": source[1], "was": leg.learnt, "ssrc": data[8:12].hex()}
        call_id = leg.party.session.call_id.decode("utf-8", "replace")
        self.couplings.append(Log("info", "source_moved", call_id, where))
        self._learn(leg, source, now)
        return self._count(data, leg, source, now)

    def _waiting(self, port: Port, source: Source, now: float) -> Leg | None:
        """The only leg that waits for a source from this IP; nobody learns one that another has just left."""
        found = None
        for leg in port.by_ip.get(source[0], ()):
            if leg.former == source and now < leg.former_until:
                return None
            if waits(leg):
                if found is not None:
                    return None
                found = leg
        if found is None:
            return None
        known = port.strangers.get(source)
        if known is not None and now - known[1] < QUIET_SECONDS:
            first = known[0]
            if first < found.party.created - STRANGER_SECONDS:
                return None
        else:
            first = now
        # The leg signalled another port, and an answer that is on its way may name this one.
        if port.unnamed and found.identity and now - first < HOLD_SECONDS:
            return None
        return found

    def _pass(self, data: bytes, leg: Leg, now: float) -> Forward | None:
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
        if not self._may_go(peer.gate, peer.target, now):
            return self._drop("unheard")
        return data, peer.pair.rtp.socket(peer.gate, peer.target), peer.target

    def _may_go(self, gate: Gate, target: Source, now: float) -> bool:
        return self._speak_first or gate.ask(target, now)

    def _hear(self, leg: Leg, source: Source) -> None:
        """A packet of the leg came: the way back is open."""
        if self._speak_first or leg.gate.heard == source or (leg.learnt or leg.remote) != source:
            return
        leg.gate.heard = source
        self.link(leg)
        if leg.peer is not None:
            self.link(leg.peer)

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
            leg.former, leg.former_until = leg.learnt, now + FORMER_SECONDS
        port.strangers.pop(source, None)
        leg.learnt = leg.gate.heard = source
        leg.stream.quiet = port.quiet.get(source, leg.stream.quiet)
        port.learnt[source] = leg
        self.link(leg)
        if leg.peer is not None:
            self.link(leg.peer)
        self.changed.add(leg.party.session)

    def _hold(self, data: bytes, port: Port, source: Source, now: float) -> Forward | None:
        first, last = port.strangers.get(source, (now, now))
        if source in port.strangers or len(port.strangers) < QUIET_SOURCES:
            port.strangers[source] = (first if now - last < QUIET_SECONDS else now, now)
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
        leg = self._rtcp_leg(data, port, source) if is_rtcp(data) else None
        if leg is None or leg.peer is None or leg.peer.peer is not leg:
            return self._drop("rtcp")
        peer = leg.peer
        target = peer.rtcp_target
        leg.rtcp_packets += 1
        leg.rtcp_bytes += len(data)
        leg.rtcp_last = now
        self.rtcp_packets += 1
        if not port.rtcp:
            self._hear(leg, source)
        elif source == leg.rtcp_target:
            leg.rtcp_gate.heard = source
        if target is None:
            return self._drop("no_target")
        out, gate = peer.rtcp_way
        if not self._may_go(gate, target, now):
            return self._drop("unheard")
        return data, out.socket(gate, target), target

    def _rtcp_leg(self, data: bytes, port: Port, source: Source) -> Leg | None:
        """By RTP's learnt source, by what was signalled, or the only leg whose stream this party sends. That a leg is
        the only one that knows the IP proves nothing: a call that ended may have had it too. RTCP teaches nothing."""
        if not port.rtcp:
            leg = port.learnt.get(source) or port.exact.get(source)
            return leg if leg is not None and leg.mux else None
        leg = port.exact.get(source)
        if leg is not None:
            return leg
        legs = port.by_ip.get(source[0], [])
        for leg in legs:
            if leg.learnt is not None and leg.learnt[0] == source[0] and leg.learnt[1] + 1 == source[1]:
                return leg
        return reporter(legs, data)

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
        """Forget what is over, see to what nobody says; every few seconds."""
        for handle, port in self._ports.items():
            if handle != port.handle:
                continue  # the socket beside is the same port
            if port.held:
                self._expire(port, now)
            if port.quiet:
                port.quiet = {source: entry for source, entry in port.quiet.items() if entry[0] > now}
            if port.strangers:
                recent = now - QUIET_SECONDS
                port.strangers = {source: times for source, times in port.strangers.items() if times[1] > recent}
            for source, leg in port.learnt.items():
                stream = leg.stream
                if stream.news and len(self.changed) < NEWS_MOST:
                    stream.news = False
                    self.changed.add(leg.party.session)
                if now - leg.used >= KEEPALIVE_SECONDS:
                    self._keep_alive(leg, source, now)
                if self._coupling and (port.coupled is None) is (now - stream.last < SILENT_SECONDS):
                    self._recouple(leg, now)

    def _keep_alive(self, leg: Leg, source: Source, now: float) -> None:
        """Send an empty datagram (RFC 6263 4.1) to where the leg was learnt, whatever its media's direction; behind a
        Service only when this process has heard it."""
        if not (self._speak_first or leg.gate.heard == source):
            return
        leg.kept_alive = now
        self.keepalives += 1
        port = leg.pair.rtp
        self.couplings.append(SendPacket(b"", port.socket(leg.gate, source), source))

    def _recouple(self, leg: Leg, now: float) -> None:
        """A coupled leg is silent, or one that is not speaks."""
        port, peer = leg.pair.rtp, leg.peer
        if port.coupled is not None:
            self._uncouple(port)
        elif peer is not None and leg.learnt in port.routes and now - peer.stream.last < SILENT_SECONDS:
            self._couple(leg, peer)

    def forget(self, leg: Leg, now: float) -> None:
        """The leg is signalled again. After a long silence the node may have forgotten it: it has to speak first."""
        if self._speak_first:
            return
        rtcp = max(leg.rtcp_last, leg.peer.rtcp_last if leg.peer is not None else 0.0)
        if now - leg.used > FORGOTTEN_SECONDS:
            leg.gate = Gate()
        if now - rtcp > FORGOTTEN_SECONDS:
            leg.rtcp_gate = Gate()

    def index(self, leg: Leg) -> None:
        """Make the leg findable on its ports, by what is known of it now."""
        if leg.indexed:
            self.unindex(leg)
        rtp, rtcp = leg.pair.rtp, leg.pair.rtcp
        rtp.legs[leg] = rtcp.legs[leg] = None
        if not leg.named:
            rtp.unnamed += 1
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
        if leg.indexed and not leg.named:
            rtp.unnamed -= 1
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
        if peer is None or target is None or not leg.is_rtp or not self._flows(leg, peer, target):
            port.routes.pop(source, None)
            self._uncouple(port)
            return
        stream, out = leg.stream, peer.pair.rtp.socket(peer.gate, target)
        if port.coupled is peer.pair.rtp and stream.target == target and stream.out == out:
            return
        stream.out, stream.target = out, target
        port.routes[source] = stream
        self._couple(leg, peer)

    def _flows(self, leg: Leg, peer: Leg, target: Source) -> bool:
        """Whether the gates have nothing more to say: the leg was heard, and its peer may be sent to."""
        return self._speak_first or (leg.gate.heard == leg.learnt and peer.gate.is_open(target))

    def _couple(self, leg: Leg, peer: Leg) -> None:
        """Both ways established and both ports theirs alone: the edge may bind each to its one source."""
        one, two = leg.pair.rtp, peer.pair.rtp
        self._uncouple(one)
        self._uncouple(two)
        if not self._coupling or leg.learnt is None or peer.learnt is None or peer.learnt not in two.routes:
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
    """Whether no other source can take the leg over without new signalling; one that is restored may have moved."""
    restored = leg.stream.kept is not None and not leg.stream.packets
    return not restored and (leg.learnt == leg.remote or not leg.identity)


def _is_late(leg: Leg, data: bytes, source: Source, now: float) -> bool:
    """Whether a packet comes from where the leg was signalled but was sent before it was recognised elsewhere."""
    return (
        leg.learnt is not None
        and leg.former == source
        and now < leg.former_until
        and not leg.stream.continued_by(data, now)
    )


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
