"""What happens to a proxy core (docs/decisions/0001). Events are data; time comes beside them into `feed`."""

from __future__ import annotations

import msgspec

from sipcore.config import ProxyConfig
from sipcore.store import StoreReply as StoreReply
from sipcore.store import StoreState as StoreState
from sipcore.uri import Address


class Datagram(msgspec.Struct):
    """A SIP datagram on a listener."""

    data: bytes
    source: Address
    listener: int = 0
    """Numbered as in `actions.Send`."""


class Hop(msgspec.Struct):
    """A datagram on the internal port, with its header."""

    data: bytes


class PeerDown(msgspec.Struct):
    """ICMP error on the connected socket to the peer at this internal address: dead now."""

    address: Address


class NgReply(msgspec.Struct):
    """A datagram from the ng port of a relay."""

    relay: Address
    data: bytes


class RelayState(msgspec.Struct):
    """The TCP connection to a relay's ng port came up, or was reset (DESIGN 3.5)."""

    relay: Address
    up: bool


class TargetError(msgspec.Struct):
    """ICMP error for a target. `data` is what the kernel still has of the datagram, it may be cut."""

    address: Address
    listener: int = 0
    data: bytes = b""


class Configure(msgspec.Struct):
    """Domains and routes change in place."""

    config: ProxyConfig


class Cordon(msgspec.Struct):
    """No new calls here: they are handed to peers with room."""


class Uncordon(msgspec.Struct):
    """New calls again; also ends a drain."""


class Drain(msgspec.Struct):
    """Cordon, leave the selection, hand over what is owned."""


class Stop(msgspec.Struct):
    """The program ends now: whatever others wait for us with may stop waiting."""


class Timer(msgspec.Struct):
    """`next_timer()` is reached."""


Event = (
    Datagram
    | Hop
    | PeerDown
    | NgReply
    | RelayState
    | StoreReply
    | StoreState
    | TargetError
    | Configure
    | Cordon
    | Uncordon
    | Drain
    | Stop
    | Timer
)
