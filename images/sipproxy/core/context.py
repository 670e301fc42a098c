"""What the core remembers of a request that it forwards, and of a dialog. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.record import DialogRecord, EarlyRecord
from sipcore.transaction import State
from sipcore.uri import Address

from .routing import Target

if TYPE_CHECKING:
    from sipcore.message import Message

    from .media import MediaLeg


class Branch:
    """A client transaction: the request as it went to one target (RFC 3261 17.1)."""

    __slots__ = (
        "ack",
        "cancel",
        "cancel_id",
        "context",
        "deadline",
        "id",
        "interval",
        "request",
        "state",
        "status",
        "target",
        "via",
    )

    def __init__(self, context: Context, target: Target, branch_id: bytes, via: bytes) -> None:
        self.context = context
        self.target = target
        self.id = branch_id
        self.via = via
        """Our Via line, which its ACK and CANCEL carry too."""
        self.state = int(State.TRYING)
        self.status = 0
        """The last status that came."""
        self.request = b""
        """What is retransmitted."""
        self.ack = b""
        """The ACK of a non-2xx, sent again for each retransmission of it."""
        self.cancel: Branch | None = None
        """The client transaction of its CANCEL, once there is one."""
        self.cancel_id = b""
        self.interval = 0.0
        self.deadline = 0.0
        """Timer B or F; in PROCEEDING of an INVITE timer C."""


class Context:
    """A request that came in: its server transaction and the response context (RFC 3261 16.2, 17.2)."""

    __slots__ = (
        "body",
        "branches",
        "call_id",
        "canceled",
        "claim",
        "cseq",
        "dialog",
        "early",
        "early_id",
        "epoch",
        "failures",
        "from_line",
        "held",
        "interval",
        "invite",
        "key",
        "last",
        "lines",
        "listener",
        "max_forwards",
        "media",
        "message",
        "method",
        "next_id",
        "raw",
        "relay",
        "reply_to",
        "server_deadline",
        "source",
        "started",
        "state",
        "targets",
        "to_line",
        "token",
        "uri",
        "via_branch",
        "via_sent_by",
        "vias",
    )

    method: bytes
    invite: bool
    key: bytes
    """Under which it stands in the table of server transactions."""
    state: int
    source: Address
    reply_to: Address
    listener: int
    uri: bytes
    """Request-URI as received."""
    call_id: bytes
    cseq: bytes
    vias: list[bytes]
    """Via lines as received, received and rport filled in."""
    via_sent_by: bytes
    via_branch: bytes
    from_line: bytes
    to_line: bytes
    lines: list[bytes] | None
    """The header lines to forward, without start line, our Via and our Record-Route; None once answered."""
    body: bytes
    max_forwards: int
    message: Message | None
    """As received, until it is answered; a dialog is made from it."""
    targets: list[Target]
    """Those not tried yet."""
    branches: list[Branch]
    failures: list[tuple[int, bytes]]
    """(status, response to forward) of the branches that failed."""
    last: bytes
    """The response that was sent last."""
    interval: float
    server_deadline: float
    canceled: bool
    dialog: Dialog | None
    token: bool
    """Whether the forwarded request gets a Record-Route."""
    claim: int
    """What the store said of our ownership: see `claims`."""
    held: list[tuple[Branch | int, Message | bytes]]
    """Final responses that wait for the store's word: from a branch, or a status and bytes of our own."""
    raw: bytes
    """What came, as long as another proxy may turn out to own it."""
    early: EarlyRecord | None
    early_id: bytes
    epoch: int
    """Of the early record."""
    next_id: bytes
    """The branch toward `targets[0]`, when it is known already."""
    started: float
    """Unix time, seconds."""
    media: MediaLeg | None
    relay: int
    """Index, 0 = none."""

    def __init__(self) -> None:
        self.branches = []
        self.targets = []
        self.failures = []
        self.held = []
        self.last = self.early_id = self.raw = self.next_id = self.body = b""
        self.canceled = self.token = False
        self.dialog = None
        self.media = None
        self.early = None
        self.message = None
        self.lines = None
        self.claim = self.relay = self.state = 0
        self.epoch = 1


class Dialog:
    """A confirmed set of dialogs that this proxy knows; most of it stands in its record."""

    __slots__ = ("ended", "epoch", "key", "owned", "record")

    def __init__(self, key: bytes, record: DialogRecord, epoch: int = 1) -> None:
        self.key = key
        self.record = record
        self.epoch = epoch
        self.owned = True
        """False: somebody else owns it now, it is kept for what is still under way."""
        self.ended = False
        """A BYE went through; kept until its transaction is over, for a BYE that crosses it."""
