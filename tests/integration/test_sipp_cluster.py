"""Stock SIPp through `sipfleet up` at the cluster's address: nothing fails, also when the busier proxy is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.peers.cluster import Cluster
from tests.integration.peers.fleet import Shares
from tests.integration.peers.probe import Address
from tests.integration.peers.process import wait_for
from tests.integration.peers.sipp import SippLoad, SippOutcome, run_sipp

LOAD = SippLoad(calls=1000, rate=100, hold_ms=5000, limit=60)


@pytest.fixture
def callee(loopback_address: Callable[[], str]) -> Address:
    return loopback_address(), 5080


@pytest.fixture
def cluster(tmp_path: Path, loopback_net: Callable[[], str], callee: Address) -> Iterator[Cluster]:
    with Cluster(tmp_path, loopback_net(), callee[0], callee) as cluster:
        yield cluster


def run(
    cluster: Cluster, work: Path, callee: Address, source: str, during: Callable[[object], None] = lambda caller: None
) -> SippOutcome:
    return run_sipp(work / "sipp", LOAD, proxy=cluster.address, callee=callee, source=source, during=during)


def test_a_thousand_stock_calls_through_the_cluster_all_succeed(
    cluster: Cluster, tmp_path: Path, callee: Address, loopback_address: Callable[[], str]
) -> None:
    outcome = run(cluster, tmp_path, callee, loopback_address())
    assert outcome.status == 0, str(outcome)
    assert (outcome.counters.successful, outcome.counters.failed) == (1000, 0), str(outcome)
    assert (outcome.verdict.kept, outcome.verdict.lost, outcome.verdict.never_answered) == (1000, {}, {}), str(outcome)


def test_every_answered_call_ends_when_the_busier_proxy_of_the_cluster_is_killed(
    cluster: Cluster, tmp_path: Path, callee: Address, loopback_address: Callable[[], str]
) -> None:
    killed: list[Shares] = []

    def kill_the_busier(caller: object) -> None:
        wait_for(lambda: cluster.shares().total >= 450, 30, "450 calls are up", interval=0.2)
        killed.append(cluster.shares())
        cluster.kill_pod(killed[0].busier)

    outcome = run(cluster, tmp_path, callee, loopback_address(), kill_the_busier)
    print(f"killed {killed[0].busier} of {killed[0].active}\n{outcome}")
    assert killed[0].active[killed[0].busier] >= killed[0].total / 2 > 0
    assert outcome.verdict.lost == {}, str(outcome)
    assert outcome.verdict.answered >= 990, str(outcome)
