"""The record of a relay's session (docs/decisions/0002): what its next incarnation needs to go on, on the same ports.

Stored under kind `S`. Counters are not in it: they start anew with the process. The pod's own address is not in it
either: another pod in the same slot has another, and the world knows only what is advertised.
"""

from __future__ import annotations

import msgspec

from sipcore.record import Record
from sipcore.rtp import Mark
from sipcore.sdp import Origin

KIND = b"S"

Source = tuple[str, int]


class LegRecord(msgspec.Struct, array_like=True):
    """Our end toward one party for one media line."""

    index: int
    """Number of the m= line, from 0."""
    address: str
    """What the interface that the ports are on is called in SDP."""
    number: int
    """RTP port; RTCP is the next."""
    kind: bytes = b"audio"
    protocol: bytes = b"RTP/AVP"
    is_rtp: bool = True
    active: bool = True
    held: bool = False
    direction: bytes = b"sendrecv"
    remote: Source | None = None
    remote_rtcp: Source | None = None
    identity: bool = False
    named: list[str] = []
    payloads: list[int] = []
    learnt: Source | None = None
    mux: bool = False
    mux_offered: bool = False
    peer: tuple[int, int] | None = None
    """(party, leg) that its packets go to, as positions in the record."""
    rate: int = 8000
    """Timestamp units per second."""
    stream: Mark | None = None
    """What its party sent when this was written; `at` is Unix time."""


class PartyRecord(msgspec.Struct, array_like=True):
    """One participant."""

    tag: bytes = b""
    branch: bytes = b""
    interface: tuple[str, str] = ("", "")
    """Name and advertised address."""
    received: str = ""
    origin: Origin | None = None
    """The o= line toward it (DESIGN 3.4)."""
    digest: bytes = b""
    peer: int = -1
    """Position of the party that it is connected to, -1 = none."""
    created: float = 0.0
    """Unix time, seconds."""
    connected: bool = True
    """False for a fork that has stepped back for another."""
    legs: list[LegRecord | None] = []


class SessionRecord(Record, kw_only=True):
    """One Call-ID at one relay."""

    call_id: bytes
    created: float
    """Unix time, seconds."""
    parties: list[PartyRecord]
    metadata: bytes = b""
    """Opaque, the proxies' own (DESIGN 2.9)."""
