"""MediaPool: the RTP relays, their ports, interfaces and timeouts. It names no cluster; clusters name pools."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .common import Resource, SetSpec
from .fields import Label, Port, Rule, Seconds, SpecModel, list_of, unique, whole
from .status import MediaPoolStatus

PORTS_PER_SESSION = 4
"""A session of one audio stream has two legs with an RTP and an RTCP port each."""


class Ports(SpecModel):
    """The UDP ports of each relay."""

    mode: Literal["range", "shared"] = "range"
    """`range`: pairs of their own for every leg, from `min` to `max`. `shared`: all sessions on `count` pairs from
    `base` on."""
    min: Port | None = None
    """First port of the range; the range begins at the next even port."""
    max: Port | None = None
    """Last port of the range."""
    base: Port | None = None
    """First shared port, even (RTP even, RTCP odd)."""
    count: Annotated[int, whole(1, 1024)] | None = None
    """Number of shared port pairs."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "",
            "min and max, and neither base nor count, when mode is range",
            "self.mode != 'range' || (has(self.min) && has(self.max) && !has(self.base) && !has(self.count))",
            lambda m: m.mode != "range" or (m.min and m.max and m.base is None and m.count is None),
        ),
        Rule(
            "",
            "base and count, and neither min nor max, when mode is shared",
            "self.mode != 'shared' || (has(self.base) && has(self.count) && !has(self.min) && !has(self.max))",
            lambda m: m.mode != "shared" or (m.base and m.count and m.min is None and m.max is None),
        ),
        Rule(
            "max",
            "max at least 3 more than min (a session takes four ports)",
            "!has(self.min) || !has(self.max) || self.max - self.min >= 3",
            lambda m: m.min is None or m.max is None or m.max - m.min >= PORTS_PER_SESSION - 1,
        ),
        Rule(
            "base",
            "an even number",
            "!has(self.base) || self.base % 2 == 0",
            lambda m: m.base is None or m.base % 2 == 0,
        ),
        Rule(
            "count",
            "port pairs that end at port 65535 or before",
            "!has(self.base) || !has(self.count) || self.base + 2 * self.count <= 65536",
            lambda m: m.base is None or m.count is None or m.base + 2 * m.count <= 65536,
        ),
    )

    @property
    def sessions(self) -> int | None:
        """Sessions of one audio stream that the ports suffice for; None where ports are shared and do not limit it."""
        if self.mode == "shared" or self.min is None or self.max is None:
            return None
        first = self.min + self.min % 2
        return (self.max + 1 - first) // PORTS_PER_SESSION


class Interface(SpecModel):
    """A network that the relays stand in."""

    name: Label
    """What the ng protocol calls it in `direction`."""
    ip_families: Annotated[
        tuple[Literal["IPv4", "IPv6"], ...], Field(min_length=1, max_length=2, json_schema_extra=list_of())
    ] = ("IPv4",)
    """Address families, the preferred one first. IPv6 is used only where it is listed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "ipFamilies",
            "each of IPv4 and IPv6 at most once",
            None,
            lambda m: unique(m.ip_families),
        ),
    )


class Timeouts(SpecModel):
    """When a relay gives a session up, in seconds."""

    rtp: Seconds = 60
    """Without any RTP."""
    silent: Seconds = 3600
    """Without any RTP while the session is muted or on hold."""
    final: Annotated[int, whole(1, 10800)] = 10800
    """In all. No session outlives it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("silent", "silent not less than rtp", "self.rtp <= self.silent", lambda m: m.rtp <= m.silent),
        Rule("final", "final not less than silent", "self.silent <= self.final", lambda m: m.silent <= m.final),
    )


class MediaPoolSpec(SetSpec):
    """What a MediaPool is wanted to be."""

    ports: Ports = Ports(mode="range", min=20000, max=29999)
    interfaces: Annotated[
        tuple[Interface, ...], Field(min_length=1, max_length=8, json_schema_extra=list_of(key="name"))
    ] = (Interface(name="default"),)
    """Networks that the relays stand in."""
    timeouts: Timeouts = Timeouts()
    capacity: Annotated[int, whole(1, 100000)] = 500
    """Sessions per pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "interfaces",
            "interfaces with different names",
            None,
            lambda m: unique(interface.name for interface in m.interfaces),
        ),
        Rule(
            "capacity",
            "at most one session for every four ports of the range",
            "!has(self.ports.min) || !has(self.ports.max) || "
            "self.capacity * 4 <= self.ports.max + 1 - self.ports.min - self.ports.min % 2",
            lambda m: m.ports.sessions is None or m.capacity <= m.ports.sessions,
        ),
    )


class MediaPool(Resource):
    """A pool of RTP relays."""

    kind: Literal["MediaPool"] = "MediaPool"
    spec: MediaPoolSpec
    status: MediaPoolStatus = MediaPoolStatus()
