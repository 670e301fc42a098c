"""What the core remembers of a request that it forwards, and of a dialog. Data only.

Slots that are always set before they are read have no default: a context is made for every request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sipcore.record import DialogRecord, EarlyRecord
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

    interval: float
    deadline: float
    """Timer B or F; in PROCEEDING of an INVITE timer C."""

    def __init__(self, context: Context, target: Target, branch_id: bytes, via: bytes) -> None:
        self.context = context
        self.target = target
        self.id = branch_id
        self.via = via
        """Our Via line, which its ACK and CANCEL carry too."""
        self.state = 0
        self.status = 0
        """The last status that came."""
        self.request = b""
        """What is retransmitted."""
        self.ack = b""
        """The ACK of a non-2xx, sent again for each retransmission of it."""
        self.cancel: Branch | None = None
        """The client transaction of its CANCEL, once there is one."""


class Claim:
    """What the store is to say about an INVITE, and its early record (DESIGN 2.4)."""

    __slots__ = ("early", "epoch", "held", "id", "pending", "raw")

    def __init__(self, early_id: bytes, early: EarlyRecord, epoch: int = 1) -> None:
        self.id = early_id
        self.early = early
        self.epoch = epoch
        self.pending = False
        """The store has not answered yet: no final response may go (DESIGN 2.4)."""
        self.raw = b""
        """What came, as long as another proxy may turn out to own it."""
        self.held: list[tuple[Branch | int, Message | bytes]] = []
        """Final responses that wait for the store's word: from a branch, or a status and bytes of our own."""


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
        "dialog_key",
        "failures",
        "from_line",
        "from_tag",
        "interval",
        "invite",
        "key",
        "last",
        "lines",
        "listener",
        "media",
        "message",
        "method",
        "next_id",
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
    body: bytes
    interval: float
    server_deadline: float
    started: float
    """Unix time, seconds."""
    from_tag: bytes
    """Of a request with a `token`."""
    dialog_key: bytes
    """Of a request with a `token`."""

    def __init__(self) -> None:
        self.state = 0
        self.lines: list[bytes] | None = None
        """Header lines to forward, without start line, our Via and our Record-Route; None once answered."""
        self.message: Message | None = None
        """As received, until it is answered; a dialog is made from it."""
        self.branches: list[Branch] = []
        self.targets: list[Target] = []
        """Those not tried yet."""
        self.failures: list[tuple[int, bytes]] | None = None
        """(status, response to forward) of the branches that failed."""
        self.last = b""
        """The response that was sent last."""
        self.next_id = b""
        """The branch toward `targets[0]`, when it is known already."""
        self.token: bytes | None = None
        """The token of our Record-Route; None: the request gets none."""
        self.canceled = False
        self.dialog: Dialog | None = None
        self.media: MediaLeg | None = None
        self.claim: Claim | None = None
        self.relay = 0
        """Index, 0 = none."""


class Dialog:
    """A confirmed set of dialogs that this proxy knows."""

    __slots__ = ("_make", "_record", "answered", "call_id", "caller_tag", "ended", "epoch", "key", "owned", "token")

    def __init__(
        self,
        key: bytes,
        call_id: bytes,
        caller_tag: bytes,
        make: Callable[[], DialogRecord] | None,
        epoch: int = 1,
    ) -> None:
        """`make` makes the record when somebody asks for it: a call without store and media never does."""
        self.key = key
        self.call_id = call_id
        self.caller_tag = caller_tag
        self._record: DialogRecord | None = None
        self._make = make
        self.epoch = epoch
        self.answered = 0.0
        """Unix time, seconds."""
        self.owned = True
        """False: somebody else owns it now, it is kept for what is still under way."""
        self.ended = False
        """A BYE went through; kept until its transaction is over, for a BYE that crosses it."""
        self.token = b""
        """The token that its requests carry, once one is known."""

    @classmethod
    def of(cls, record: DialogRecord, epoch: int) -> Dialog:
        """A dialog that another proxy has written."""
        dialog = cls(record.key, record.call_id, record.caller.tag, None, epoch)
        dialog._record = record
        dialog.answered = record.answered
        return dialog

    @property
    def made(self) -> bool:
        """Whether anybody has asked for the record; until then it says what its INVITE and 2xx say."""
        return self._record is not None

    @property
    def record(self) -> DialogRecord:
        if self._record is None:
            assert self._make is not None
            self._record, self._make = self._make(), None
        return self._record
