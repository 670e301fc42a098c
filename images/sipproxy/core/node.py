"""What all parts of the core share: configuration, keys, tables, timers, counters and the actions of this turn."""

from __future__ import annotations

import random
from collections.abc import Callable

from sipcore.config import Listener, ProxyConfig
from sipcore.keys import ClusterKey
from sipcore.transaction import Durations
from sipcore.uri import Address, host_port, ip_of

from .actions import Action, Log, Send
from .context import Branch, Context, Dialog
from .routing import Router, own_addresses
from .timers import Timers

COUNTERS = (
    "requests",
    "responses",
    "bad_messages",
    "ignored",
    "invites",
    "answered",
    "failed",
    "ended",
    "retransmissions_received",
    "retransmissions_sent",
    "timeouts",
    "failovers",
    "hops_sent",
    "hops_received",
    "handed_over",
    "adopted",
    "served_by_token",
    "refused",
    "ng_sent",
    "ng_failed",
    "bad_mac",
    "flows_told",
    "flows_moved",
    "flows_refused",
    "flow_hops",
    "flow_hops_received",
    "flow_parked",
    "flow_dropped",
    "flow_searches",
    "flows_lost",
)

MAX_TRANSACTIONS = 500_000
"""Server transactions kept; above it new requests are dropped and their senders retransmit."""

FIRST_A = 1.1
"""Timer A begins this many T1 late: a callee that answered at once and was not heard repeats its 2xx after T1, and an
INVITE that overtakes it only confuses (RFC 3261 17.1.1.2 allows a larger T1)."""


class Node:
    """State without behaviour, but for sending."""

    def __init__(self, config: ProxyConfig, key: ClusterKey, rng: random.Random, wall_offset: float) -> None:
        """`wall_offset` in seconds makes Unix time of the core's clock. Raises `ConfigError`."""
        self.config = config
        self.key = key
        self.rng = rng
        self.wall_offset = wall_offset
        self.index = 0
        """Our index from the store, 0 without one."""
        self.now = 0.0
        self.out: list[Action] = []
        self.durations = Durations(config.timers.t1, config.timers.t2, config.timers.t4)
        times = config.timers
        self.no_response = min(times.fr, self.durations.timeout)
        self.timers = Timers(
            (
                times.t1,
                times.t1 * FIRST_A,
                times.t1 * 2,
                times.t1 * 4,
                times.t2,
                times.t4,
                self.durations.timeout,
                times.fr,
            )
        )
        self.router = Router(config, own_addresses(config))
        self.sent_by = [_sent_by(listener) for listener in config.listeners]
        self.route_ends = frozenset(b"@%b;lr>" % sent_by for sent_by in self.sent_by)
        """What follows the token in a Record-Route of ours."""
        self.record_routes = [b"Record-Route: <sip:%%b@%b;lr>" % sent_by for sent_by in self.sent_by]
        self.families = [":" in listener.address for listener in config.listeners]
        self.contexts: dict[bytes, Context] = {}
        """Server transactions by sent-by, branch and method (RFC 3261 17.2.3)."""
        self.branches: dict[bytes, Branch] = {}
        """Client transactions by branch; a CANCEL's with `C` behind it."""
        self.dialogs: dict[bytes, Dialog] = {}
        """By dialog key."""
        self.tokens: dict[bytes, Dialog] = {}
        """The same by the token that their requests carry."""
        self.owned = 0
        """Dialogs of `dialogs` that are ours and not ended."""
        self.open = 0
        """Server transactions that still wait for their final response, or for the ACK of a non-2xx."""
        self.send: Callable[[bytes, Address, int], None] = self.send_directly
        """Data, target, listener. With flows it is theirs (DESIGN 2.2)."""
        self.ask: Callable[[bytes, Address, int], None] = self.send_directly
        """The same for what asks a target how it sees us, when we begin: never by way of the target's own packets."""
        self.listener_to: Callable[[Address, int], int] = self.listener_of_family
        """Target, listener where the request arrived -> the listener that it leaves by."""
        self.arrival: Callable[[Address, int], int] = _anywhere
        """Source, listener -> index of the proxy where this client's packets arrive, 0 = any proxy may send."""
        self.recall: Callable[[Address, int, int, float], None] | None = None
        """Address, listener and index of a client's holder as a record that is adopted names it, and its Unix time."""
        self.count = dict.fromkeys(COUNTERS, 0)
        self.cordoned = False
        self.draining = False

    def send_directly(self, data: bytes, target: Address, listener: int) -> None:
        self.out.append(Send(data, target, listener))

    def log(self, level: str, event: str, call_id: bytes = b"", **fields: object) -> None:
        self.out.append(Log(level, event, call_id, fields))

    def listener_of_family(self, target: Address, arrived: int) -> int:
        """Where it arrived, or one of the target's family."""
        wanted = ":" in target[0]
        if self.families[arrived] == wanted:
            return arrived
        return self.families.index(wanted) if wanted in self.families else arrived

    @property
    def wall(self) -> float:
        """Unix time of this turn, seconds."""
        return self.now + self.wall_offset


def _anywhere(source: Address, listener: int) -> int:
    return 0


def _sent_by(listener: Listener) -> bytes:
    """What stands in Via and Record-Route."""
    text = listener.advertised or listener.address
    _, colon, port = text.rpartition(":")
    if ":" in text and ip_of(text.encode()):
        return host_port((text.strip("[]"), listener.port))
    if colon and port.isdigit():
        return text.encode()
    return b"%b:%d" % (text.encode(), listener.port)
