"""Zones with several writers: whatever stands in them and whatever is published, nothing foreign is ever touched."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sipfleet.dns.zone import Change, Decision, Found, Key, Owner, RRset, decide, rrsets, srv_records
from sipfleet.plan import SrvRecord

ZONE = "z."
DOMAINS = ("a.z.", "b.z.")
OWNERS = tuple(Owner("ns", name, f"uid-{name}") for name in ("x", "y"))
NAMES = (*DOMAINS, *(f"_sip._udp.{domain}" for domain in DOMAINS), *(f"p-{n}.{d}" for n in range(3) for d in DOMAINS))

Zone = dict[Key, RRset]


class StaleError(Exception):
    """A prerequisite does not hold."""


def update(zone: Zone, changes: tuple[Change, ...]) -> None:
    """What a server does with one update message (RFC 2136 3.2, 3.4): all or nothing."""
    for change in changes:
        if any(zone.get(rrset.key) is None or zone[rrset.key].rdata != rrset.rdata for rrset in change.present):
            raise StaleError
        if any(key in zone for key in change.absent):
            raise StaleError
    for change in changes:
        for rrset in change.dropped:
            zone.pop(rrset.key, None)
        for rrset in change.put:
            assert rrset.key not in zone, "nothing is written over"
            zone[rrset.key] = rrset


def seen(zone: Zone, listed: frozenset[str]) -> Found:
    return Found(dict(zone), listed)


def enlisted(listed: frozenset[str], decided: Decision) -> frozenset[str]:
    return listed.union(decided.enlist).difference(decided.delist)


records = st.lists(
    st.builds(
        lambda domain, pod, weight: SrvRecord(
            f"_sip._udp.{domain}", f"p-{pod}.{domain}", 5060, f"192.0.2.{pod}", weight=weight
        ),
        st.sampled_from(DOMAINS),
        st.integers(0, 2),
        st.sampled_from((10, 100)),
    ),
    max_size=4,
    unique_by=lambda record: (record.name, record.target),
).map(lambda found: tuple(sorted(found)))

foreign = st.lists(
    st.builds(
        lambda name, kind: RRset(
            name if kind != "TXT" else f"_sipfleet.{name}",
            kind,
            60,
            {
                "A": ("198.51.100.1",),
                "AAAA": ("2001:db8::1",),
                "SRV": ("0 0 5060 elsewhere.",),
                "CNAME": ("elsewhere.",),
                "NAPTR": ('10 10 "u" "x" "" .',),
                "TXT": ('"somebody else"',),
            }[kind],
        ),
        st.sampled_from(NAMES),
        st.sampled_from(("A", "AAAA", "SRV", "CNAME", "NAPTR", "TXT")),
    ),
    max_size=4,
    unique_by=lambda rrset: rrset.key,
)


@settings(max_examples=300)
@given(foreign, st.lists(st.tuples(st.integers(0, 1), records), max_size=6))
def test_two_clusters_take_turns_in_a_zone_that_others_use_too(
    others: list[RRset], turns: list[tuple[int, tuple[SrvRecord, ...]]]
) -> None:
    zone = {rrset.key: rrset for rrset in others}
    lists = [frozenset[str](), frozenset[str]()]
    for who, wish in turns:
        owner = OWNERS[who]
        before = dict(zone)
        decided = decide(wish, seen(zone, lists[who]), owner)
        update(zone, decided.changes)
        lists[who] = enlisted(lists[who], decided)
        theirs = {rrset.key for rrset in seen(before, lists[1 - who]).ours(OWNERS[1 - who])}
        for key in (*(rrset.key for rrset in others), *theirs):
            assert zone[key] == before[key], "not ours, not touched"
        stands = srv_records(seen(zone, lists[who]).ours(owner))
        assert stands == tuple(record for record in wish if record not in decided.held)
        again = decide(wish, seen(zone, lists[who]), owner)
        assert (again.changes, again.enlist, again.delist) == ((), (), ())
        assert again.conflicts == decided.conflicts
    for who, owner in enumerate(OWNERS):
        decided = decide((), seen(zone, lists[who]), owner)
        update(zone, decided.changes)
        assert enlisted(lists[who], decided) == frozenset()
    assert zone == {rrset.key: rrset for rrset in others}


@settings(max_examples=200)
@given(foreign, records, records)
def test_after_every_single_change_no_srv_record_of_ours_points_at_nothing(
    others: list[RRset], first: tuple[SrvRecord, ...], second: tuple[SrvRecord, ...]
) -> None:
    """Each change could be a message of its own: what is pointed at comes first and goes last."""
    zone = {rrset.key: rrset for rrset in others}
    listed: frozenset[str] = frozenset()
    for wish in (first, second, ()):
        decided = decide(wish, seen(zone, listed), OWNERS[0])
        listed = enlisted(listed, decided)
        for change in decided.changes:
            update(zone, (change,))
            ours = seen(zone, listed).ours(OWNERS[0])
            assert all(record.address for record in srv_records(ours))
            names = {rrset.name for rrset in ours}
            pointed = {text.split()[-1] for rrset in ours if rrset.type == "NAPTR" for text in rrset.rdata}
            assert pointed <= names


@settings(max_examples=300)
@given(foreign, records, records, records)
def test_of_two_writers_that_read_the_same_zone_the_second_is_told_or_does_no_harm(
    others: list[RRset], stood: tuple[SrvRecord, ...], one: tuple[SrvRecord, ...], two: tuple[SrvRecord, ...]
) -> None:
    for second in OWNERS:
        zone = {rrset.key: rrset for rrset in others}
        update(zone, decide(stood, seen(zone, frozenset()), OWNERS[0]).changes)
        read = seen(zone, frozenset(DOMAINS))
        plans = decide(one, read, OWNERS[0]), decide(two, read, second)
        update(zone, plans[0].changes)
        after_first = dict(zone)
        try:
            update(zone, plans[1].changes)
        except StaleError:
            assert zone == after_first
        for rrset in others:
            assert zone[rrset.key] == rrset
        if second is not OWNERS[0]:
            kept = {rrset.key: rrset for rrset in seen(after_first, frozenset()).ours(OWNERS[0])}
            assert {key: zone[key] for key in kept} == kept


@given(records)
def test_what_the_planner_says_comes_back_from_what_a_client_sees(wish: tuple[SrvRecord, ...]) -> None:
    assert srv_records(rrsets(wish)) == wish
