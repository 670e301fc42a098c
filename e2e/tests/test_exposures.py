"""Calls are kept under the other exposures too while a version is rolled out: on host network, where each proxy has an
address of its own, and under `clusterIP`, with callers inside the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import layout, network
from e2e.cluster.cluster import Cluster
from e2e.harness.calls import Outside, act, passed
from e2e.harness.fleet import Fleet
from e2e.tests.conftest import NEXT, network_of
from e2e.tests.test_calls_roll import roll, rolled
from e2e.tests.test_faults import FEW
from sipfleet.calls import CallGenerator

NAMESPACE = "exposed"
GUEST = "guest"
"""A place in the pod network, without a pod."""


@pytest.fixture
def other(installed: Fleet) -> Iterator[Fleet]:
    """A fleet in a namespace of its own, which is not there yet."""
    kubectl = installed.kubectl.within(NAMESPACE)
    yield Fleet(kubectl, installed.helm, callee=installed.callee)
    kubectl.attempt("delete", "sipclusters,mediapools", "--all", timeout=120)
    kubectl("delete", "namespace", NAMESPACE, "--wait", timeout=180)


@pytest.fixture
def guest(cluster: Cluster) -> Iterator[str]:
    """The address of a place inside the cluster."""
    yield network.make_guest(GUEST, cluster.nodes[-1])
    network.remove_place(GUEST)


def serve(fleet: Fleet) -> None:
    fleet.namespace()
    fleet.apply()
    fleet.until_settled()


def roll_under_calls(fleet: Fleet, place: Outside, name: str) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("roll", NEXT)
        await act(roll, fleet, NEXT)
        await act(rolled, fleet, NEXT)
        calls.mark("rolled", NEXT)

    passed(place.play(name, deed, events=("roll",), **FEW))


def test_a_roll_on_host_network(other: Fleet, results: Path, cluster: Cluster) -> None:
    """Nobody calls a proxy that is leaving by its address: who looks it up in DNS is not sent there any more."""
    other.exposure, other.profile = "hostNetwork", "privileged"
    other.ports = {"mode": "range", "min": 20000, "max": 21999}
    serve(other)
    assert other.address in {node.address for node in cluster.nodes}
    world = network_of("world")
    roll_under_calls(other, Outside(other, world, world, results), "roll_host_network")


def test_a_roll_under_cluster_ip(other: Fleet, results: Path, guest: str) -> None:
    other.exposure, other.callee = "clusterIP", (guest, 7070)
    serve(other)
    inside = str(layout.namespace_path(GUEST))
    roll_under_calls(other, Outside(other, inside, inside, results), "roll_cluster_ip")
