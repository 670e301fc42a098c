"""Record sets, marks, conflicts and the order of changes, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipfleet.dns.errors import BadNameError
from sipfleet.dns.zone import (
    Change,
    Conflict,
    Found,
    Mark,
    Owner,
    RRset,
    conflicts,
    decide,
    diff,
    domains_in,
    rrsets,
    srv_records,
    wanted,
)
from sipfleet.plan import SrvRecord

US = Owner("voice", "demo", "11111111-0000-4000-8000-000000000000")
THEM = Owner("voice", "other", "22222222-0000-4000-8000-000000000000")
D = "example.test."


def record(ordinal: int, weight: int = 100, domain: str = D) -> SrvRecord:
    return SrvRecord(
        f"_sip._udp.{domain}", f"demo-{ordinal}.{domain}", 5060, f"192.0.2.{ordinal + 1}", weight=weight, ttl=30
    )


def standing(*records: SrvRecord, owner: Owner = US, more: tuple[RRset, ...] = ()) -> Found:
    """A zone in which these are published."""
    sets = (*wanted(records, owner), *more)
    return Found({rrset.key: rrset for rrset in sets}, frozenset({D}) if records and owner is US else frozenset())


def shape(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    """What is done to which name."""
    return [("remove" if not c.after else "add" if not c.before else "replace", c.name) for c in changes]


def test_a_client_finds_naptr_srv_and_addresses() -> None:
    shared = SrvRecord(f"_sips._tcp.{D}", f"demo.{D}", 5061, "2001:DB8::1", ttl=5)
    assert rrsets((record(0), record(1, weight=50), shared)) == (
        RRset(f"_sip._udp.{D}", "SRV", 30, (f"0 100 5060 demo-0.{D}", f"0 50 5060 demo-1.{D}")),
        RRset(f"_sips._tcp.{D}", "SRV", 5, (f"0 100 5061 demo.{D}",)),
        RRset(f"demo-0.{D}", "A", 30, ("192.0.2.1",)),
        RRset(f"demo-1.{D}", "A", 30, ("192.0.2.2",)),
        RRset(f"demo.{D}", "AAAA", 5, ("2001:db8::1",)),
        RRset(D, "NAPTR", 5, (f'100 50 "s" "SIP+D2U" "" _sip._udp.{D}', f'50 50 "s" "SIPS+D2T" "" _sips._tcp.{D}')),
    )


def test_the_planners_records_come_back_from_what_is_published() -> None:
    records = (record(0), record(1, weight=50), record(0, domain="b.test."))
    assert srv_records(rrsets(records)) == tuple(sorted(records))


def test_a_target_without_an_address_is_still_a_name_that_dns_gives() -> None:
    (srv,) = (rrset for rrset in rrsets((record(0),)) if rrset.type == "SRV")
    assert srv_records((srv,)) == (replace(record(0), address=""),)


def test_each_name_has_a_mark_beside_it_that_says_whose_it_is() -> None:
    marks = {rrset.name: rrset for rrset in wanted((record(0),), US) if rrset.type == "TXT"}
    assert marks.keys() == {f"_sipfleet.{name}" for name in (D, f"_sip._udp.{D}", f"demo-0.{D}")}
    (text,) = marks[f"_sipfleet.demo-0.{D}"].rdata
    assert text == f'"heritage=sipfleet,owner={US},types=A"'
    assert Mark.parse(marks[f"_sipfleet.{D}"]) == Mark(str(US), frozenset({"NAPTR"}))


@pytest.mark.parametrize(
    "text",
    [
        '"v=spf1 -all"',
        '"heritage=external-dns,external-dns/owner=default"',
        '"heritage=sipfleet,owner=a/b/c"',
        '"heritage=sipfleet,owner=a/b/c,types=a"',
        'x"heritage=sipfleet,owner=a/b/c,types=A"',
    ],
)
def test_other_texts_are_no_marks(text: str) -> None:
    assert Mark.parse(RRset(f"_sipfleet.{D}", "TXT", 300, (text,))) is None


def test_two_marks_at_one_name_are_none() -> None:
    texts = (*Mark(str(US), frozenset("A")).rrset(D).rdata, *Mark(str(THEM), frozenset("A")).rrset(D).rdata)
    assert Mark.parse(RRset(f"_sipfleet.{D}", "TXT", 300, texts)) is None


def test_an_inventory_lists_domains_and_a_wildcards_answer_lists_none() -> None:
    assert domains_in(None) == frozenset()
    assert domains_in(RRset("x", "TXT", 1, ('"domain=a.test."', '"v=spf1 -all"', '"domain=b c"'))) == {"a.test."}
    assert US.inventory("test.") != THEM.inventory("test.")


def test_the_owner_of_a_mark_fits_into_one_text_however_long_its_names_are() -> None:
    longest = Owner("n" * 63, "c" * 50, "11111111-0000-4000-8000-000000000000")
    (text,) = Mark(str(longest), frozenset({"A", "AAAA", "NAPTR", "SRV"})).rrset(D).rdata
    assert len(text) - 2 <= 255


def test_a_name_whose_mark_would_be_too_long_is_refused() -> None:
    label = "a" * 60
    domain = f"{label}.{label}.{label}.{label}."
    with pytest.raises(BadNameError, match="has 250 characters, with its mark at most 243"):
        wanted((SrvRecord(f"_sip._udp.{domain}"[3:], f"x.{domain}", 5060, "192.0.2.1"),), US)


def test_in_an_empty_zone_what_is_pointed_at_comes_first() -> None:
    decided = decide((record(0), record(1)), Found(), US)
    assert shape(decided.changes) == [
        ("add", f"demo-0.{D}"),
        ("add", f"demo-1.{D}"),
        ("add", f"_sip._udp.{D}"),
        ("add", D),
    ]
    assert (decided.enlist, decided.delist, decided.conflicts, decided.held) == ((D,), (), (), ())


def test_at_the_end_what_points_goes_first() -> None:
    decided = decide((), standing(record(0), record(1)), US)
    assert shape(decided.changes) == [
        ("remove", D),
        ("remove", f"_sip._udp.{D}"),
        ("remove", f"demo-0.{D}"),
        ("remove", f"demo-1.{D}"),
    ]
    assert (decided.enlist, decided.delist) == ((), (D,))


def test_a_pod_that_takes_anothers_place_is_there_before_the_other_is_gone() -> None:
    decided = decide((record(1),), standing(record(0)), US)
    assert shape(decided.changes) == [
        ("add", f"demo-1.{D}"),
        ("replace", f"_sip._udp.{D}"),
        ("remove", f"demo-0.{D}"),
    ]


def test_what_stands_needs_no_change_and_another_weight_needs_one() -> None:
    assert decide((record(0), record(1)), standing(record(0), record(1)), US).changes == ()
    (change,) = decide((record(0), record(1, weight=50)), standing(record(0), record(1)), US).changes
    (dropped,), (put,) = change.dropped, change.put
    assert (dropped.rdata[1], put.rdata[1]) == (f"0 100 5060 demo-1.{D}", f"0 50 5060 demo-1.{D}")


def test_an_update_says_what_it_expects_to_find() -> None:
    new = decide((record(0),), Found(), US).changes[0]
    assert new.present == ()
    assert new.absent == (
        (f"_sipfleet.demo-0.{D}", "TXT"),
        (f"demo-0.{D}", "A"),
        (f"demo-0.{D}", "AAAA"),
        (f"demo-0.{D}", "CNAME"),
    )
    found = standing(record(0))
    (moved,) = diff(wanted((replace(record(0), address="192.0.2.9"),), US), found, US)
    assert moved.present == (found.rrsets[f"_sipfleet.demo-0.{D}", "TXT"], found.rrsets[f"demo-0.{D}", "A"])
    assert moved.absent == ()


def test_a_change_of_family_keeps_the_mark_right() -> None:
    found = standing(record(0))
    (change,) = diff(wanted((replace(record(0), address="2001:db8::1"),), US), found, US)
    assert [str(rrset) for rrset in change.dropped] == [
        f'TXT "heritage=sipfleet,owner={US},types=A"',
        "A 192.0.2.1",
    ]
    assert [str(rrset) for rrset in change.put] == [
        f'TXT "heritage=sipfleet,owner={US},types=AAAA"',
        "AAAA 2001:db8::1",
    ]
    assert change.absent == ((f"demo-0.{D}", "AAAA"),)


FOREIGN_A = RRset(f"demo-0.{D}", "A", 60, ("192.0.2.200",))


@pytest.mark.parametrize(
    ("there", "name", "told"),
    [
        (FOREIGN_A, f"demo-0.{D}", "A 192.0.2.200 is there without our mark"),
        (replace(FOREIGN_A, type="AAAA", rdata=("::1",)), f"demo-0.{D}", "AAAA ::1 is there without our mark"),
        (replace(FOREIGN_A, type="CNAME", rdata=("x.",)), f"demo-0.{D}", "CNAME x. is there without our mark"),
        (
            RRset(f"_sip._udp.{D}", "SRV", 60, ("0 0 5060 x.",)),
            f"_sip._udp.{D}",
            "SRV 0 0 5060 x. is there without our mark",
        ),
        (
            RRset(f"_sipfleet.demo-0.{D}", "TXT", 60, ('"x"',)),
            f"demo-0.{D}",
            f'_sipfleet.demo-0.{D} has TXT "x"',
        ),
        (
            Mark(str(THEM), frozenset({"A"})).rrset(f"demo-0.{D}"),
            f"demo-0.{D}",
            f"{THEM} publishes it (_sipfleet.demo-0.{D})",
        ),
    ],
    ids=["address", "other family", "alias", "srv", "text at the mark", "mark of another"],
)
def test_what_is_not_ours_is_a_conflict_and_no_call_is_sent_there(there: RRset, name: str, told: str) -> None:
    found = Found({there.key: there})
    decided = decide((record(0), record(1)), found, US)
    assert decided.conflicts == (Conflict(name, told),)
    assert str(decided.conflicts[0]) == f"{name} is not ours: {told}"
    assert decided.held == ((record(0), record(1)) if name.startswith("_sip") else (record(0),))
    touched = {key for change in decided.changes for key in (*(s.key for s in change.dropped), *change.absent)}
    assert there.key not in touched
    assert name not in {change.name for change in decided.changes}


def test_a_zone_cut_is_in_the_way_and_is_named() -> None:
    cut = RRset("away.test.", "NS", 60, ("ns.away.test.",))
    found = Found({("sip.away.test.", "NS"): cut})
    naptr = RRset("sip.away.test.", "NAPTR", 30, ('100 50 "s" "SIP+D2U" "" _sip._udp.sip.away.test.',))
    (conflict,) = conflicts([naptr], found, US)
    assert conflict.there == "the zone is cut at away.test., NS ns.away.test. is there without our mark"


def test_an_address_that_somebody_gives_a_name_of_ours_besides_is_no_reason_to_send_no_calls() -> None:
    second = RRset(f"demo-0.{D}", "AAAA", 60, ("2001:db8::7",))
    decided = decide((record(0),), standing(record(0), more=(second,)), US)
    assert (decided.changes, decided.conflicts, decided.held) == ((), (), ())


def test_a_naptr_of_somebody_else_does_not_keep_srv_records_out() -> None:
    enum = RRset(D, "NAPTR", 60, ('10 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .',))
    decided = decide((record(0),), Found({enum.key: enum}), US)
    assert [conflict.name for conflict in decided.conflicts] == [D]
    assert (decided.held, shape(decided.changes)) == ((), [("add", f"demo-0.{D}"), ("add", f"_sip._udp.{D}")])


def test_records_of_another_cluster_are_not_removed_with_ours() -> None:
    theirs = standing(record(5), owner=THEM)
    assert decide((), theirs, US).changes == ()
    assert decide((), theirs, THEM).changes != ()


def test_a_cluster_made_anew_under_the_same_name_is_another_owner() -> None:
    again = replace(US, uid="33333333-0000-4000-8000-000000000000")
    assert {conflict.name for conflict in decide((record(0),), standing(record(0)), again).conflicts} == {
        D,
        f"_sip._udp.{D}",
        f"demo-0.{D}",
    }
