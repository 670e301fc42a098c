"""The records of a SipCluster in a zone, whose they are, and what has to change. Pure: no socket, no clock.

Every name that we publish carries a mark beside it: a TXT record at `_sipfleet.<name>`, which says which cluster
publishes which types at that name. What has no mark of ours is not ours and is never touched; the mark's own name is
below the name that it speaks of, so that it clashes with no record there (not even with a CNAME, RFC 1034 3.6.2). A
second TXT record set in each zone, the inventory, lists the domains of one cluster; from a domain the SRV records lead
to the rest. So what is ours is found again by plain queries, with nothing kept elsewhere and without a zone transfer.

    rrsets(records) -> data;  wanted(records, owner) -> data and marks
    decide(records, found, owner) -> Decision(changes, conflicts, held)
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sipfleet.plan.types import SrvRecord

from .errors import BadNameError

LABEL = "_sipfleet"
HERITAGE = "heritage=sipfleet"
MARK_TTL = 300
"""Seconds; marks and inventories are read from the primary only, never from a cache."""
ENTRY = re.compile(r'^"domain=([^" ]+)"$')
"""One domain in an inventory."""
LONGEST_NAME = 253
"""Characters of a name without the final dot (RFC 1035 2.3.4: 255 octets on the wire)."""
MARK = re.compile(r'^"heritage=sipfleet,owner=([^,"]+),types=([A-Z]+(?:\+[A-Z]+)*)"$')

NAPTR: dict[str, tuple[int, str]] = {
    "_sips._tcp.": (50, "SIPS+D2T"),
    "_sip._tcp.": (90, "SIP+D2T"),
    "_sip._udp.": (100, "SIP+D2U"),
}
"""Order and service by SRV prefix; a client takes the lowest order that it can speak (RFC 3263 4.1)."""
NAPTR_PREFERENCE = 50
ADDRESSES = frozenset({"A", "AAAA"})
RANK = {"A": 0, "AAAA": 0, "SRV": 1, "NAPTR": 2}
"""What is pointed at comes before what points at it."""

Key: TypeAlias = tuple[str, str]
"""Name and type of a record set."""


@dataclass(frozen=True, slots=True, order=True)
class RRset:
    """All records of one name and type (RFC 2181 5), in presentation format."""

    name: str
    """Absolute, lower-case, with the final dot."""
    type: str
    ttl: int
    rdata: tuple[str, ...]
    """Sorted."""

    @property
    def key(self) -> Key:
        return self.name, self.type

    def __str__(self) -> str:
        return f"{self.type} {', '.join(self.rdata)}"


@dataclass(frozen=True, slots=True)
class Owner:
    """The cluster that records belong to. The UID keeps apart what had the same name at another time or place."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}/{self.uid}"

    def inventory(self, zone: str) -> str:
        """Name of the TXT records that list the domains which this cluster publishes in `zone`."""
        digest = hashlib.blake2b(str(self).encode(), digest_size=8, person=b"inventory").hexdigest()
        return f"{digest}.{LABEL}.{zone}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the TXT record beside a name says."""

    owner: str
    types: frozenset[str]

    def rrset(self, name: str) -> RRset:
        """The mark of `name`."""
        text = f'"{HERITAGE},owner={self.owner},types={"+".join(sorted(self.types))}"'
        return RRset(mark_name(name), "TXT", MARK_TTL, (text,))

    @classmethod
    def parse(cls, rrset: RRset) -> Mark | None:
        """None for TXT records that are no mark."""
        found = MARK.match(rrset.rdata[0]) if len(rrset.rdata) == 1 else None
        return cls(found[1], frozenset(found[2].split("+"))) if found is not None else None


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in a zone, as far as it was looked for."""

    rrsets: Mapping[Key, RRset] = field(default_factory=dict)
    """Also what is in the way of a name: a CNAME, or the NS records of a zone cut above it, under (name, type)."""
    listed: frozenset[str] = frozenset()
    """The domains in our inventory."""

    def mark(self, name: str) -> Mark | None:
        """The mark of a name; None where there is none."""
        rrset = self.rrsets.get((mark_name(name), "TXT"))
        return Mark.parse(rrset) if rrset is not None else None

    def is_ours(self, name: str, owner: Owner) -> bool:
        """Whether the mark of a name names us."""
        mark = self.mark(name)
        return mark is not None and mark.owner == str(owner)

    def ours(self, owner: Owner) -> tuple[RRset, ...]:
        """The records that our marks speak of, without the marks."""
        return tuple(
            rrset
            for (name, kind), rrset in sorted(self.rrsets.items())
            if (mark := self.mark(name)) is not None and mark.owner == str(owner) and kind in mark.types
        )


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """A name that we would publish, and what keeps us from it."""

    name: str
    there: str

    def __str__(self) -> str:
        return f"{self.name} is not ours: {self.there}"


@dataclass(frozen=True, slots=True)
class Change:
    """One name, before and after, its mark included. It holds only while what is at the name is as it was read."""

    name: str
    before: tuple[RRset, ...]
    """What is ours at the name."""
    after: tuple[RRset, ...]
    """What shall be; nothing: the name goes."""

    @property
    def domain(self) -> str:
        """The SIP domain that the name belongs to; one message changes all of it."""
        kinds = {rrset.type for rrset in (*self.before, *self.after) if rrset.name == self.name}
        return self.name.partition(".")[2] if kinds & ADDRESSES else domain_of(self.name)

    @property
    def dropped(self) -> tuple[RRset, ...]:
        """Record sets that go, or that others take the place of."""
        return tuple(rrset for rrset in self.before if rrset not in self.after)

    @property
    def put(self) -> tuple[RRset, ...]:
        """Record sets that come."""
        return tuple(rrset for rrset in self.after if rrset not in self.before)

    @property
    def present(self) -> tuple[RRset, ...]:
        """What has to stand exactly so (RFC 2136 2.4.2): what we drop, and the mark that says it is ours."""
        return tuple(rrset for rrset in self.before if rrset in self.dropped or rrset.name != self.name)

    @property
    def absent(self) -> tuple[Key, ...]:
        """What must not be there (RFC 2136 2.4.3): what we bring, and on a new name what clashes with it."""
        had = {rrset.key for rrset in self.before}
        keys = {rrset.key for rrset in self.put}
        if not self.before and self.after:
            keys |= {(self.name, kind) for rrset in self.put if rrset.name == self.name for kind in rivals(rrset.type)}
        return tuple(sorted(keys - had))


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in one zone."""

    changes: tuple[Change, ...]
    """In this order: domain by domain, in each of them what is pointed at comes first and goes last."""
    enlist: tuple[str, ...] = ()
    """Domains that come into the inventory, before the changes."""
    delist: tuple[str, ...] = ()
    """Domains that leave it, after the changes."""
    conflicts: tuple[Conflict, ...] = ()
    held: tuple[SrvRecord, ...] = ()
    """Records that are not published because of the conflicts."""


def entry(domain: str) -> str:
    """A domain as it stands in an inventory."""
    return f'"domain={domain}"'


def domains_in(inventory: RRset | None) -> frozenset[str]:
    """The domains in an inventory. Other texts are what a wildcard answers (RFC 4592), and no domains."""
    texts = inventory.rdata if inventory is not None else ()
    return frozenset(found[1] for text in texts if (found := ENTRY.match(text)) is not None)


def mark_name(name: str) -> str:
    """Where the mark of a name stands."""
    return f"{LABEL}.{name}"


def has_room(name: str) -> bool:
    """Whether a name is short enough for its mark to have one."""
    return len(mark_name(name)) - 1 <= LONGEST_NAME


def rivals(kind: str) -> frozenset[str]:
    """Types that a name of somebody else may have, so that ours would change what that name means."""
    return frozenset({kind, "CNAME"}) | (ADDRESSES if kind in ADDRESSES else frozenset())


def domain_of(name: str) -> str:
    """The SIP domain of an SRV name, with the final dot; a name that is none is returned as it is."""
    prefix = next((prefix for prefix in NAPTR if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def inside(name: str, zone: str) -> bool:
    """Whether a name is in a zone, both with the final dot."""
    return f".{name}".endswith(f".{zone}")


def address_type(address: str) -> str:
    """`A` or `AAAA`."""
    return "A" if ipaddress.ip_address(address).version == 4 else "AAAA"


def rrsets(records: Iterable[SrvRecord]) -> tuple[RRset, ...]:
    """NAPTR, SRV and address records: all that a client of RFC 3263 4 asks for."""
    ttls: dict[Key, int] = {}
    rdata: dict[Key, set[str]] = {}

    def add(name: str, kind: str, ttl: int, text: str) -> None:
        key = name.lower(), kind
        ttls[key] = min(ttl, ttls.get(key, ttl))  # one TTL per set (RFC 2181 5.2)
        rdata.setdefault(key, set()).add(text)

    for record in records:
        name, target = record.name.lower(), record.target.lower()
        add(name, "SRV", record.ttl, f"{record.priority} {record.weight} {record.port} {target}")
        add(target, address_type(record.address), record.ttl, str(ipaddress.ip_address(record.address)))
        prefix = next((prefix for prefix in NAPTR if name.startswith(prefix)), None)
        if prefix is not None:
            order, service = NAPTR[prefix]
            text = f'{order} {NAPTR_PREFERENCE} "s" "{service}" "" {name}'
            add(name.removeprefix(prefix), "NAPTR", record.ttl, text)
    return tuple(sorted(RRset(*key, ttls[key], tuple(sorted(texts))) for key, texts in rdata.items()))


def wanted(records: Iterable[SrvRecord], owner: Owner) -> tuple[RRset, ...]:
    """The whole wanted set: the data, and the mark of every name.

    Raises `BadNameError` for a name whose mark would be longer than DNS allows.
    """
    data = rrsets(records)
    types: dict[str, set[str]] = {}
    for rrset in data:
        types.setdefault(rrset.name, set()).add(rrset.type)
        if not has_room(rrset.name):
            most = LONGEST_NAME - len(mark_name(""))
            raise BadNameError(f"{rrset.name} has {len(rrset.name) - 1} characters, with its mark at most {most}")
    marks = (Mark(str(owner), frozenset(kinds)).rrset(name) for name, kinds in types.items())
    return tuple(sorted((*data, *marks)))


def srv_records(rrsets: Iterable[RRset]) -> tuple[SrvRecord, ...]:
    """The way back from `rrsets`, sorted. A target without an address has the address `""`: DNS still names it."""
    sets = tuple(rrsets)
    addresses: dict[str, list[str]] = {}
    for rrset in sets:
        if rrset.type in ADDRESSES:
            addresses.setdefault(rrset.name, []).extend(rrset.rdata)
    found = []
    for rrset in sets:
        if rrset.type != "SRV":
            continue
        for text in rrset.rdata:
            priority, weight, port, target = text.split()
            found += [
                SrvRecord(rrset.name, target.lower(), int(port), address, int(priority), int(weight), rrset.ttl)
                for address in addresses.get(target.lower(), [""])
            ]
    return tuple(sorted(found))


def decide(records: Sequence[SrvRecord], found: Found, owner: Owner) -> Decision:
    """What to change so that `records` are what we publish in this zone.

    What is in conflict is left alone, and an SRV record whose name or target is in conflict is held back: it would send
    calls to whoever has that name. Raises `BadNameError`.
    """
    against = conflicts(wanted(records, owner), found, owner)
    names = {conflict.name for conflict in against}
    held = tuple(record for record in records if record.name.lower() in names or record.target.lower() in names)
    rest = sorted(set(records).difference(held))
    domains = {domain_of(record.name.lower()) for record in records}
    return Decision(
        changes=diff(wanted(rest, owner), found, owner, frozenset(names)),
        enlist=tuple(sorted(domains - found.listed)),
        delist=tuple(sorted(found.listed - domains)),
        conflicts=against,
        held=held,
    )


def conflicts(wanted: Iterable[RRset], found: Found, owner: Owner) -> tuple[Conflict, ...]:
    """The wanted names that belong to somebody else: by a mark, or because something stands there without one."""
    out = set()
    for rrset in wanted:
        name = rrset.name
        if rrset.type == "TXT":
            continue  # its name is below that of the data, which is looked at with it
        mark = found.mark(name)
        text = found.rrsets.get((mark_name(name), "TXT"))
        if mark is not None and mark.owner != str(owner):
            out.add(Conflict(name, f"{mark.owner} publishes it ({mark_name(name)})"))
            continue
        if mark is None and text is not None:
            out.add(Conflict(name, f"{mark_name(name)} has {text}"))
        mine = mark.types if mark is not None else frozenset()
        kinds = {rrset.type, "CNAME", "NS"} if mark is not None else rivals(rrset.type) | {"NS"}
        for kind in sorted(kinds - mine):
            there = found.rrsets.get((name, kind))
            if there is not None:
                at = "" if there.name == name else f"the zone is cut at {there.name}, "
                out.add(Conflict(name, f"{at}{there} is there without our mark"))
    return tuple(sorted(out))


def diff(
    wanted: Iterable[RRset], found: Found, owner: Owner, contested: frozenset[str] = frozenset()
) -> tuple[Change, ...]:
    """The changes from what is ours to what is wanted, in their order. Names in `contested` are not touched."""
    after: dict[str, list[RRset]] = {}
    for rrset in wanted:
        after.setdefault(rrset.name.removeprefix(f"{LABEL}."), []).append(rrset)
    before: dict[str, list[RRset]] = {}
    for rrset in found.ours(owner):
        before.setdefault(rrset.name, []).append(rrset)
    for name, kind in found.rrsets:
        marked = name.removeprefix(f"{LABEL}.")
        if kind == "TXT" and marked != name and found.is_ours(marked, owner):
            before.setdefault(marked, []).append(found.rrsets[name, kind])
    changes = []
    for name in sorted((before.keys() | after.keys()) - contested):
        old, new = tuple(sorted(before.get(name, ()))), tuple(sorted(after.get(name, ())))
        if old != new:
            changes.append(Change(name, old, new))
    return tuple(sorted(changes, key=_order))


def _order(change: Change) -> tuple[str, bool, int, str]:
    rank = max((RANK.get(rrset.type, -1) for rrset in (*change.before, *change.after)), default=-1)
    gone = not change.after
    return change.domain, gone, -rank if gone else rank, change.name
