"""What an exposure comes to, and which manifests it cannot serve."""

from __future__ import annotations

import pytest

from sipfleet.kubernetes.exposures import AUTO_WAIT, problem, resolve

from .scenes import cluster, pool


@pytest.mark.parametrize("kind", ["auto", "clusterIP", "loadBalancer", "hostNetwork"])
def test_every_exposure_but_the_virtual_address_is_served(kind: str) -> None:
    assert problem(cluster(exposure={"type": kind})) is None


def test_a_virtual_address_is_refused_with_what_is_allowed() -> None:
    found = problem(cluster(exposure={"type": "virtualIP", "address": "198.51.100.7"}))
    assert found is not None
    assert found[0] == "ExposureNotSupported"
    assert "spec.exposure.type: 'virtualIP' given" in found[1]
    assert "hostNetwork" in found[1]


def test_a_service_has_no_port_range() -> None:
    ranged = {"mode": "range", "min": 20000, "max": 29999}
    found = problem(pool(ports=ranged))
    assert found is not None
    assert found[0] == "PortsNotSupported"
    assert problem(pool(ports=ranged, exposure={"type": "hostNetwork"})) is None
    assert problem(pool()) is None


def test_what_is_asked_for_is_what_is_done() -> None:
    assert resolve("hostNetwork", None, False, 0.0) == "hostNetwork"
    assert resolve("clusterIP", "loadBalancer", True, 0.0) == "clusterIP"


def test_auto_takes_the_load_balancer_when_it_gives_an_address_in_time() -> None:
    assert resolve("auto", None, False, 1.0) is None, "it waits"
    assert resolve("auto", None, True, 1.0) == "loadBalancer"
    assert resolve("auto", None, False, AUTO_WAIT) == "clusterIP"


def test_what_auto_has_come_to_stays_whatever_comes_later() -> None:
    assert resolve("auto", "clusterIP", True, 1.0) == "clusterIP"
    assert resolve("auto", "loadBalancer", False, 1000.0) == "loadBalancer"
