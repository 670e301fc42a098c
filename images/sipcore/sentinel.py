"""Which server is the master: asked of Redis Sentinel before each connection
(https://redis.io/docs/latest/develop/reference/sentinel-clients/).

Pure: the edge looks names up, connects to whom `next` says, writes `question`, and gives what it reads to `feed`. The
server that was named shows with ROLE whether it is a master (`sipcore.store.StoreClient`); when it is none, or is not
there, another sentinel has the first word in the next round.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

from sipcore.errors import SentinelError
from sipcore.resp import ErrorReply, Reader, Value, pack
from sipcore.store import StoreUrl

Address = tuple[str, int]

LOOK_UP_LIMIT = 1.0
"""Seconds that a name may take; then what it was before is taken."""
ASK_LIMIT = 0.5
"""Seconds that a sentinel may take to be reached and to answer."""


class Search:
    """Rounds of questions; each round asks every sentinel once, until one names a master."""

    def __init__(self, url: StoreUrl) -> None:
        self.names = url.sentinels
        """(host, port) of the sentinels, to be looked up before a round."""
        commands = [pack((b"SENTINEL", b"get-master-addr-by-name", url.master))]
        if url.password:
            # One that wants no password answers with an error, which is passed over.
            commands.insert(0, pack((b"AUTH", url.password)))
        self.question = b"".join(commands)
        self._replies_due = len(commands)
        self._master = url.master
        self._known: dict[Address, tuple[Address, ...]] = {}
        self._left: deque[Address] = deque()
        self._asked: Address | None = None
        self._misled = False
        self._reader = Reader()
        self._replies: list[Value] = []

    def resolved(self, name: Address, addresses: Sequence[Address]) -> None:
        """What a name stands for now; no address at all leaves what it was (a name server that is away)."""
        if addresses:
            self._known[name] = tuple(addresses)

    def begin(self) -> None:
        """A new round: the sentinel that was asked last comes first, or last when it misled us."""
        order = sorted({address for name in self.names for address in self._known.get(name, ())})
        if self._asked is not None:
            start = (bisect_right if self._misled else bisect_left)(order, self._asked)
            order = order[start:] + order[:start]
        self._left = deque(order)

    def next(self) -> Address | None:
        """The sentinel to ask now; None at the end of the round."""
        if not self._left:
            return None
        self._asked, self._misled = self._left.popleft(), False
        self._reader, self._replies = Reader(), []
        return self._asked

    def feed(self, data: bytes) -> Address | None:
        """Bytes from the sentinel -> the address of the master, None while the answer is not complete.

        Raises `SentinelError` when it names none, `RespError` when it does not speak RESP; ask the next one then.
        """
        self._reader.feed(data)
        self._replies += self._reader.replies()
        if len(self._replies) < self._replies_due:
            return None
        return master_of(self._replies[self._replies_due - 1], self._master)

    def misled(self) -> None:
        """Where the last one asked said that the master is, there is none."""
        self._misled = True


def master_of(reply: Value, name: str) -> Address:
    """The answer to SENTINEL get-master-addr-by-name.

    Raises `SentinelError`.
    """
    if isinstance(reply, ErrorReply):
        raise SentinelError(f"sentinel: {reply}")
    if reply is None:
        raise SentinelError(f"sentinel: it knows no master {name!r}")
    match reply:
        case [bytes() as host, bytes() as port] if host and port.isdigit() and 0 < int(port) < 65536:
            return host.decode("utf-8", "replace"), int(port)
    raise SentinelError(f"sentinel: {reply!r} given, host and port of the master expected")
