"""The internal hop: a raw SIP message, or a control message, from one proxy to another (docs/decisions/0002)."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from struct import Struct

import msgspec

from sipcore.keys import ClusterKey
from sipcore.uri import Address

VERSION = 1
MUST_OWN = 0x01
"""Flag: a new call that the peer must own."""
ARRIVAL = 0x02
"""Flag: two bytes stand before the message, the index of the proxy where it arrived."""
CONTROL = 0x04
"""Flag: a control message, not SIP."""
EMIT = 0x08
"""Flag: the peer sends this datagram from that listener to the address that stands for the source (DESIGN 2.2)."""
HOPS_SHIFT = 4
"""The upper half of the flags: how often the message was handed on."""
MAX_HOPS = 3

_HEADER = Struct("!2sBBBBH16s")
_MAC = 8
_START = _HEADER.size + _MAC


class Parcel(msgspec.Struct):
    """What came over a hop."""

    data: bytes
    source: Address
    listener: int
    flags: int
    arrival: int = 0
    """Index of the proxy where it arrived, 0 when it does not say."""

    @property
    def hops(self) -> int:
        return self.flags >> HOPS_SHIFT


def pack(key: ClusterKey, data: bytes, source: Address, listener: int, flags: int) -> bytes:
    """Header, MAC and body."""
    address = ip_address(source[0])
    wide = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
    header = _HEADER.pack(b"SF", VERSION, flags, listener, 0, source[1], wide)
    return header + key.hop_mac(header, data) + data


def unpack(key: ClusterKey, datagram: bytes) -> Parcel | None:
    """Take it apart; None when it is not from a proxy of this cluster."""
    if len(datagram) < _START or datagram[:2] != b"SF" or datagram[2] != VERSION:
        return None
    header, mac, data = datagram[: _HEADER.size], datagram[_HEADER.size : _START], datagram[_START:]
    if key.hop_mac(header, data) != mac:
        return None
    _, _, flags, listener, _, port, wide = _HEADER.unpack(header)
    address = IPv6Address(wide)
    arrival = 0
    if flags & ARRIVAL:
        arrival, data = int.from_bytes(data[:2], "big"), data[2:]
    return Parcel(data, (str(address.ipv4_mapped or address), port), listener, flags, arrival)
