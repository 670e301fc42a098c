"""Which manifests can run together on one machine."""

from __future__ import annotations

import pytest

from sipfleet.api import ManifestError, Resource, load_manifests, validated
from sipfleet.local.manifests import check_fixed, check_fleet, unused


def cluster(name: str = "demo", pools: str = "[]", more: str = "") -> list[Resource]:
    return load_manifests(
        f"{{apiVersion: sipfleet.io/v1alpha1, kind: SipCluster, metadata: {{name: {name}}}, "
        f"spec: {{replicas: 1, domains: [example.test], mediaPools: {pools}{more}}}}}"
    )


def pool(name: str = "media", more: str = "") -> list[Resource]:
    return load_manifests(
        f"{{apiVersion: sipfleet.io/v1alpha1, kind: MediaPool, metadata: {{name: {name}}}, "
        f"spec: {{replicas: 1{more}}}}}"
    )


def faults(present: list[Resource], given: list[Resource]) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        check_fleet(present, given)
    return caught.value.lines


def test_a_cluster_with_its_pools_is_fine_and_so_is_a_pool_alone() -> None:
    check_fleet([], cluster(pools="[media]") + pool())
    check_fleet([], pool())


def test_a_zone_to_publish_in_is_said_to_be_unused_here() -> None:
    for more, field in (("rfc2136: {server: 192.0.2.53}", "rfc2136"), ("externalDNS: {}", "externalDNS")):
        (resource,) = cluster(more=f", dns: {{{more}}}")
        told = f"spec.dns.{field} is ignored: the local runtime only shows records (sipfleet get srv)"
        assert unused(resource) == ("DnsNotPublished", told)
    assert [unused(resource) for resource in (*cluster(more=", dns: {ttl: 5}"), *pool())] == [None, None]


def test_a_prometheus_is_said_to_be_unused_here_beside_what_else_is() -> None:
    told = "spec.autoscale.prometheus is ignored: the local runtime knows the load from leases"
    wire = pool()[0].to_wire()
    wire["spec"] = {"autoscale": {"min": 1, "max": 2, "prometheus": {"url": "http://192.0.2.9:9090"}}}
    assert unused(validated(wire)) == ("PrometheusNotRead", told)
    wire = cluster(more=", dns: {externalDNS: {}}")[0].to_wire()
    wire["spec"] |= {"autoscale": {"min": 1, "max": 2, "prometheus": {"url": "http://192.0.2.9:9090"}}}
    del wire["spec"]["replicas"]
    reason, message = unused(validated(wire)) or ("", "")
    assert (reason, message.split("; ")[1]) == ("DnsNotPublished", told)


def test_a_pool_that_runs_already_may_be_named() -> None:
    check_fleet(pool(), cluster(pools="[media]"))


def test_all_that_is_wrong_is_said_at_once() -> None:
    lines = faults(
        [],
        cluster(pools="[absent]")
        + cluster("other")
        + pool("demo")
        + pool("x", ", exposure: {type: virtualIP, address: 127.1.1.1}"),
    )
    assert [line.split(" given")[0] for line in lines] == [
        "local: SipCluster/other metadata.name: other",
        "local: SipCluster/demo metadata.name: demo",
        "local: SipCluster/demo spec.mediaPools[0]: absent",
        "local: MediaPool/x spec.exposure.address: 127.1.1.1",
    ]
    assert "allowed: MediaPools of its namespace: demo, x" in lines[2]


def test_a_second_cluster_beside_one_that_runs_is_refused() -> None:
    assert faults(cluster(), cluster("other")) == [
        "local: SipCluster/other metadata.name: other given, allowed: one SipCluster at a time; demo is it"
    ]


def test_all_manifests_name_the_same_store() -> None:
    lines = faults([], cluster() + pool(more=", store: {url: 'redis://127.0.0.1:6379'}"))
    assert len(lines) == 2
    assert all("allowed: the same store in all manifests" in line for line in lines)


def test_nothing_at_all_is_refused() -> None:
    assert faults([], []) == ["local: no manifest given, allowed: a SipCluster, a MediaPool or both"]


def test_address_and_store_of_a_running_cluster_stay() -> None:
    wanted = cluster(more=", exposure: {type: virtualIP, address: 127.9.9.9}, store: {url: 'redis://127.0.0.1:6379'}")
    with pytest.raises(ManifestError) as caught:
        check_fixed(wanted, "127.20.0.1", None)
    assert caught.value.lines == [
        "local: SipCluster/demo spec.exposure.address: 127.9.9.9 given, allowed: 127.20.0.1 until the next sipfleet up",
        "local: SipCluster/demo spec.store: redis://127.0.0.1:6379 given, allowed: managed until the next sipfleet up",
    ]
    check_fixed(cluster(), "127.20.0.1", None)
