"""RTP and RTCP headers (RFC 3550) on bytes, and the receiver's statistics of RFC 3550 appendix A."""

from __future__ import annotations

import struct

import msgspec

from sipcore.errors import RtpError

VERSION = 2
HEADER_BYTES = 12
SEQUENCES = 1 << 16
MAX_DROPOUT = 3000
"""RFC 3550 A.1: a larger jump of the sequence number is a new start."""
MAX_MISORDER = 100

HEADER = struct.Struct("!BBHII")
"""First byte, marker and payload type, sequence number, timestamp, SSRC."""

_HEAD = struct.Struct("!HHII")

RTCP_FIRST, RTCP_LAST = 192, 223
"""Second byte of RTCP packets; RFC 5761 4 keeps RTP clear of it."""

SR, RR, SDES, BYE, APP = 200, 201, 202, 203, 204

BURST_PACKETS = 50
MOST_PACKETS = 200
"""A stream's sequence number goes up by no more than a burst and so many a second (5 ms of audio in each)."""

STEP_SECONDS = 2.0
"""How far a timestamp may be from where it should be."""

DRIFT = 0.001
"""Clocks of senders are worse than what crystals promise."""

_CLOCK_RATES = {10: 44100, 11: 44100} | dict.fromkeys((14, 25, 26, 28, 31, 32, 33, 34), 90000)
"""RFC 3551 table 4 and 5, where it is not 8000 Hz (G.722 is, on the wire)."""


class RtpPacket(msgspec.Struct):
    """One RTP packet (RFC 3550 5.1)."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes = b""
    marker: bool = False
    csrc: list[int] = []
    extension: tuple[int, bytes] | None = None
    """(profile, data), data a multiple of 4 bytes."""

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        """Read a packet; padding is taken off.

        Raises `RtpError`.
        """
        if len(data) < HEADER_BYTES:
            raise RtpError(f"RTP: {len(data)} bytes given, at least {HEADER_BYTES} expected")
        first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        if first >> 6 != VERSION:
            raise RtpError(f"RTP: version {first >> 6} given, {VERSION} expected")
        at = HEADER_BYTES + 4 * (first & 0x0F)
        if len(data) < at:
            raise RtpError(f"RTP: {first & 0x0F} CSRCs announced, {len(data)} bytes given")
        csrc = [int.from_bytes(data[i : i + 4], "big") for i in range(HEADER_BYTES, at, 4)]
        extension = None
        if first & 0x10:
            if len(data) < at + 4:
                raise RtpError("RTP: the header extension is cut off")
            profile, words = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
            extension = profile, data[at + 4 : at + 4 + 4 * words]
            at += 4 + 4 * words
            if len(data) < at:
                raise RtpError("RTP: the header extension is cut off")
        end = len(data)
        if first & 0x20:
            padding = data[-1]
            if not 0 < padding <= end - at:
                raise RtpError(f"RTP: padding of {padding} bytes in {end - at}")
            end -= padding
        return cls(second & 0x7F, sequence, timestamp, ssrc, data[at:end], bool(second & 0x80), csrc, extension)

    def __bytes__(self) -> bytes:
        first = VERSION << 6 | (0x10 if self.extension else 0) | len(self.csrc)
        second = self.payload_type | (0x80 if self.marker else 0)
        out = [HEADER.pack(first, second, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc)]
        out.extend(ssrc.to_bytes(4, "big") for ssrc in self.csrc)
        if self.extension:
            profile, data = self.extension
            out.append(profile.to_bytes(2, "big") + (len(data) // 4).to_bytes(2, "big") + data)
        out.append(self.payload)
        return b"".join(out)


def is_rtp(data: bytes) -> bool:
    """Whether this can be RTP: version 2, a whole header, no RTCP packet type."""
    return len(data) >= HEADER_BYTES and data[0] >> 6 == VERSION and not RTCP_FIRST <= data[1] <= RTCP_LAST


def is_rtcp(data: bytes) -> bool:
    """Whether this can be RTCP, alone on its port or multiplexed with RTP (RFC 5761 4)."""
    return len(data) >= 8 and data[0] >> 6 == VERSION and RTCP_FIRST <= data[1] <= RTCP_LAST


def rtcp_sender(data: bytes) -> int:
    """SSRC of who sent an RTCP packet that begins as it should, with SR or RR (RFC 3550 6.1); -1 for another."""
    return int.from_bytes(data[4:8], "big") if is_rtcp(data) and data[1] in (SR, RR) else -1


def clock_rate(payload_type: int) -> int:
    """Timestamp units per second of a static payload type (RFC 3551); 8000 where only SDP could tell."""
    return _CLOCK_RATES.get(payload_type, 8000)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """How far one RTP stream had come: what tells its next packets from those of any other (RFC 3550 8.2)."""

    ssrc: int
    sequence: int
    """Of the packet that comes next."""
    timestamp: int
    """Of the last packet."""
    at: float
    """When that one came, seconds."""

    def continued_by(self, data: bytes, rate: int, now: float) -> bool:
        """Whether this RTP packet, come `now` on the clock of `at`, is a later one of the same stream.

        SSRC, sequence number and timestamp all have to say so. Timestamps go with the clock (`rate` units a second), or
        with the stream: a sender that was silent may go on with where it stopped. A packet from before the mark is no
        proof: whoever repeats an old one has it as well.
        """
        if not is_rtp(data):
            return False
        _, sequence, timestamp, ssrc = _HEAD.unpack_from(data)
        if ssrc != self.ssrc:
            return False
        elapsed = max(0.0, now - self.at)
        if (sequence - self.sequence) & 0xFFFF > BURST_PACKETS + elapsed * MOST_PACKETS:
            return False
        step = (timestamp - self.timestamp) & 0xFFFFFFFF
        if step <= STEP_SECONDS * rate:
            return True
        ahead: int = ((step - int(elapsed * rate) + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        return abs(ahead) <= (STEP_SECONDS + elapsed * DRIFT) * rate


class Reception:
    """What came of one RTP source: counts, loss and jitter (RFC 3550 A.1, A.3, A.8)."""

    __slots__ = (
        "base",
        "before",
        "bytes",
        "cycles",
        "expected_next",
        "jitter",
        "last",
        "lost_before",
        "packets",
        "rate",
        "ssrc",
        "transit",
    )

    def __init__(self, rate: int = 8000) -> None:
        self.packets = 0
        """All packets, over all SSRCs."""
        self.bytes = 0
        """RTP header and payload."""
        self.last = 0.0
        """When the last one came, seconds on the caller's clock."""
        self.ssrc = -1
        self.rate = rate
        """Timestamp units per second."""
        self.jitter = 0.0
        """RFC 3550 A.8, in timestamp units."""
        self.transit = 0.0
        self.expected_next = 0
        self.cycles = 0
        self.base = 0
        self.before = 0
        """Packets before `base`, of other SSRCs."""
        self.lost_before = 0
        """Lost of other SSRCs."""

    def count(self, data: bytes, now: float) -> bool:
        """Take in one packet, `now` in seconds; False (and nothing counted) when it is no RTP.

        This runs for every packet of every call. The next sequence number of the known SSRC needs no other proof.
        """
        try:
            head, sequence, timestamp, ssrc = _HEAD.unpack_from(data)
        except struct.error:
            return False
        if sequence == self.expected_next and ssrc == self.ssrc:
            self.packets += 1
            self.bytes += len(data)
            self.last = now
            self.expected_next = (sequence + 1) & 0xFFFF
            transit = now * self.rate - timestamp
            delta = transit - self.transit
            self.transit = transit
            self.jitter += ((delta if delta >= 0.0 else -delta) - self.jitter) * 0.0625
            if sequence == 0xFFFF:
                self.cycles += SEQUENCES
            return True
        if head >> 14 != VERSION or RTCP_FIRST <= head & 0xFF <= RTCP_LAST or not self._jump(sequence, ssrc, now):
            return False
        self.packets += 1
        self.bytes += len(data)
        self.last = now
        self.transit = now * self.rate - timestamp
        return True

    def _jump(self, sequence: int, ssrc: int, now: float) -> bool:
        """Another source, a gap, a late packet or one that came twice (RFC 3550 A.1); False: not to be counted."""
        ahead = (sequence - self.expected_next) & 0xFFFF
        if ssrc != self.ssrc or MAX_DROPOUT <= ahead <= SEQUENCES - MAX_MISORDER:
            self.lost_before = self.lost
            self.ssrc, self.base, self.cycles, self.before = ssrc, sequence, 0, self.packets
        elif ahead >= MAX_DROPOUT:
            return True  # late or twice: it counts against the loss, no more
        elif sequence < self.expected_next:
            self.cycles += SEQUENCES
        self.expected_next = (sequence + 1) & 0xFFFF
        if sequence == 0xFFFF:
            self.cycles += SEQUENCES
        return True

    @property
    def lost(self) -> int:
        """Packets expected but not received; negative when some came twice (RFC 3550 A.3)."""
        if self.ssrc < 0:
            return 0
        received = self.packets - self.before
        return self.lost_before + self.cycles + self.expected_next - self.base - received

    @property
    def mark(self) -> Mark | None:
        """How far the present SSRC has come; None before the first packet."""
        if self.ssrc < 0:
            return None
        timestamp = round(self.last * self.rate - self.transit) & 0xFFFFFFFF
        return Mark(self.ssrc, self.expected_next, timestamp, self.last)

    @property
    def jitter_ms(self) -> float:
        return self.jitter * 1000.0 / self.rate
