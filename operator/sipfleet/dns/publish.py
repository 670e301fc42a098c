"""The SRV records of a SipCluster in its zones: read, published, taken away. Nothing is remembered between two calls.

What the planner decides (`PublishSrv`) is compared with what the zone's primary holds, and only the difference is
written. A zone that a cluster has left is found by the annotation `sipfleet.io/dns-zones`, which the runtime keeps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sipfleet.api import Rfc2136, SipCluster
from sipfleet.plan.types import SrvRecord

from .errors import DnsError, ServerError, ZoneChangedError
from .rfc2136 import Primary
from .tsig import Tsig
from .zone import (
    ADDRESSES,
    LABEL,
    NAPTR,
    Conflict,
    Decision,
    Found,
    Key,
    Owner,
    RRset,
    decide,
    domain_of,
    domains_in,
    has_room,
    inside,
    mark_name,
    rrsets,
    srv_records,
)

ZONES_ANNOTATION = "sipfleet.io/dns-zones"
"""Zones in which the cluster has published, with a space between them."""
ATTEMPTS = 6
"""So often a zone is read and written again when somebody else writes it at the same time."""
LIMIT = 60.0
"""Seconds for one zone in all."""
ZONES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that could not be published, for a condition or an event."""

    zone: str
    reason: str
    """CamelCase: `Conflict`, `Refused`, `BadKey`, `BadTime`, `Unreachable` ..."""
    message: str


@dataclass(frozen=True, slots=True)
class Published:
    """What stands after a call."""

    records: tuple[SrvRecord, ...] | None
    """For `Observed.published`, sorted. None: a zone of `spec` could not be read, so what stands is not known and
    nothing may be concluded from it; the records of the last call that knew are the best guess."""
    problems: tuple[Problem, ...] = ()
    changed: int = 0
    """Names that were added, changed or removed."""
    zones: tuple[str, ...] = ()
    """For the annotation `sipfleet.io/dns-zones`: where something of ours is wanted, stands, or may stand."""


async def publish(cluster: SipCluster, records: Sequence[SrvRecord], credentials: Tsig | None) -> Published:
    """Make `records` all that this cluster publishes; one zone's failure does not stop the others.

    Raises nothing for what a server or a zone does: that is in `problems`. The annotation has to hold `zones(cluster)`
    before the call, so that a zone is not forgotten by an operator that ends half-way.
    """
    by_zone: dict[str, list[SrvRecord]] = {zone: [] for zone in zones(cluster)}
    for record in records:
        zone = f"{cluster.spec.dns.zone}." if cluster.spec.dns.zone else domain_of(record.name)
        by_zone.setdefault(zone, []).append(record)
    return await _each(cluster, by_zone, credentials, write=True)


async def published(cluster: SipCluster, credentials: Tsig | None) -> Published:
    """What this cluster publishes now, read from the primaries; nothing is written. Problems as for `publish`."""
    return await _each(cluster, {zone: [] for zone in zones(cluster)}, credentials, write=False)


async def unpublish(cluster: SipCluster, credentials: Tsig | None) -> Published:
    """Take away exactly what this cluster publishes. It is done when `records` is empty and there is no problem."""
    return await publish(cluster, (), credentials)


def zones(cluster: SipCluster) -> tuple[str, ...]:
    """The zones of a cluster, sorted, with the final dot: those of its `spec`, and where it published before."""
    before = cluster.metadata.annotations.get(ZONES_ANNOTATION, "").split()
    return tuple(sorted(_wanted_zones(cluster) | {f"{zone.rstrip('.')}." for zone in before}))


def _wanted_zones(cluster: SipCluster) -> frozenset[str]:
    spec = cluster.spec
    return frozenset(f"{zone}." for zone in ([spec.dns.zone] if spec.dns.zone else spec.domains))


def owner_of(cluster: SipCluster) -> Owner:
    """Whose records those of a cluster are.

    Raises `ValueError` for a resource without a UID: no API server has it.
    """
    if cluster.metadata.uid is None:
        raise ValueError(f"SipCluster/{cluster.name} has no metadata.uid")
    return Owner(cluster.namespace, cluster.name, cluster.metadata.uid)


async def _each(
    cluster: SipCluster, by_zone: dict[str, list[SrvRecord]], credentials: Tsig | None, *, write: bool
) -> Published:
    server = cluster.spec.dns.rfc2136
    if server is None:
        raise ValueError(f"SipCluster/{cluster.name} has no spec.dns.rfc2136")
    slots = asyncio.Semaphore(ZONES_AT_ONCE)

    async def one(zone: str) -> Published:
        async with slots:
            whole = zone == f"{cluster.spec.dns.zone}."
            domains = [name for domain in cluster.spec.domains if (name := f"{domain}.") == zone or whole]
            work = _Zone(server, zone, domains, owner_of(cluster), credentials)
            return await work.publish(by_zone[zone]) if write else await work.published()

    done = dict(zip(by_zone, await asyncio.gather(*(one(zone) for zone in by_zone)), strict=True))
    now = _wanted_zones(cluster)
    left = {zone for zone, part in done.items() if zone not in now and _is_gone(part)}
    parts = [part for zone, part in done.items() if zone not in left]
    unknown = any(part.records is None for zone, part in done.items() if zone in now)
    return Published(
        records=None if unknown else tuple(sorted(record for part in parts for record in part.records or ())),
        problems=tuple(sorted(problem for part in parts for problem in part.problems)),
        changed=sum(part.changed for part in parts),
        zones=tuple(sorted(now.union(*(part.zones for part in parts)))),
    )


def _is_gone(part: Published) -> bool:
    """A zone that was published in before and that the server no longer has: nothing of ours can stand there."""
    return any(problem.reason == "WrongZone" for problem in part.problems)


class _Zone:
    """One zone: read, decide, write, and read again until nothing is left to do."""

    def __init__(
        self, server: Rfc2136, zone: str, domains: Sequence[str], owner: Owner, credentials: Tsig | None
    ) -> None:
        self._zone, self._domains, self._owner = zone, domains, owner
        self._primary = Primary(server.server, server.port, zone, credentials)

    async def published(self) -> Published:
        try:
            async with asyncio.timeout(LIMIT):
                await self._primary.check()
                return self._outcome(await self._read((), probe=False))
        except (DnsError, TimeoutError) as error:
            return self._unknown(error)

    async def publish(self, records: Sequence[SrvRecord]) -> Published:
        is_readable, changed = False, 0
        try:
            async with asyncio.timeout(LIMIT):
                await self._primary.check()
                is_readable = True
                for attempt in range(ATTEMPTS):
                    found = await self._read(rrsets(records), probe=True)
                    decided = decide(records, found, self._owner)
                    if not (decided.changes or decided.enlist or decided.delist):
                        return self._outcome(found, decided.conflicts, changed)
                    changed += await self._write(decided, attempt)
                error: DnsError = ServerError(
                    "NotStanding",
                    self._primary.server,
                    self._zone,
                    f"{_what(decided)} is not as it was written",
                    "is it the primary, or does somebody else write these names?",
                )
        except (DnsError, TimeoutError) as problem:
            if not is_readable or isinstance(problem, TimeoutError):
                return self._unknown(problem, changed)
            error = problem
        return await self._stands_after(error, changed)

    async def _write(self, decided: Decision, attempt: int) -> int:
        """How many names were written; none when somebody else wrote since the zone was read."""
        try:
            await self._primary.update(decided, self._owner)
        except ZoneChangedError:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(random.uniform(0.02, 0.1) * 2**attempt)
            return 0
        return len(decided.changes)

    async def _stands_after(self, error: DnsError, changed: int) -> Published:
        """What stands although the update failed: a refused update leaves the zone readable."""
        read = await self.published()
        problems = (Problem(self._zone, error.reason, str(error)),)
        return Published(read.records, problems, changed, read.zones)

    async def _read(self, data: Iterable[RRset], *, probe: bool) -> Found:
        """What stands at the names that are ours, may be ours, or shall be (`data`)."""
        wish: dict[str, set[str]] = {}
        for rrset in data:
            wish.setdefault(rrset.name, set()).add(rrset.type)
        inventory = (self._owner.inventory(self._zone), "TXT")
        listed = domains_in((await self._primary.look_up([inventory])).get(inventory))
        likely = {f"{prefix}{domain}" for domain in listed.union(self._domains) for prefix in ("", *NAPTR)}
        names = set(filter(self._may_be_ours, likely | wish.keys()))
        sets: dict[Key, RRset] = {}
        looked_at: set[str] = set()
        while names:  # a second round finds what the SRV records point at
            sets |= await self._primary.look_up((mark_name(name), "TXT") for name in names)
            sets |= await self._primary.look_up(self._keys(names, wish, Found(sets)))
            looked_at |= names
            targets = {record.target for record in srv_records(Found(sets).ours(self._owner))}
            names = set(filter(self._may_be_ours, targets - looked_at))
        found = Found(sets, listed)
        return await self._without_wildcards(found, wish) if probe else found

    def _may_be_ours(self, name: str) -> bool:
        return inside(name, self._zone) and not name.startswith(f"{LABEL}.") and has_room(name)

    def _keys(self, names: Iterable[str], wish: dict[str, set[str]], marks: Found) -> list[Key]:
        keys = []
        for name in names:
            mark = marks.mark(name)
            kinds = set(wish.get(name, ()))
            if mark is not None and mark.owner == str(self._owner):
                kinds |= mark.types
            elif kinds & ADDRESSES:
                kinds |= ADDRESSES
            keys += [(name, kind) for kind in kinds]
        return keys

    async def _without_wildcards(self, found: Found, wish: dict[str, set[str]]) -> Found:
        """Without what a wildcard made the server answer (RFC 4592): that does not stand at the name itself."""
        foreign = [
            key
            for key in found.rrsets
            if (name := key[0].removeprefix(f"{LABEL}.")) in wish and key[1] != "NS" and found.mark(name) is None
        ]
        unreal = await self._primary.absent(foreign)
        return Found({key: rrset for key, rrset in found.rrsets.items() if key not in unreal}, found.listed)

    def _outcome(self, found: Found, conflicts: Sequence[Conflict] = (), changed: int = 0) -> Published:
        ours = found.ours(self._owner)
        problems = tuple(Problem(self._zone, "Conflict", str(conflict)) for conflict in conflicts)
        return Published(srv_records(ours), problems, changed, (self._zone,) if ours or found.listed else ())

    def _unknown(self, error: DnsError | TimeoutError, changed: int = 0) -> Published:
        if isinstance(error, TimeoutError):
            error = ServerError(
                "Unreachable", self._primary.server, self._zone, f"not done within {LIMIT:g} s", "is it overloaded?"
            )
        return Published(None, (Problem(self._zone, error.reason, str(error)),), changed, (self._zone,))


def _what(decided: Decision) -> str:
    return decided.changes[0].name if decided.changes else "the list of domains"
