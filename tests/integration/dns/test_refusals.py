"""What a name server refuses, and what the user is told: server, zone, what it said, and what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import dns.message
import pytest

from sipfleet.dns import Problem, Published, Tsig, publish, published
from tests.integration.dns.clusters import KEY, cluster, record
from tests.integration.peers.nameserver import SECRET, NameServer

OTHER_SECRET = "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHHIIIIJJJJKKK="


def told(done: Published) -> Problem:
    (problem,) = done.problems
    return problem


@pytest.mark.parametrize(
    ("key", "reason", "advice"),
    [
        (("other", "hmac-sha256", SECRET), "BadKey", "compare name and algorithm of the key in the Secret"),
        (("sipfleet", "hmac-sha512", SECRET), "BadKey", "it does not know key sipfleet (hmac-sha512), or not"),
        (("sipfleet", "hmac-sha256", OTHER_SECRET), "BadSignature", "the secret of key sipfleet (hmac-sha256) is an"),
    ],
    ids=["name", "algorithm", "secret"],
)
def test_a_wrong_key_is_named_and_its_secret_is_not(
    primary: NameServer, key: tuple[str, str, str], reason: str, advice: str
) -> None:
    before = primary.records()
    wrong = Tsig.of_text(*key)
    for call in (publish(cluster(primary), (record(0),), wrong), published(cluster(primary), wrong)):
        done = asyncio.run(call)
        assert done.records is None, "what stands is not known"
        assert told(done).reason == reason
        assert advice in told(done).message
        assert f"server {primary.address}:{primary.port}, zone example.test.: NOTAUTH" in told(done).message
        assert key[2] not in repr(done)
    assert primary.records() == before


def test_clocks_that_differ_are_told_apart_from_wrong_keys(
    primary: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns.message, "time", SimpleNamespace(time=lambda: time.time() - 4000))
    problem = told(asyncio.run(publish(cluster(primary), (record(0),), KEY)))
    assert problem.reason == "BadTime"
    assert problem.message.endswith("differ by more than 300 s: set them by NTP")


def test_a_key_that_may_not_change_the_zone_leaves_it_readable(primary: NameServer) -> None:
    stands = asyncio.run(publish(cluster(primary), (record(0),), KEY)).records
    before = primary.records()
    done = asyncio.run(publish(cluster(primary), (record(1),), Tsig.of_text("reader", "hmac-sha256", SECRET)))
    assert told(done).reason in ("Refused", "NotAuth", "BadKey")
    assert done.records == stands == (record(0),)
    assert primary.records() == before


def test_without_a_key_the_server_refuses(primary: NameServer) -> None:
    done = asyncio.run(publish(cluster(primary), (record(0),), None))
    assert told(done).reason in ("Refused", "NotAuth")
    assert done.records == ()


def test_a_domain_inside_a_zone_is_told_the_zone(primary: NameServer) -> None:
    inner = cluster(primary, domains=("voice.example.test",))
    problem = told(asyncio.run(publish(inner, (record(0, domain="voice.example.test"),), KEY)))
    assert problem.reason == "WrongZone"
    assert "set spec.dns.zone to example.test, where the domains lie" in problem.message


def test_a_zone_that_the_server_has_not_is_told_and_the_others_are_published(primary: NameServer) -> None:
    both = cluster(primary, domains=("example.test", "elsewhere.invalid"))
    done = asyncio.run(publish(both, (record(0), record(0, domain="elsewhere.invalid")), KEY))
    assert told(done).zone == "elsewhere.invalid."
    assert told(done).reason in ("Refused", "NotAuth", "NotAuthoritative")
    assert done.records is None
    assert asyncio.run(published(cluster(primary), KEY)).records == (record(0),)


def test_a_zone_of_earlier_that_cannot_be_read_hinders_nobody(primary: NameServer) -> None:
    former = cluster(primary, annotations={"sipfleet.io/dns-zones": "elsewhere.invalid. example.test."})
    done = asyncio.run(publish(former, (record(0),), KEY))
    assert done.records == (record(0),)
    assert told(done).zone == "elsewhere.invalid."
    assert done.zones == ("elsewhere.invalid.", "example.test.")


def test_a_server_that_is_down_is_unreachable_and_its_return_is_enough(primary: NameServer) -> None:
    mine = cluster(primary)
    assert asyncio.run(publish(mine, (record(0),), KEY)).records == (record(0),)
    primary.kill()
    began = time.monotonic()
    done = asyncio.run(publish(mine, (record(1),), KEY))
    assert (done.records, told(done).reason) == (None, "Unreachable")
    assert "may the operator reach it?" in told(done).message
    assert time.monotonic() - began < 10
    primary.start()
    assert asyncio.run(published(mine, KEY)).records == (record(0),), "it was written before it was answered"
    assert asyncio.run(publish(mine, (record(1),), KEY)).records == (record(1),)


def test_a_server_that_says_nothing_costs_eight_seconds(loopback_address: Callable[[], str]) -> None:
    async def scene() -> Published:
        loop = asyncio.get_running_loop()
        address = loopback_address()
        silent, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (address, 0))
        try:
            made = cluster(SimpleNamespace(address=address, port=silent.get_extra_info("sockname")[1]))  # type: ignore[arg-type]
            return await publish(made, (record(0),), KEY)
        finally:
            silent.close()

    began = time.monotonic()
    done = asyncio.run(scene())
    assert "no answer within 2 s" in told(done).message
    assert 6 < time.monotonic() - began < 10


def test_a_server_name_that_does_not_resolve_is_told(primary: NameServer) -> None:
    problem = told(asyncio.run(publish(cluster(primary, host="ns1.invalid"), (record(0),), KEY)))
    assert problem.reason == "Unreachable"
    assert "server ns1.invalid:" in problem.message
    assert "a name that resolves" in problem.message


def test_a_server_may_be_called_by_its_name(primary: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> Published:
        loop = asyncio.get_running_loop()

        async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            assert host == "ns1.example.test"
            return [(2, 2, 17, "", ("127.103.255.254", port)), (2, 2, 17, "", (primary.address, port))]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        return await publish(cluster(primary, host="ns1.example.test"), (record(0),), KEY)

    assert asyncio.run(scene()).records == (record(0),)
