"""What a proxy core asks its edge to do, in the order of the list (docs/decisions/0001, DESIGN 2.4)."""

from __future__ import annotations

import msgspec

from sipcore.store import Command
from sipcore.uri import Address


class Send(msgspec.Struct):
    """A SIP datagram out of the socket of a listener."""

    data: bytes
    target: Address
    listener: int
    """From the number of listeners on: the socket beside one, at the same address with a port of its own (`flows`)."""


class SendHop(msgspec.Struct):
    """An internal datagram, over a connected socket so that an ICMP error is noticed."""

    data: bytes
    peer: Address


class SendNg(msgspec.Struct):
    """An ng command."""

    data: bytes
    relay: Address


class Store(msgspec.Struct):
    """Commands for the store. The reply is wanted when there is a tag."""

    commands: list[Command]
    tag: object = None


class Relays(msgspec.Struct):
    """The relays to keep a TCP connection to: all that are known, each time the list changes."""

    addresses: list[Address]


class LeaveSelection(msgspec.Struct):
    """Leave the SO_REUSEPORT groups of these listeners; go on reading what is queued."""

    listeners: list[int]


class JoinSelection(msgspec.Struct):
    """Be selected again, at these listeners."""

    listeners: list[int]


class Log(msgspec.Struct):
    """One line of the log."""

    level: str
    event: str
    call_id: bytes = b""
    fields: dict[str, object] = {}


Action = Send | SendHop | SendNg | Store | Relays | LeaveSelection | JoinSelection | Log
