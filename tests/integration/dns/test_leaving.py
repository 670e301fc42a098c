"""A record leaves before its pod does (DESIGN 5): the planner and a real zone, one after the other."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sipfleet.dns import Published, Tsig, publish, published
from sipfleet.plan import Cordon, DrainStart, Kind, Observed, PublishSrv, RemoveSlot, SrvPolicy, plan
from tests.integration.dns.client import ask
from tests.integration.dns.clusters import KEY, cluster
from tests.integration.peers.nameserver import SECRET, NameServer
from tests.unit.plan.scenes import NOW, STANDING, leaving, look, pod, wish

POLICY = SrvPolicy(("example.test",), (("UDP", 5060),), shared=False, ttl=30)
ONE = wish(Kind.PROXY, replicas=1, srv=POLICY)
DRAINED = replace(STANDING, drains=(DrainStart(1, "u1", NOW - 60),))
"""Its drain began long enough ago for every cache to have forgotten it."""


def targets(primary: NameServer) -> list[str]:
    return sorted(rdata.target.to_text() for rdata in ask(primary, "_sip._udp.example.test", "SRV"))


def published_in(primary: NameServer, observed: Observed, key: Tsig = KEY) -> Published:
    """Carry out the `PublishSrv` of this plan."""
    (action,) = (one for one in plan(ONE, observed, NOW).actions if isinstance(one, PublishSrv))
    return asyncio.run(publish(cluster(primary, name=ONE.name), action.records, key))


def removes(observed: Observed) -> bool:
    return any(isinstance(action, RemoveSlot) for action in plan(ONE, observed, NOW).actions)


def both(primary: NameServer) -> Published:
    two = replace(ONE, replicas=2)
    (action,) = (one for one in plan(two, look(pod(0), pod(1)), NOW).actions if isinstance(one, PublishSrv))
    return asyncio.run(publish(cluster(primary, name=ONE.name), action.records, KEY))


def test_the_record_goes_first_then_the_pod(primary: NameServer) -> None:
    stands = both(primary).records
    assert stands is not None
    assert targets(primary) == [f"{ONE.name}-0.example.test.", f"{ONE.name}-1.example.test."]
    first = plan(ONE, look(pod(0), pod(1), published=stands), NOW).actions
    assert [type(action) for action in first[:2]] == [PublishSrv, Cordon], "delisted before it is cordoned"
    empty = look(pod(0), leaving(1), status=DRAINED, published=stands)
    assert not removes(empty), "DNS still names it"
    after = published_in(primary, empty)
    assert targets(primary) == [f"{ONE.name}-0.example.test."]
    assert after.records is not None
    assert removes(replace(empty, published=after.records))


def test_a_pod_stays_while_the_name_server_refuses_to_forget_it(primary: NameServer) -> None:
    stands = both(primary).records
    assert stands is not None
    empty = look(pod(0), leaving(1), status=DRAINED, published=stands)
    refused = published_in(primary, empty, Tsig.of_text("reader", "hmac-sha256", SECRET))
    assert refused.problems
    assert refused.records == stands
    assert not removes(replace(empty, published=refused.records))


def test_an_operator_that_starts_anew_learns_from_the_zone_who_is_named(primary: NameServer) -> None:
    stands = both(primary).records
    found = asyncio.run(published(cluster(primary, name=ONE.name), KEY))
    assert found.records == stands
    assert not removes(look(pod(0), leaving(1), status=DRAINED, published=found.records or ()))
