"""Stock SIPp through two proxies at one address with a store: "calls kept" in signalling, without a supervisor.

SIPp's caller sends its requests within the dialog without a Route, and its callee answers to the source of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.peers.fleet import ProxyPair, Shares
from tests.integration.peers.probe import Address
from tests.integration.peers.process import wait_for
from tests.integration.peers.redis_server import RedisServer
from tests.integration.peers.sipp import SippLoad, SippOutcome, run_sipp

LOAD = SippLoad(calls=1000, rate=100, hold_ms=5000, limit=60)


@dataclass
class Place:
    """A pair of proxies and what a SIPp run through it needs."""

    pair: ProxyPair
    callee: Address
    source: str
    work: Path

    def run(self, load: SippLoad, during: Callable[[object], None] = lambda caller: None) -> SippOutcome:
        return run_sipp(
            self.work / "sipp", load, proxy=self.pair.address, callee=self.callee, source=self.source, during=during
        )


@pytest.fixture
def place(tmp_path: Path, redis_server: RedisServer, loopback_address: Callable[[], str]) -> Iterator[Place]:
    address, callee = (loopback_address(), 5060), (loopback_address(), 5080)
    pods = [loopback_address(), loopback_address()]
    with ProxyPair(tmp_path, address, pods, redis_server.url, callee[0], callee) as pair:
        yield Place(pair, callee, loopback_address(), tmp_path)


def test_a_thousand_stock_calls_at_a_hundred_a_second_all_succeed(place: Place) -> None:
    seen: list[Shares] = []

    def look(caller: object) -> None:
        wait_for(lambda: place.pair.shares().total >= 400, 20, "400 calls are up", interval=0.2)
        seen.append(place.pair.shares())

    outcome = place.run(LOAD, look)
    assert outcome.status == 0, str(outcome)
    assert (outcome.counters.successful, outcome.counters.failed) == (1000, 0), str(outcome)
    assert (outcome.verdict.kept, outcome.verdict.lost, outcome.verdict.never_answered) == (1000, {}, {}), str(outcome)
    assert min(seen[0].active.values()) >= seen[0].total / 5, f"both proxies carry calls: {seen[0]}"


def test_every_answered_call_ends_when_the_busier_proxy_is_killed_under_500(place: Place) -> None:
    killed: list[Shares] = []

    def kill_the_busier(caller: object) -> None:
        wait_for(lambda: place.pair.shares().total >= 480, 30, "480 calls are up", interval=0.2)
        killed.append(place.pair.shares())
        place.pair.kill(killed[0].busier)

    outcome = place.run(LOAD, kill_the_busier)
    print(f"killed {killed[0].busier} of {killed[0].active}\n{outcome}")
    assert killed[0].active[killed[0].busier] >= 240
    assert outcome.verdict.lost == {}, str(outcome)
    assert outcome.verdict.answered >= 990, str(outcome)
