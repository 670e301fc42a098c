"""The audio of one direction: packets that carry who sent them, and the meter that judges what arrives.

A payload of 160 bytes of G.711 (RFC 3551 4.5.14) begins with a sequence number of 32 bits and a tag (magic, run, call,
direction), so that a receiver knows at once that a packet is not its own. The meter is pure: times are passed in,
seconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PERIOD = 0.02
"""Seconds between packets."""
PAYLOAD = 160
SIZE = 12 + PAYLOAD
TAG_AT = 16
TAG_SIZE = 13
TO_CALLER, TO_CALLEE = 1, 2
_MAGIC = b"SFc1"
_TAG = struct.Struct(">4sIIB")
_PATCH = struct.Struct(">HIII")
_SEQUENCE = struct.Struct(">I")
_SILENCE = b"\xff"
LONGEST = 50 * 10_800
"""Packets in the longest call, three hours: a higher sequence number is not ours."""
NOTED = 0.06
"""A time between arrivals that is written down for the timeline, seconds."""
_MOST_NOTED = 1000


def tag(run: int, call: int, direction: int) -> bytes:
    """What identifies the packets of one direction of one call."""
    return _TAG.pack(_MAGIC, run, call, direction)


def packet(tag: bytes) -> bytearray:
    """A whole RTP packet (RFC 3550 5.1), to be patched by `patch` before each send."""
    head = struct.pack(">BBHII", 0x80, 0, 0, 0, 0) + bytes(4) + tag
    return bytearray(head.ljust(SIZE, _SILENCE))


def patch(packet: bytearray, sequence: int, ssrc: int) -> None:
    """Make it the packet of that sequence number."""
    _PATCH.pack_into(packet, 2, sequence & 0xFFFF, sequence * PAYLOAD & 0xFFFFFFFF, ssrc, sequence)


@dataclass(slots=True)
class Meter:
    """What one receiver has heard."""

    tag: bytes
    received: int = 0
    """Different packets of our own."""
    duplicates: int = 0
    foreign: int = 0
    """Packets of another call or of nobody we know."""
    reversed: int = 0
    """Packets of this call's other direction."""
    first_at: float = 0.0
    last_at: float = 0.0
    highest: int = -1
    longest: float = 0.0
    """Longest time between arrivals, seconds."""
    longest_at: float = 0.0
    """When that silence began."""
    silences: list[tuple[float, float]] = field(default_factory=list)
    """(from, to) of the times between arrivals above `noted`, the first 1000."""
    stranger: str = ""
    """What the first foreign packet said of itself."""
    noted: float = NOTED
    """A time between arrivals from this on is written down, seconds."""
    closed: bool = False
    _seen: bytearray = field(default_factory=lambda: bytearray(2048))

    def arrive(self, data: bytearray, size: int, now: float) -> None:
        """Take one datagram of `size` bytes at the start of `data`; an empty one is a keepalive (RFC 6263 4.1)."""
        if not size:
            return
        if size != SIZE or data[TAG_AT : TAG_AT + TAG_SIZE] != self.tag:
            self._foreign(bytes(data[:size]))
            return
        (sequence,) = _SEQUENCE.unpack_from(data, 12)
        if sequence >= len(self._seen) and not self._grow(sequence):
            self._foreign(bytes(data[:size]))
            return
        if self.closed:
            return
        if self._seen[sequence]:
            self.duplicates += 1
            return
        self._seen[sequence] = 1
        self.received += 1
        if sequence > self.highest:
            self.highest = sequence
        if self.last_at:
            self._silence(now)
        else:
            self.first_at = now
        self.last_at = now

    def close(self, now: float) -> None:
        """The BYE was sent: count the silence before it, and nothing that comes later but strangers."""
        if not self.closed:
            self.closed = True
            if self.last_at:
                self._silence(now)

    def lost(self) -> int:
        """Packets sent before the last one received that never came."""
        return self.highest + 1 - self.received

    def _silence(self, now: float) -> None:
        gap = now - self.last_at
        if gap > self.longest:
            self.longest, self.longest_at = gap, self.last_at
        if gap > self.noted and len(self.silences) < _MOST_NOTED:
            self.silences.append((self.last_at, now))

    def _grow(self, sequence: int) -> bool:
        if sequence >= LONGEST:
            return False
        self._seen.extend(bytes(sequence + 2048 - len(self._seen)))
        return True

    def _foreign(self, data: bytes) -> None:
        magic, run, call, direction = _TAG.unpack_from(data.ljust(TAG_AT + TAG_SIZE, b"\0"), TAG_AT)
        ours = _TAG.unpack(self.tag)
        if len(data) == SIZE and (magic, run, call) == ours[:3] and direction != ours[3]:
            self.reversed += 1
        else:
            self.foreign += 1
        if not self.stranger:
            self.stranger = (
                f"call {call} direction {direction}" if magic == _MAGIC else f"{len(data)} bytes {data[:12].hex()}"
            )
