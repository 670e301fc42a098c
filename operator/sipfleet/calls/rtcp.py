"""RTCP of a telephone: a sender report and a CNAME that names the call (RFC 3550 6.4.1 and 6.5.1)."""

from __future__ import annotations

import struct

INTERVAL = 5.0
"""Seconds between reports (RFC 3550 6.2)."""
_NTP_EPOCH = 2_208_988_800


def report(ssrc: int, cname: str, wall: float, sent: int, payload: int) -> bytes:
    """A compound packet: sender report without report blocks, then SDES. `wall` is Unix time in seconds."""
    seconds, fraction = divmod(wall + _NTP_EPOCH, 1)
    ntp = int(seconds) & 0xFFFFFFFF, int(fraction * (1 << 32))
    octets = sent * payload & 0xFFFFFFFF
    sender = struct.pack(">BBHIIIIII", 0x80, 200, 6, ssrc, *ntp, octets, sent, octets)
    chunk = struct.pack(">IBB", ssrc, 1, len(cname)) + cname.encode() + b"\0"
    chunk = chunk.ljust((len(chunk) + 3) // 4 * 4, b"\0")
    return sender + struct.pack(">BBH", 0x81, 202, len(chunk) // 4) + chunk


def cname_of(data: bytes) -> str | None:
    """The CNAME in a compound packet, None when there is none that can be read."""
    at = 0
    while at + 8 <= len(data):
        _, kind, words = struct.unpack_from(">BBH", data, at)
        if kind == 202 and at + 10 <= len(data) and data[at + 8] == 1:
            length = data[at + 9]
            return data[at + 10 : at + 10 + length].decode("ascii", "replace")
        at += 4 + 4 * words
    return None
