"""What calls to make: the plan that the front gives to the engine."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from .errors import PlanError
from .message import Address, hop_of

_URI = re.compile(r"sip:[^\s<>\",;]+")


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A run of calls. Times are seconds, rates calls per second."""

    target: str
    """The SIP URI that is called."""
    proxy: Address
    """Where the INVITEs are sent: the address of the cluster."""
    listen: Address
    """Where our own callee listens; the cluster's static route points there."""
    calls: int = 100
    """How many calls; with `keep_arriving`, how many at most are up at once."""
    rate: float = 10.0
    duration: tuple[float, float] = (15.0, 30.0)
    """Shortest and longest time from the answer to the BYE."""
    ring: tuple[float, float] = (0.1, 0.4)
    """Shortest and longest time from the INVITE to the answer, at the callee."""
    keep_arriving: bool = False
    """Calls keep coming until told to stop."""
    trickle: float = 0.0
    """With `keep_arriving`: calls a second that come even when `calls` are up, until `ceiling` are."""
    ceiling: int = 0
    setup_time: float = 60.0
    """How long a call may take to be answered before it has failed."""
    seed: int = 0
    local: str = ""
    """Address of the callers; by default the one from which the proxy is reached, on loopback that of the callee."""
    t1: float = 0.5
    """RFC 3261 T1 of our user agents."""
    keepalive: float = 0.0
    """Seconds between two keepalives (RFC 5626 3.5.1) from each SIP socket of ours to the proxy; 0: none."""
    caller_netns: str = ""
    """Network namespace in which the callers stand, such as `/run/netns/home`, and the control stream; empty: ours."""
    callee_netns: str = ""
    """That of the callee."""

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise PlanError("; ".join(problems))

    def _problems(self) -> list[str]:
        low, high = self.duration
        checks = (
            (_URI.fullmatch(self.target) is not None, f"target: got {self.target!r}, expected sip:user@host"),
            (0 < self.calls <= 10_000, f"calls: got {self.calls}, expected 1 to 10000"),
            (0 < self.rate <= 1000, f"rate: got {self.rate:g}, expected more than 0, at most 1000 calls a second"),
            (0 < low <= high <= 10_000, f"duration: got {low:g}-{high:g}, expected MIN-MAX seconds up to 10000"),
            (0 <= self.trickle <= 1000, f"trickle: got {self.trickle:g}, expected 0 to 1000 calls a second"),
            (0.01 <= self.t1 <= 4, f"t1: got {self.t1:g}, expected 0.01 to 4 s"),
            (
                self.keepalive == 0 or 0.1 <= self.keepalive <= 3600,
                f"keepalive: got {self.keepalive:g}, expected 0 for none, or 0.1 to 3600 s",
            ),
            (0 <= self.ring[0] <= self.ring[1] <= 120, f"ring: got {self.ring}, expected two times up to 120 s"),
            (
                _family(self.proxy[0]) == _family(self.listen[0]),
                f"listen: got {self.listen[0]}, expected the address family of the proxy, {self.proxy[0]}",
            ),
        )
        return [text for right, text in checks if not right]


def address(text: str, default_port: int = 5060) -> Address:
    """`127.0.0.1:5060`, `[::1]:5060`, or without a port.

    Raises `PlanError` when it is not a numeric address with a port of 1 to 65535.
    """
    host, port = text, default_port
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        digits = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, digits = text.partition(":")
    else:
        digits = ""
    if digits:
        if not digits.isdecimal() or not 0 < int(digits) < 65536:
            raise PlanError(f"address: got {text!r}, expected ADDRESS:PORT with a port of 1 to 65535")
        port = int(digits)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise PlanError(f"address: got {text!r}, expected a numeric ADDRESS:PORT") from None
    return host, port


def proxy_of(target: str) -> Address:
    """Where a target is called when no proxy is given.

    Raises `PlanError` when its host is a name: the generator looks nothing up.
    """
    hop = hop_of(target)
    if hop is None:
        raise PlanError(f"target: {target!r} names no numeric address, give the cluster's with --proxy ADDRESS:PORT")
    return hop


def span(text: str) -> tuple[float, float]:
    """`15-30` or `20` seconds.

    Raises `PlanError` when it is neither.
    """
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise PlanError(f"got {text!r}, expected MIN-MAX seconds") from None


def _family(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0
