"""Records in a real zone: they come, change and go with the pods, and nothing else is touched (DESIGN 5)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import dns.query
import dns.update

from sipfleet.dns import ZONES_ANNOTATION, publish, published, unpublish
from sipfleet.plan import SrvRecord
from tests.integration.dns.client import ask, in_order, locate
from tests.integration.dns.clusters import KEY, cluster, record
from tests.integration.peers.nameserver import NameServer


def by_hand(primary: NameServer, *changes: tuple[str, str, str], zone: str = "example.test") -> None:
    """What an administrator does: (`add` or `delete`, name, `TTL type data` or `type`)."""
    message = dns.update.UpdateMessage(zone, keyring=KEY.key)
    for verb, name, text in changes:
        if verb == "add":
            ttl, kind, data = text.split(maxsplit=2)
            message.add(name, int(ttl), kind, data)
        else:
            message.delete(name, text)
    assert dns.query.tcp(message, primary.address, 2, primary.port).rcode() == 0


def test_a_caller_finds_the_pods_their_weights_and_no_pod_that_has_left(primary: NameServer) -> None:
    async def scene() -> None:
        mine, dice = cluster(primary), random.Random(1)
        both = (record(0), record(1))
        done = await publish(mine, both, KEY)
        assert (done.records, done.problems, done.changed) == (both, (), 4)
        assert sorted(locate(primary, "example.test", dice)) == [("198.51.100.10", 5060), ("198.51.100.11", 5060)]
        lighter = (record(0), record(1, weight=20))
        assert (await publish(mine, lighter, KEY)).records == tuple(sorted(lighter))
        assert sorted(rdata.to_text() for rdata in ask(primary, "_sip._udp.example.test", "SRV")) == [
            "0 100 5060 demo-0.example.test.",
            "0 20 5060 demo-1.example.test.",
        ]
        assert (await publish(mine, (record(0),), KEY)).records == (record(0),)
        assert locate(primary, "example.test", dice) == [("198.51.100.10", 5060)]
        assert not [line for line in primary.records() if "demo-1" in line]
        assert (await published(mine, KEY)).records == (record(0),)

    asyncio.run(scene())


def test_what_stands_already_is_not_written_again(primary: NameServer) -> None:
    async def scene() -> None:
        mine, both = cluster(primary), (record(0), record(1))
        await publish(mine, both, KEY)
        serial = primary.serial()
        again = await publish(mine, both, KEY)
        assert (again.records, again.changed, primary.serial()) == (both, 0, serial)

    asyncio.run(scene())


def test_three_to_one_weights_give_three_quarters_of_the_calls(primary: NameServer) -> None:
    asyncio.run(publish(cluster(primary), (record(0, weight=75), record(1, weight=25)), KEY))
    dice = random.Random(20)
    records = ask(primary, "_sip._udp.example.test", "SRV")
    first = [next(in_order(records, dice)).target.to_text() for _ in range(5000)]
    assert abs(first.count("demo-0.example.test.") / len(first) - 0.75) <= 0.03


def test_foreign_records_stay_as_they_were_and_nothing_of_ours_is_left_at_the_end(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records()
        mine = cluster(primary)
        await publish(mine, (record(0), record(1)), KEY)
        assert primary.records() > before
        await publish(mine, (record(1, weight=30), record(2)), KEY)
        assert primary.records() > before
        gone = await unpublish(mine, KEY)
        assert (gone.records, gone.problems) == ((), ())
        assert primary.records() == before

    asyncio.run(scene())


def test_a_record_beside_each_name_says_whose_it_is_and_a_list_what_there_is(primary: NameServer) -> None:
    asyncio.run(publish(cluster(primary), (record(0),), KEY))
    (mark,) = ask(primary, "_sipfleet.demo-0.example.test", "TXT")
    uid = cluster(primary).metadata.uid
    assert mark.to_text() == f'"heritage=sipfleet,owner=voice/demo/{uid},types=A"'
    assert [line.split('"')[1] for line in primary.records() if '"domain=' in line] == ["domain=example.test."]


def test_a_name_that_somebody_has_is_reported_and_left_and_no_call_is_sent_there(primary: NameServer) -> None:
    async def scene() -> None:
        by_hand(primary, ("add", "demo-1", "60 A 192.0.2.7"))
        before = primary.records()
        done = await publish(cluster(primary), (record(0), record(1)), KEY)
        assert done.records == (record(0),)
        (problem,) = done.problems
        assert (problem.zone, problem.reason) == ("example.test.", "Conflict")
        assert problem.message == "demo-1.example.test. is not ours: A 192.0.2.7 is there without our mark"
        assert primary.records() > before
        by_hand(primary, ("delete", "demo-1", "A"))
        assert (await publish(cluster(primary), (record(0), record(1)), KEY)).records == (record(0), record(1))

    asyncio.run(scene())


def test_an_alias_a_delegation_and_other_srv_records_are_in_the_way(primary: NameServer) -> None:
    async def scene() -> None:
        domains = ("alias.example.test", "sip.away.example.test", "taken.example.test")
        by_hand(primary, ("add", "_sip._udp.taken", "60 SRV 0 0 5060 www"))
        before = primary.records()
        mine = cluster(primary, domains=domains, zone="example.test")
        wish = tuple(record(0, domain=domain) for domain in domains)
        done = await publish(mine, wish, KEY)
        assert [problem.message for problem in done.problems] == [
            "_sip._udp.sip.away.example.test. is not ours: the zone is cut at away.example.test., "
            "NS ns.away.example.test. is there without our mark",
            "_sip._udp.taken.example.test. is not ours: SRV 0 0 5060 www.example.test. is there without our mark",
            "alias.example.test. is not ours: CNAME www.example.test. is there without our mark",
            "demo-0.sip.away.example.test. is not ours: the zone is cut at away.example.test., "
            "NS ns.away.example.test. is there without our mark",
            "sip.away.example.test. is not ours: the zone is cut at away.example.test., "
            "NS ns.away.example.test. is there without our mark",
        ]
        assert done.records == (record(0, domain="alias.example.test"),), "only its NAPTR is in the way"
        assert primary.records() > before
        await unpublish(mine, KEY)
        assert primary.records() == before

    asyncio.run(scene())


def test_two_clusters_share_a_zone_and_each_takes_away_its_own(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records()
        ones = {
            name: cluster(primary, name=name, domains=(f"{name}.example.test",), zone="example.test") for name in "ab"
        }
        wishes = {name: (record(0, name=name, domain=f"{name}.example.test"),) for name in "ab"}
        for name, one in ones.items():
            assert (await publish(one, wishes[name], KEY)).records == wishes[name]
        assert (await unpublish(ones["a"], KEY)).records == ()
        assert (await published(ones["b"], KEY)).records == wishes["b"]
        await unpublish(ones["b"], KEY)
        assert primary.records() == before

    asyncio.run(scene())


def test_a_domain_is_published_by_the_first_cluster_until_it_goes(primary: NameServer) -> None:
    async def scene() -> None:
        first, second = cluster(primary, name="first"), cluster(primary, name="second")
        await publish(first, (record(0, name="first"),), KEY)
        late = await publish(second, (record(0, name="second"),), KEY)
        assert late.records == ()
        owner = f"voice/first/{first.metadata.uid}"
        assert [problem.message for problem in late.problems] == [
            f"_sip._udp.example.test. is not ours: {owner} publishes it (_sipfleet._sip._udp.example.test.)",
            f"example.test. is not ours: {owner} publishes it (_sipfleet.example.test.)",
        ]
        assert not [line for line in primary.records() if "second" in line]
        await unpublish(first, KEY)
        assert (await publish(second, (record(0, name="second"),), KEY)).problems == ()

    asyncio.run(scene())


def test_writers_at_the_same_time_end_in_the_records_of_one_of_them(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records()
        mine = cluster(primary)
        wishes = [(record(0, weight=10 + turn), record(turn)) for turn in range(1, 6)]
        done = await asyncio.gather(*(publish(mine, wish, KEY) for wish in wishes))
        assert {problem.reason for one in done for problem in one.problems} <= {"ZoneChanges", "NotStanding"}
        stands = (await published(mine, KEY)).records
        assert stands in [tuple(sorted(wish)) for wish in wishes]
        await unpublish(mine, KEY)
        assert primary.records() == before

    asyncio.run(scene())


def test_ten_clusters_at_once_in_one_zone_do_not_hinder_each_other(primary: NameServer) -> None:
    async def scene() -> None:
        names = [f"c{number}" for number in range(10)]
        ones = [cluster(primary, name=name, domains=(f"{name}.example.test",), zone="example.test") for name in names]
        wishes = [(record(0, name=name, domain=f"{name}.example.test"),) for name in names]
        done = await asyncio.gather(*(publish(one, wish, KEY) for one, wish in zip(ones, wishes, strict=True)))
        assert [one.problems for one in done] == [()] * 10
        assert [one.records for one in done] == wishes

    asyncio.run(scene())


def test_what_was_changed_by_hand_is_seen_and_put_right(primary: NameServer) -> None:
    async def scene() -> None:
        mine, both = cluster(primary), (record(0), record(1))
        await publish(mine, both, KEY)
        stands = primary.records()
        by_hand(
            primary,
            ("delete", "demo-1", "A"),
            ("delete", "@", "NAPTR"),
            ("add", "_sip._udp", "30 SRV 0 9 5060 www"),
        )
        seen = await published(mine, KEY)
        assert seen.records is not None
        assert {one.target: one.address for one in seen.records} == {
            "demo-0.example.test.": "198.51.100.10",
            "demo-1.example.test.": "",
            "www.example.test.": "",
        }
        assert (await publish(mine, both, KEY)).records == both
        assert primary.records() == stands

    asyncio.run(scene())


def test_without_its_list_of_domains_all_that_callers_can_find_is_still_found(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records()
        mine, both = cluster(primary), (record(0), record(1))
        await publish(mine, both, KEY)
        (inventory,) = {line.split()[0] for line in primary.records() if '"domain=' in line}
        by_hand(primary, ("delete", inventory, "TXT"))
        assert (await published(mine, KEY)).records == both
        await unpublish(mine, KEY)
        assert primary.records() == before

    asyncio.run(scene())


def test_a_zone_that_the_cluster_has_left_is_emptied_and_forgotten(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records()
        two = cluster(primary, domains=("example.test", "second.test"))
        wish = (record(0), record(0, domain="second.test"))
        done = await publish(two, wish, KEY)
        assert (done.records, done.zones) == (tuple(sorted(wish)), ("example.test.", "second.test."))
        left = {ZONES_ANNOTATION: " ".join((*done.zones, "no.such.example.test."))}
        one = cluster(primary, domains=("second.test",), annotations=left)
        done = await publish(one, wish[1:], KEY)
        assert (done.records, done.problems, done.zones) == (wish[1:], (), ("second.test.",))
        assert primary.records() == before
        assert len(primary.records("second.test")) > 2

    asyncio.run(scene())


def test_a_zone_below_another_one_is_changed_apart_from_it(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records(), primary.records("deep.example.test")
        mine = cluster(primary, domains=("example.test", "deep.example.test"))
        wish = (record(0), record(0, domain="deep.example.test"))
        for _ in range(2):
            done = await publish(mine, wish, KEY)
            assert (done.problems, done.records) == ((), tuple(sorted(wish)))
        assert (await publish(mine, wish[:1], KEY)).records == wish[:1]
        assert primary.records("deep.example.test") == before[1]
        await unpublish(mine, KEY)
        assert (primary.records(), primary.records("deep.example.test")) == before

    asyncio.run(scene())


def test_more_names_than_a_message_holds_go_in_several(primary: NameServer) -> None:
    async def scene() -> None:
        before = primary.records()
        domains = tuple(f"{'a-rather-long-name-of-a-domain.' * 4}d{number}.example.test" for number in range(32))
        mine = cluster(primary, domains=domains, zone="example.test")
        wish = tuple(sorted(record(pod, domain=domain) for domain in domains for pod in range(2)))
        serial = primary.serial()
        done = await publish(mine, wish, KEY)
        assert (done.problems, done.records) == ((), wish)
        assert primary.serial() >= serial + 2
        less = tuple(replace(one, weight=50) for one in wish if "-0." in one.target)
        assert (await publish(mine, less, KEY)).records == less
        await unpublish(mine, KEY)
        assert primary.records() == before

    asyncio.run(scene())


def test_addresses_of_both_families_and_the_address_that_pods_share(primary: NameServer) -> None:
    async def scene() -> None:
        shared = SrvRecord("_sip._udp.second.test.", "demo.second.test.", 5060, "2001:db8::5", ttl=5)
        mine = cluster(primary, domains=("second.test",))
        assert (await publish(mine, (shared,), KEY)).records == (shared,)
        assert [rdata.to_text() for rdata in ask(primary, "demo.second.test", "AAAA")] == ["2001:db8::5"]
        other = replace(shared, address="192.0.2.5")
        assert (await publish(mine, (other,), KEY)).records == (other,)
        assert ask(primary, "demo.second.test", "AAAA") == []

    asyncio.run(scene())
