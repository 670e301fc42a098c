"""What the planner is told of a resource: the revision above all, because it decides what restarts."""

from __future__ import annotations

from typing import Any

import pytest

from sipfleet.api import ManifestError, desired, revision, scaled, validated
from sipfleet.plan import FreeCapacity, Kind
from tests.unit.api.manifests import CLUSTER, POOL, changed

IN_PLACE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (CLUSTER, {"replicas": 5}),
    (CLUSTER, {"replicas": None, "autoscale": {"min": 1, "max": 3}}),
    (CLUSTER, {"replicas": None, "autoscale": {"min": 1, "max": 3, "prometheus": {"url": "http://192.0.2.9:9090"}}}),
    (CLUSTER, {"domains": ["example.test", "voice.example.test"]}),
    (CLUSTER, {"routing": {"routes": [{"name": "a", "targets": ["sip:127.0.0.1:7070"]}]}}),
    (CLUSTER, {"rollout": {"surge": 2, "drainTimeout": 60}}),
    (CLUSTER, {"dns": {"ttl": 5}}),
    (CLUSTER, {"dns": {"zone": "test", "rfc2136": {"server": "192.0.2.53", "tsigSecretRef": {"name": "key"}}}}),
    (CLUSTER, {"dns": {"externalDNS": {}}}),
    (POOL, {"replicas": 3}),
    (POOL, {"rollout": {"migrateAfter": 300}}),
]
ROLLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (CLUSTER, {"capacity": 100}),
    (CLUSTER, {"mediaPools": ["media"]}),
    (CLUSTER, {"listeners": [{"name": "udp", "port": 5062}]}),
    (CLUSTER, {"exposure": {"type": "virtualIP", "address": "192.0.2.1"}}),
    (CLUSTER, {"version": "0.2.0"}),
    (CLUSTER, {"store": {"url": "redis://192.0.2.2"}}),
    (POOL, {"capacity": 100}),
    (POOL, {"ports": {"mode": "shared", "base": 20000, "count": 16}}),
    (POOL, {"ports": {"min": 20000, "max": 25000}}),
    (POOL, {"interfaces": [{"name": "default", "ipFamilies": ["IPv4", "IPv6"]}]}),
    (POOL, {"timeouts": {"rtp": 30}}),
    (POOL, {"version": "0.2.0"}),
]


def ids(cases: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    return [f"{manifest['kind']} {next(iter(spec))}" for manifest, spec in cases]


@pytest.mark.parametrize(("manifest", "spec"), IN_PLACE, ids=ids(IN_PLACE))
def test_a_change_that_takes_effect_in_place_keeps_the_revision(manifest: dict[str, Any], spec: dict[str, Any]) -> None:
    assert revision(validated(changed(manifest, spec))) == revision(validated(manifest))


@pytest.mark.parametrize(("manifest", "spec"), ROLLS, ids=ids(ROLLS))
def test_a_change_that_needs_new_pods_changes_the_revision(manifest: dict[str, Any], spec: dict[str, Any]) -> None:
    assert revision(validated(changed(manifest, spec))) != revision(validated(manifest))


def test_the_revision_does_not_depend_on_defaults_being_written_out() -> None:
    assert revision(validated(changed(CLUSTER, {"capacity": 2000}))) == revision(validated(CLUSTER))
    written = {"ports": {"mode": "range", "min": 20000, "max": 29999}, "timeouts": {"rtp": 60}}
    assert revision(validated(changed(POOL, written))) == revision(validated(POOL))


def test_the_revision_is_the_same_in_every_release_until_the_fields_change() -> None:
    assert revision(validated(CLUSTER)) == "c8fb8407"
    assert revision(validated(changed(CLUSTER, {"capacity": 100, "version": "0.2.0"}))) == "ed68f7a8"
    assert revision(validated(POOL)) == "3f1c5fa3"


def test_two_kinds_with_the_same_fields_have_different_revisions() -> None:
    assert revision(validated(CLUSTER)) != revision(validated(POOL))


def test_desired_carries_the_spec_over() -> None:
    spec = {
        "replicas": None,
        "autoscale": {"min": 2, "max": 9, "freeCapacity": "25%", "scaleDown": {"window": 60}},
        "rollout": {"surge": 2, "drainTimeout": 600, "drainTimeoutAction": "Cut", "progressDeadline": 20},
        "capacity": 70,
        "dns": {"ttl": 5},
    }
    wish = desired(validated(changed(CLUSTER, spec)), generation=4, deleting=True)
    assert (wish.kind, wish.name, wish.replicas, wish.capacity) == (Kind.PROXY, "demo", None, 70)
    assert wish.autoscale is not None
    assert (wish.autoscale.min, wish.autoscale.max, wish.autoscale.down_window) == (2, 9, 60)
    assert wish.autoscale.free_capacity == FreeCapacity(percent=25)
    assert (wish.autoscale.up_pods, wish.autoscale.up_period) == (4, 15)
    rollout = wish.rollout
    assert (rollout.surge, rollout.drain_timeout, rollout.cut, rollout.progress_deadline) == (2, 600, True, 20)
    assert (wish.generation, wish.deleting) == (4, True)
    assert wish.srv is not None
    assert (wish.srv.domains, wish.srv.services, wish.srv.ttl) == (("example.test",), (("UDP", 5060),), 5)


def test_a_pool_has_no_srv_records_and_counts_free_sessions() -> None:
    wish = desired(validated(changed(POOL, {"replicas": None, "autoscale": {"min": 1, "max": 2, "freeCapacity": 30}})))
    assert (wish.kind, wish.srv) == (Kind.RELAY, None)
    assert wish.autoscale is not None
    assert wish.autoscale.free_capacity == FreeCapacity(amount=30)


@pytest.mark.parametrize(
    ("exposure", "shared"), [("auto", True), ("virtualIP", True), ("loadBalancer", True), ("hostNetwork", False)]
)
def test_the_exposure_says_whether_pods_share_an_address_unless_the_runtime_knows_better(
    exposure: str, shared: bool
) -> None:
    address = {"address": "192.0.2.1"} if exposure == "virtualIP" else {}
    cluster = validated(changed(CLUSTER, {"exposure": {"type": exposure, **address}}))
    for given, expected in ((None, shared), (False, False), (True, True)):
        srv = desired(cluster, shared_address=given).srv
        assert srv is not None
        assert srv.shared is expected


def test_generation_and_deletion_come_from_the_metadata_where_the_runtime_does_not_say() -> None:
    manifest = changed(CLUSTER, {})
    manifest["metadata"] |= {"generation": 7, "deletionTimestamp": "2025-01-01T00:00:00Z"}
    wish = desired(validated(manifest))
    assert (wish.generation, wish.deleting) == (7, True)


def test_what_cannot_be_followed_is_said_in_accepted() -> None:
    migrate = desired(validated(changed(POOL, {"rollout": {"migrateAfter": 60}})))
    assert (migrate.accepted, migrate.accepted_reason) == (True, "MigrationNotAvailable")
    remark = ("DnsNotPublished", "no zone here")
    both = desired(validated(changed(CLUSTER, {"rollout": {"migrateAfter": 60}})), remark=remark)
    assert (both.accepted, both.accepted_reason) == (True, "MigrationNotAvailable")
    assert both.accepted_message == "migrateAfter is ignored: a drain waits for its calls to end; no zone here"
    unused = desired(validated(CLUSTER), remark=remark)
    assert (unused.accepted, unused.accepted_reason, unused.accepted_message) == (True, *remark)
    problem = desired(validated(POOL), problem=("Refused", "spec.x: y"))
    assert (problem.accepted, problem.accepted_reason, problem.accepted_message) == (False, "Refused", "spec.x: y")


def test_scaling_makes_an_automatic_set_manual_and_is_refused_like_a_manifest() -> None:
    automatic = validated(changed(CLUSTER, {"replicas": None, "autoscale": {"min": 1, "max": 3}}))
    by_hand = scaled(automatic, 5)
    assert (by_hand.spec.replicas, by_hand.spec.autoscale) == (5, None)
    with pytest.raises(ManifestError, match=r"SipCluster/demo spec.replicas: -1 given, allowed: a whole number"):
        scaled(automatic, -1)
