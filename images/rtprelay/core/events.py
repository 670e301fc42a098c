"""What goes into the relay core and what comes out of it (docs/decisions/0001); the edge acts in list order."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sipcore.config import RelayConfig
from sipcore.record import Lease
from sipcore.store import Command
from sipcore.store import StoreReply as StoreReply
from sipcore.store import StoreState as StoreState

Source = tuple[str, int]
"""IP address and port of a peer."""


class Ng(msgspec.Struct):
    """A datagram on the ng port."""

    data: bytes
    source: Source


class PortFailed(msgspec.Struct):
    """The edge could not open the port of an `OpenPort`."""

    handle: int
    reason: str


class Peers(msgspec.Struct):
    """The live leases of the pool, after each heartbeat."""

    leases: list[Lease]


class Configure(msgspec.Struct):
    """A configuration that changes only what can change in place: capacity and timeouts."""

    config: RelayConfig


class Cordon(msgspec.Struct):
    """No new sessions."""


class Uncordon(msgspec.Struct):
    """New sessions again."""


class Drain(msgspec.Struct):
    """No new sessions, for good; the edge ends the program when the core is empty."""


class Timer(msgspec.Struct):
    """`next_timer` is reached."""


Event = Ng | StoreReply | StoreState | PortFailed | Peers | Configure | Cordon | Uncordon | Drain | Timer


class SendNg(msgspec.Struct):
    data: bytes
    target: Source


class SendPacket(msgspec.Struct):
    """A packet that was held until an answer named its source, or a keepalive."""

    data: bytes
    handle: int
    target: Source


class OpenPort(msgspec.Struct):
    """Bind a UDP socket; answer `PortFailed` when that cannot be done, before anything else is fed.

    Number 0 is any that is free.
    """

    handle: int
    address: str
    number: int


class ClosePort(msgspec.Struct):
    handle: int


class Couple(msgspec.Struct):
    """All that comes to `one` is from `one_source` and leaves from `two` to `two_source`, and the other way round.

    An edge may connect() both sockets; until `Uncouple` no other source can matter on these two ports.
    """

    one: int
    one_source: Source
    two: int
    two_source: Source


class Uncouple(msgspec.Struct):
    one: int
    two: int


class Store(msgspec.Struct):
    """Commands for the store; without a tag nobody waits for the replies."""

    commands: Sequence[Command]
    tag: object = None


class Log(msgspec.Struct):
    level: str
    event: str
    call_id: str = ""
    fields: dict[str, object] = {}


Action = SendNg | SendPacket | OpenPort | ClosePort | Couple | Uncouple | Store | Log
