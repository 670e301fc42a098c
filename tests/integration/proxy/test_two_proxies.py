"""Two `sipproxy` at one address with a real store: an owner killed, drained, and a store killed, with calls up."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.peers.fleet import ProxyPair, status_of
from tests.integration.peers.process import wait_for
from tests.integration.peers.redis_server import RedisServer
from tests.integration.proxy.phones import Line, Phone

DOMAIN = "example.test"
CALLS = 24


class Place:
    """The pair, its store, and calls of which each has sockets of its own."""

    def __init__(self, pair: ProxyPair, store: RedisServer, callee: tuple[str, int], caller: str) -> None:
        self.pair, self.store = pair, store
        self.bob = Phone(callee)
        self.caller = caller
        self.lines: list[Line] = []

    def call(self, count: int, prefix: str = "c") -> list[Line]:
        made = []
        for i in range(count):
            alice = Phone((self.caller, 0), self.pair.address)
            # Every other one as SIPp does it: without a Route.
            made.append(Line(alice, self.bob, DOMAIN, f"{prefix}{i}", route=bool(i % 2)).up())
        self.lines += made
        return made

    def close(self) -> None:
        self.bob.socket.close()
        for line in self.lines:
            line.alice.socket.close()

    def cdrs(self) -> list[str]:
        with redis.Redis.from_url(self.store.url) as client:
            entries = client.xrange("sf:default/pair:cdr")
            return sorted(fields[b"cdr"].decode().split('"call_id":"')[1].split('"')[0] for _, fields in entries)

    def ids(self) -> list[str]:
        return sorted(line.call_id for line in self.lines)


@pytest.fixture
def place(tmp_path: Path, redis_server: RedisServer, loopback_address: Callable[[], str]) -> Iterator[Place]:
    address, callee = (loopback_address(), 5060), (loopback_address(), 5080)
    pods = [loopback_address(), loopback_address()]
    with ProxyPair(tmp_path, address, pods, redis_server.url, DOMAIN, callee) as pair:
        for proxy in pair.proxies.values():
            proxy_status = proxy.admin
            wait_for(lambda at=proxy_status: bool(status_of(at).get("index")), 5, "it has an index")  # type: ignore[misc]
        place = Place(pair, redis_server, callee, loopback_address())
        yield place
        place.close()


def test_calls_of_a_killed_owner_end_through_the_other_with_one_cdr_each(place: Place) -> None:
    lines = place.call(CALLS)
    shares = place.pair.shares()
    place.pair.kill(shares.busier)
    for line in lines:
        line.down()
    wait_for(lambda: len(place.cdrs()) >= CALLS, 5, "all CDRs are written")
    assert place.cdrs() == place.ids()
    [survivor] = [proxy for proxy in place.pair.proxies.values() if proxy.name != shares.busier]
    assert survivor.active == 0


def test_calls_go_on_without_the_store_and_an_empty_one_gets_them_all(place: Place) -> None:
    lines = place.call(CALLS)
    place.store.kill()
    lines += place.call(4, "without-store")
    lines[0].down()
    place.store.start()
    wait_for(lambda: all(status_of(p.admin)["store"] for p in place.pair.proxies.values()), 5, "both found the store")
    wait_for(lambda: _dialogs(place) >= len(lines) - 1, 5, "everything is written again")
    place.pair.kill(place.pair.shares().busier)
    for line in lines[1:]:
        line.down()
    wait_for(lambda: len(place.cdrs()) >= len(lines), 5, "all CDRs are written")
    assert place.cdrs() == place.ids()


def _dialogs(place: Place) -> int:
    with redis.Redis.from_url(place.store.url) as client:
        return sum(client.getrange(key, 0, 0) == b"D" for key in client.keys("sf:default/pair:dialog:*"))


def test_a_drained_proxy_ends_within_a_second_and_its_calls_go_on(place: Place) -> None:
    lines = place.call(CALLS)
    leaver = place.pair.proxies[place.pair.shares().busier]
    began = time.monotonic()
    os.kill(leaver.pid, signal.SIGTERM)
    assert leaver.wait(5) == 0
    assert time.monotonic() - began < 2
    [stays] = [proxy for proxy in place.pair.proxies.values() if proxy is not leaver]
    assert stays.active == CALLS
    for line in lines + place.call(4, "new"):
        line.down()
    wait_for(lambda: len(place.cdrs()) >= len(place.lines), 5, "all CDRs are written")
    assert place.cdrs() == place.ids()


def test_new_calls_during_a_drain_reach_the_other_proxy(place: Place) -> None:
    place.call(4)
    leaver = place.pair.proxies[place.pair.shares().busier]
    os.kill(leaver.pid, signal.SIGTERM)
    for line in place.call(12, "during"):
        line.down()
    assert leaver.wait(5) == 0


def test_a_drained_proxy_that_is_needed_again_joins_the_selection(place: Place) -> None:
    """connect() to a dummy address takes a socket out of the SO_REUSEPORT group, and undoing it brings it back."""
    zero, one = place.pair.proxies.values()
    assert post(zero.admin, "/drain") == 200
    wait_for(lambda: bool(status_of(zero.admin)["empty"]), 3, "it is empty")
    place.call(12, "drained")
    assert (zero.active, one.active) == (0, 12)
    assert post(zero.admin, "/uncordon") == 200
    wait_for(lambda: not status_of(zero.admin)["draining"], 2, "it is back")
    time.sleep(1.2)  # until the other has read its lease
    assert post(one.admin, "/drain") == 200
    wait_for(lambda: bool(status_of(one.admin)["empty"]), 3, "the other is empty")
    assert zero.active == 12
    place.call(8, "back")
    for line in place.lines:
        line.down()


def post(admin: tuple[str, int], path: str) -> int:
    call = urllib.request.Request(f"http://{admin[0]}:{admin[1]}{path}", method="POST")
    with urllib.request.urlopen(call, timeout=2) as answer:
        return int(answer.status)
