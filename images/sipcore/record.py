"""The records that proxies, relays and the operator hand to one another (docs/decisions/0002).

A record is data: no callbacks, one docstring a field, the major version first. New fields are appended with a default.
Who owns a dialog, session or early record, and its epoch (one more with each change of owner), stand only in the header
of the stored value, where a script can compare them.
"""

from __future__ import annotations

from struct import Struct
from typing import TypeVar

import msgspec

from sipcore.errors import RecordError, RecordVersionError

MAJOR = 1

_HEADER = Struct("!cBHI")
HEADER_BYTES = _HEADER.size


class Record(msgspec.Struct, array_like=True, kw_only=True):
    """Base of all records: a msgpack array whose first element is the major version."""

    v: int = MAJOR


class Branch(msgspec.Struct, array_like=True):
    """One client transaction of a forwarded INVITE."""

    branch: bytes
    """The branch of our Via, with its magic cookie."""
    uri: bytes
    """Request-URI that was sent."""
    host: str
    port: int
    status: int = 0
    """Last status received, 0 = none."""


class Party(msgspec.Struct, array_like=True):
    """What a dialog knows of one side (RFC 3261 12; DESIGN 3.4)."""

    tag: bytes = b""
    uri: bytes = b""
    target: bytes = b""
    """Remote target: the URI of the last Contact."""
    contact: bytes = b""
    """The last Contact, raw."""
    routes: list[bytes] = []
    """Route set toward this side, ours left out."""
    source: tuple[str, int] = ("", 0)
    """Where its last request or response came from."""
    listener: int = 0
    flow: int = 0
    allow: bytes = b""
    supported: bytes = b""
    sdp: bytes = b""
    """Last SDP that this side sent."""
    cseq: int = 0
    """Highest CSeq number that it used."""
    nat: bool = False
    """Its packets do not come from the address that it calls its own: requests go to `source` (RFC 3581)."""


class CseqOffset(msgspec.Struct, array_like=True):
    """From CSeq `start` on, requests toward the peer carry number + offset (DESIGN 3.4)."""

    start: int
    offset: int


class EarlyRecord(Record, kw_only=True):
    """An INVITE that has no final response yet; whoever finds it can forward responses and CANCEL (DESIGN 2.4)."""

    call_id: bytes
    caller_tag: bytes
    cseq: int
    vias: bytes
    """All Via lines of the received INVITE as they stood, CRLF ended, received and rport filled in."""
    source: tuple[str, int]
    listener: int
    flow: int = 0
    branches: list[Branch] = []
    relay: int = 0
    """Index of the relay, 0 = none."""
    relay_address: tuple[str, int] | None = None
    """ng address of the relay."""
    via_branch: bytes = b""
    """The via-branch that the relay knows the offer by."""
    started: float = 0.0
    """Unix time of the INVITE, seconds."""
    timeout: float = 0.0
    """Unix time at which timer C fires, seconds (RFC 3261 16.8)."""
    request_uri: bytes = b""
    """As received."""
    from_line: bytes = b""
    """The From header of the INVITE, name and all: what an answer of ours, an ACK or a CANCEL repeats."""
    to_line: bytes = b""
    caller: Party = msgspec.field(default_factory=Party)
    """What the dialog will know of the caller."""


class DialogRecord(Record, kw_only=True):
    """A confirmed set of dialogs: one Call-ID and caller's tag, one or more callee's tags."""

    call_id: bytes
    key: bytes
    """7 bytes, the dialog key."""
    caller: Party
    callees: list[Party]
    """One each forked 2xx; the first is the one that the CDR counts."""
    relay: int = 0
    relay_address: tuple[str, int] | None = None
    relay_pod: str = ""
    via_branch: bytes = b""
    invite_cseq: int = 0
    started: float = 0.0
    """Unix time of the INVITE, seconds."""
    answered: float = 0.0
    """Unix time of the first 2xx, seconds."""
    source_ip: str = ""
    request_uri: bytes = b""
    """As received."""
    target_uri: bytes = b""
    """As sent to the callee."""
    offsets_to_caller: list[CseqOffset] = []
    offsets_to_callee: list[CseqOffset] = []
    session_expires: int = 0
    """Seconds, 0 = none; `refresher` says who (RFC 4028)."""
    refresher: str = ""


class Lease(Record, kw_only=True):
    """What a pod says of itself with each heartbeat (DESIGN 2.7, 4.1)."""

    kind: str
    """`proxy` or `relay`."""
    pod: str
    uid: str
    set: str
    """Name of the SipCluster or MediaPool."""
    ordinal: int
    index: int = 0
    """Handed out by the store, 1 to 65535; 0 = none yet."""
    version: str = ""
    """`sipcore.__version__` of the pod."""
    revision: str = ""
    """The revision that the runtime started it with."""
    address: tuple[str, int] = ("", 0)
    """Proxy: internal hop. Relay: ng."""
    listeners: list[tuple[str, str, int]] = []
    """Proxy: (transport, address, port) of each listener, as it is bound."""
    names: list[str] = []
    """Proxy: `host:port` of each listener, as the world is told."""
    capacity: int = 0
    active: int = 0
    """Dialogs owned, or sessions."""
    transactions: int = 0
    cordoned: bool = False
    draining: bool = False
    ready: bool = False
    empty: bool = True
    """DESIGN 2.10: a proxy with no open transaction and no owned dialog; a relay with no session."""
    started: float = 0.0
    """Unix time, seconds."""
    seen_as: list[str] = []
    """Proxy: `ip:port` under which targets of its routes see what it sends, the latest last."""
    sources: dict[str, bool] = {}
    """Proxy: address that requests came from -> whether it is what their sender calls its own."""

    @property
    def id(self) -> str:
        return f"{self.pod}/{self.uid}"

    @property
    def room(self) -> int:
        """How many more calls it takes; 0 when cordoned or draining."""
        if self.cordoned or self.draining or not self.ready:
            return 0
        return max(0, self.capacity - self.active)


class Cdr(msgspec.Struct, kw_only=True):
    """One call (FEATURES CDR-02); written as JSON."""

    id: str
    """Deterministic: hex dialog key."""
    call_id: str
    src_user: str
    src_domain: str
    src_ip: str
    dst_ouser: str
    """User of the Request-URI as received."""
    dst_user: str
    dst_domain: str
    started: float
    """Unix time of the INVITE, seconds."""
    answered: float
    ended: float
    duration: float
    """Seconds from answer to end."""
    ended_by: str
    """`caller`, `callee` or `proxy`."""
    status: int = 200
    """Final status of the INVITE."""
    cause: int = 16
    """Q.850 cause."""
    owner: str = ""
    relay: str = ""


R = TypeVar("R", bound=Record)

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[object]] = {}


def encode(record: Record) -> bytes:
    """The record as msgpack."""
    return _encoder.encode(record)


def decode(data: bytes, kind: type[R]) -> R:
    """Read a record.

    Raises `RecordVersionError` for a newer major version, `RecordError` for anything that is no such record.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        record = decoder.decode(data)
    except msgspec.DecodeError as error:
        major = _major(data)
        if major > MAJOR:
            raise RecordVersionError(f"{kind.__name__}: major version {major}, this release reads {MAJOR}") from None
        raise RecordError(f"{kind.__name__}: {error}") from None
    assert isinstance(record, kind)
    if record.v > MAJOR:
        raise RecordVersionError(f"{kind.__name__}: major version {record.v}, this release reads {MAJOR}")
    return record


def _major(data: bytes) -> int:
    """Major version of a msgpack array whose other fields cannot be read, 0 when even that is not there."""
    try:
        fields = msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return 0
    return fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], int) else 0


def seal(kind: bytes, owner: int, epoch: int, record: Record) -> bytes:
    """Value for the store: header (so that a script can compare owner and epoch) and record."""
    return _HEADER.pack(kind, MAJOR, owner, epoch) + _encoder.encode(record)


def seal_header(kind: bytes, owner: int, epoch: int) -> bytes:
    """The 8 bytes that a compare-and-set compares."""
    return _HEADER.pack(kind, MAJOR, owner, epoch)


def unseal(data: bytes, kind: type[R]) -> tuple[int, int, R]:
    """(owner index, epoch, record) of a stored value.

    Raises `RecordError` or `RecordVersionError`.
    """
    if len(data) < HEADER_BYTES:
        raise RecordError(f"{kind.__name__}: {len(data)} bytes, at least {HEADER_BYTES} expected")
    _letter, major, owner, epoch = _HEADER.unpack_from(data)
    if major > MAJOR:
        raise RecordVersionError(f"{kind.__name__}: major version {major}, this release reads {MAJOR}")
    return owner, epoch, decode(data[HEADER_BYTES:], kind)
