"""Which UDP ports a session gets: pairs of its own from a range, or a place on pairs that all share (DESIGN 3.2).

RTP is even, RTCP the next (RFC 3550 11). A range keeps a small stock of pairs that are open already, so that a port
which another program holds is found out before an offer is answered with it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from math import gcd
from random import Random

import msgspec

from rtprelay.core.events import Action, ClosePort, OpenPort, Source
from rtprelay.core.model import Interface, Leg, Pair, Party, Port, Quiet
from sipcore.errors import ConfigError
from sipcore.sdp import normal_address

STOCK = 16
"""Open pairs in reserve for each address: what one offer of eight media lines can take."""

STOCK_LEAST = 4
"""Below this, pairs in their quiet time are taken: their sources stay quiet, but a call is not refused."""

FAILED_FOR = 60.0
"""Seconds until a port that could not be bound is tried again."""

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})\Z")
_SHARED = re.compile(r"shared:(\d{1,4})@(\d{1,5})\Z")


class PortSpec(msgspec.Struct, frozen=True):
    """`FIRST-LAST` or `shared:COUNT@FIRST`."""

    shared: bool
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> PortSpec:
        """Raises `ConfigError`."""
        if match := _RANGE.match(text):
            first, last = int(match[1]), int(match[2])
            first += first % 2
            spec = cls(False, first, last)
        elif match := _SHARED.match(text):
            count, first = int(match[1]), int(match[2])
            if not 1 <= count <= 1024 or first % 2:
                raise ConfigError(
                    f"ports: {text!r} given, shared:COUNT@FIRST with COUNT 1 to 1024 and FIRST even expected"
                )
            spec = cls(True, first, first + 2 * count - 1)
        else:
            raise ConfigError(f"ports: {text!r} given, FIRST-LAST or shared:COUNT@FIRST expected")
        if not (1 <= spec.first < spec.last <= 65535):
            raise ConfigError(f"ports: {text!r} given, at least one even port and the next within 1 to 65535 expected")
        return spec

    @property
    def pairs(self) -> int:
        return (self.last - self.first + 1) // 2


def parse_interface(text: str) -> Interface:
    """Read `[NAME/]ADDRESS[!ADVERTISED]`.

    Raises `ConfigError`.
    """
    name, slash, rest = text.rpartition("/")
    address, _, advertised = rest.partition("!")
    family = "IP6" if ":" in address else "IP4"
    bound = normal_address(address.strip("[]"), family)
    shown = normal_address((advertised or address).strip("[]"), family)
    if not bound or not shown or (slash and not name):
        raise ConfigError(
            f"interface: {text!r} given, [NAME/]ADDRESS[!ADVERTISED] with two addresses of one family expected"
        )
    return Interface(name or "default", bound, shown, family)


class Handles:
    """All ports by handle; the edge's sockets are kept under the same numbers.

    With `beside` each port gets a second socket, of a number that the kernel chooses (`Port.beside`).
    """

    def __init__(self, *, beside: bool = False) -> None:
        self.ports: dict[int, Port] = {}
        self._beside = beside
        self._last = 0

    def open(self, interface: Interface, number: int, rtcp: bool, actions: list[Action]) -> Port:
        self._last += 1
        port = self.ports[self._last] = Port(self._last, interface, number, rtcp)
        actions.append(OpenPort(port.handle, interface.address, number))
        return port

    def open_beside(self, pairs: Iterable[Pair], actions: list[Action]) -> None:
        """Give ports their second sockets, after all that need a certain number: the kernel may choose one of these."""
        if not self._beside:
            return
        for port in (port for pair in pairs for port in (pair.rtp, pair.rtcp)):
            self._last += 1
            port.beside = self._last
            self.ports[port.beside] = port
            actions.append(OpenPort(port.beside, port.interface.address, 0))

    def open_pair(self, interface: Interface, number: int, actions: list[Action]) -> Pair:
        rtp = self.open(interface, number, False, actions)
        return Pair(rtp, self.open(interface, number + 1, True, actions))

    def close_pair(self, pair: Pair, actions: list[Action]) -> None:
        handles = (pair.rtp.handle, pair.rtp.beside, pair.rtcp.handle, pair.rtcp.beside)
        actions += [ClosePort(handle) for handle in handles if self.ports.pop(handle, None) is not None]


class RangePool:
    """Pairs of one interface address, each used by one leg at a time."""

    def __init__(self, interface: Interface, spec: PortSpec, handles: Handles, rng: Random) -> None:
        self.interface = interface
        self.total = spec.pairs
        self._first = spec.first
        self._handles = handles
        self._used: set[int] = set()
        """Even numbers that are taken or in stock."""
        self._avoid: dict[int, float] = {}
        """Even numbers with quiet sources or that could not be bound -> until when."""
        self._quiet: dict[int, dict[Source, Quiet]] = {}
        """Even numbers -> the quiet sources of the closed port (DESIGN 3.6)."""
        self._stock: deque[Pair] = deque()
        self._scan_at = 0.0
        self._at = rng.randrange(self.total)
        # A stride through the whole range: consecutive calls get ports that cannot be guessed from one another.
        self._stride = rng.randrange(1, self.total + 1)
        while gcd(self._stride, self.total) != 1:
            self._stride = self._stride % self.total + 1

    @property
    def free(self) -> int:
        return self.total - len(self._used) + len(self._stock)

    def refill(self, now: float, actions: list[Action]) -> None:
        """Open pairs until the stock is full; those in their quiet time only when there are hardly any others."""
        missing = min(STOCK, self.total) - len(self._stock)
        scarce = now < self._scan_at and len(self._stock) >= STOCK_LEAST
        if missing <= 0 or len(self._used) >= self.total or scarce:
            return
        opened = []
        for number in self._next(missing, now):
            self._used.add(number)
            pair = self._handles.open_pair(self.interface, number, actions)
            pair.rtp.quiet = self._quiet.pop(number, {})
            opened.append(pair)
        self._handles.open_beside(opened, actions)
        self._stock += opened
        if len(self._stock) < min(STOCK, self.total):
            self._scan_at = now + 1.0  # a look through the whole range costs too much for each command

    def _next(self, count: int, now: float) -> Iterator[int]:
        for _ in range(self.total):
            self._at = (self._at + self._stride) % self.total
            number = self._first + 2 * self._at
            if number in self._used or self._avoid.get(number, 0.0) > now:
                continue
            yield number
            count -= 1
            if not count:
                return
        quiet = sorted((until, number) for number, until in self._avoid.items() if number not in self._used)
        for _, number in quiet[: max(0, STOCK_LEAST - len(self._stock))]:
            yield number

    def take(self, leg: LegWish, now: float) -> Pair | None:
        return self._stock.popleft() if self._stock else None

    def reserve(self, number: int, actions: list[Action]) -> Pair | None:
        """The pair of a restored session; None when it is not ours or taken."""
        if number % 2 or not self._first <= number < self._first + 2 * self.total:
            return None
        for pair in self._stock:
            if pair.number == number:
                self._stock.remove(pair)
                return pair
        if number in self._used:
            return None
        self._used.add(number)
        pair = self._handles.open_pair(self.interface, number, actions)
        self._handles.open_beside((pair,), actions)
        return pair

    def release(self, pair: Pair, quiet_until: float, actions: list[Action]) -> None:
        self._used.discard(pair.number)
        self._avoid[pair.number] = quiet_until
        if pair.rtp.quiet:
            self._quiet[pair.number] = pair.rtp.quiet
        self._handles.close_pair(pair, actions)

    def failed(self, pair_number: int, now: float, actions: list[Action]) -> None:
        """A port of a pair in stock could not be bound."""
        for pair in self._stock:
            if pair.number == pair_number:
                self._stock.remove(pair)
                self.release(pair, now + FAILED_FOR, actions)
                return

    def sweep(self, now: float) -> None:
        for number in [n for n, until in self._avoid.items() if until <= now]:
            del self._avoid[number]
            self._quiet.pop(number, None)


class LegWish(msgspec.Struct):
    """What is known of a leg when it asks for a port."""

    party: Party
    remote: Source | None = None
    identity: bool = False
    named: frozenset[str] = frozenset()


class SharedPool:
    """A few pairs of one interface address on which all legs are told apart by their source (DESIGN 3.2)."""

    def __init__(self, interface: Interface, spec: PortSpec, handles: Handles) -> None:
        self.interface = interface
        self.total = spec.pairs
        self._spec = spec
        self._handles = handles
        self.pairs: list[Pair] = []
        self._turn = 0

    @property
    def free(self) -> int:
        return len(self.pairs)

    def refill(self, now: float, actions: list[Action]) -> None:
        """Open all pairs, once."""
        if not self.pairs:
            numbers = range(self._spec.first, self._spec.last, 2)
            self.pairs = [self._handles.open_pair(self.interface, number, actions) for number in numbers]
            self._handles.open_beside(self.pairs, actions)

    def take(self, leg: LegWish, now: float) -> Pair | None:
        """The pair on which this leg is told apart best; None where it could not be told apart at all."""
        best: Pair | None = None
        best_cost = (1 << 30, 0, 0)
        self._turn += 1
        own = {other.pair.number for other in leg.party.legs if other is not None}
        session = {other.pair.number for other in leg.party.session.legs()}
        for offset in range(len(self.pairs)):
            pair = self.pairs[(self._turn + offset) % len(self.pairs)]
            port = pair.rtp
            if pair.number in own or collides(port, leg.remote if leg.identity else None, leg.party):
                continue
            waiting = sum(waits(other) for ip in leg.named for other in port.by_ip.get(ip, ()))
            if waiting and not leg.identity:
                continue
            quiet = leg.remote is not None and port.quiet.get(leg.remote, (0.0, ()))[0] > now
            cost = (waiting + quiet + (pair.number in session), len(port.legs), 0)
            if cost < best_cost:
                best, best_cost = pair, cost
        return best

    def reserve(self, number: int, actions: list[Action]) -> Pair | None:
        for pair in self.pairs:
            if pair.number == number:
                return pair
        return None

    def release(self, pair: Pair, quiet_until: float, actions: list[Action]) -> None:
        """The pair stays open for the others."""

    def failed(self, pair_number: int, now: float, actions: list[Action]) -> None:
        for pair in self.pairs:
            if pair.number == pair_number:
                self.pairs.remove(pair)
                self._handles.close_pair(pair, actions)
                return

    def sweep(self, now: float) -> None:
        """Nothing that ages."""


Pool = RangePool | SharedPool


def waits(leg: Leg) -> bool:
    """Whether a leg has no source yet and would take one from an IP that it names."""
    return leg.learnt is None and leg.active


def collides(port: Port, remote: Source | None, party: Party) -> bool:
    """Whether another session's leg on this port has the same signalled ip:port."""
    if remote is None:
        return False
    for other in (port.exact.get(remote), port.learnt.get(remote)):
        if other is not None and other.party.session is not party.session:
            return True
    return False
