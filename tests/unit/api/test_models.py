"""What a manifest may say. Every refusal names the field, what was given and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sipfleet.api import MediaPool, SipCluster, validated
from tests.unit.api.manifests import CLUSTER, POOL, changed, faults

ROUTE = {"name": "a", "targets": ["sip:127.0.0.1:7070"]}

REFUSED: list[tuple[dict[str, Any], dict[str, Any], tuple[str, str, str]]] = [
    (CLUSTER, {"replicas": "2"}, ("spec.replicas", '"2"', "a whole number from 0 to 1000")),
    (CLUSTER, {"replicas": 2.0}, ("spec.replicas", "2.0", "a whole number from 0 to 1000")),
    (CLUSTER, {"replicas": True}, ("spec.replicas", "true", "a whole number from 0 to 1000")),
    (CLUSTER, {"replicas": -1}, ("spec.replicas", "-1", "a whole number from 0 to 1000")),
    (CLUSTER, {"replicas": None}, ("spec.replicas", "nothing", "exactly one of replicas and autoscale")),
    (
        CLUSTER,
        {"autoscale": {"min": 1, "max": 2}},
        ("spec.replicas", "2", "exactly one of replicas and autoscale"),
    ),
    (
        CLUSTER,
        {"replicas": None, "autoscale": {"min": 3, "max": 2}},
        ("spec.autoscale.max", "2", "max not less than min"),
    ),
    (
        CLUSTER,
        {"replicas": None, "autoscale": {"min": 1, "max": 2, "freeCapacity": "120%"}},
        ("spec.autoscale.freeCapacity", '"120%"', 'a whole number from 0 to 1000000, or "1%" to "99%"'),
    ),
    *(
        (
            CLUSTER,
            {"replicas": None, "autoscale": {"min": 1, "max": 2, "prometheus": {"url": url}}},
            (
                "spec.autoscale.prometheus.url",
                f'"{url}"',
                "http://HOST:PORT/PATH or https:// without credentials and parameters, at most 300 characters",
            ),
        )
        for url in ("ftp://a", "prometheus:9090", "http://me:secret@a:9090", "http://a:9090/?token=b", "http://")
    ),
    (
        POOL,
        {"replicas": None, "autoscale": {"min": 1, "max": 2, "prometheus": {"url": "http://a", "query": ""}}},
        ("spec.autoscale.prometheus.query", '""', "a text, at most 1000 characters"),
    ),
    (CLUSTER, {"domains": None}, ("spec.domains", "nothing", "a list of 1 to 64 entries")),
    (CLUSTER, {"domains": []}, ("spec.domains", "an empty list", "a list of 1 to 64 entries")),
    (CLUSTER, {"domains": ["a", "a"]}, ("spec.domains", '["a", "a"]', "each domain once")),
    (
        CLUSTER,
        {"domains": ["Example.test"]},
        (
            "spec.domains[0]",
            '"Example.test"',
            "a domain name in lower-case letters, such as example.test, at most 253 characters",
        ),
    ),
    (
        CLUSTER,
        {"listeners": [{"name": "a", "transport": "TCP"}]},
        ("spec.listeners[0].transport", '"TCP"', "UDP"),
    ),
    (
        CLUSTER,
        {"listeners": [{"name": "a"}, {"name": "b"}]},
        ("spec.listeners", '[{"name": "a"}, {"name": "b"}]', "one listener per transport and port"),
    ),
    (
        CLUSTER,
        {"listeners": [{"name": "a"}, {"name": "a", "port": 5070}]},
        ("spec.listeners", '[{"name": "a"}, {"name": "a", "port": 5070}]', "listeners with different names"),
    ),
    (
        CLUSTER,
        {"routing": {"routes": [{**ROUTE, "domain": "other.test"}]}},
        (
            "spec.routing.routes",
            '[{"name": "a", "targets": ["sip:127.0.0.1:7070"], "domain...',
            "routes for domains of spec.domains only (the cluster is no open relay)",
        ),
    ),
    (
        CLUSTER,
        {"routing": {"routes": [ROUTE, {**ROUTE, "name": "b"}]}},
        (
            "spec.routing.routes",
            '[{"name": "a", "targets": ["sip:127.0.0.1:7070"]}, {"name...',
            "at most one route per domain and prefix",
        ),
    ),
    (
        CLUSTER,
        {"routing": {"routes": [{**ROUTE, "targets": ["sip:gateway.example.test"]}]}},
        (
            "spec.routing.routes[0].targets[0]",
            '"sip:gateway.example.test"',
            "a SIP URI with an IP address, such as sip:192.0.2.7:5060, at most 80 characters",
        ),
    ),
    (
        CLUSTER,
        {"routing": {"routes": [{**ROUTE, "targets": ["sip:192.0.2.300"]}]}},
        ("spec.routing.routes[0].targets[0]", '"sip:192.0.2.300"', "an IPv4 or IPv6 address such as 192.0.2.1"),
    ),
    (
        CLUSTER,
        {"routing": {"routes": [{**ROUTE, "targets": ["sip:192.0.2.3:99999"]}]}},
        ("spec.routing.routes[0].targets[0]", '"sip:192.0.2.3:99999"', "a port from 1 to 65535"),
    ),
    (
        CLUSTER,
        {"exposure": {"type": "virtualIP"}},
        ("spec.exposure.address", "nothing", "an address when type is virtualIP"),
    ),
    (
        CLUSTER,
        {"exposure": {"type": "hostNetwork", "address": "192.0.2.1"}},
        ("spec.exposure.address", '"192.0.2.1"', "an address only when type is virtualIP or loadBalancer"),
    ),
    (
        CLUSTER,
        {"rollout": {"drainTimout": 5}},
        (
            "spec.rollout.drainTimout",
            "an unknown field with 5",
            "surge, drainTimeout, drainTimeoutAction, migrateAfter, progressDeadline (did you mean drainTimeout?)",
        ),
    ),
    (
        CLUSTER,
        {"rollout": {"drain_timeout": 5}},
        (
            "spec.rollout.drain_timeout",
            "an unknown field with 5",
            "surge, drainTimeout, drainTimeoutAction, migrateAfter, progressDeadline (did you mean drainTimeout?)",
        ),
    ),
    (
        CLUSTER,
        {"version": 1.1},
        (
            "spec.version",
            "1.1",
            "a version such as 0.1.0 (in quotes when it looks like a number), at most 63 characters",
        ),
    ),
    (
        CLUSTER,
        {"store": {"managed": {}, "url": "redis://127.0.0.1:6379/0"}},
        ("spec.store", '{"managed": {}, "url": "redis://127.0.0.1:6379/0"}', "exactly one of managed and url"),
    ),
    (
        CLUSTER,
        {"store": {"url": "redis://:secret@127.0.0.1"}},
        (
            "spec.store.url",
            '"redis://:secret@127.0.0.1"',
            "redis://HOST:PORT/DB without credentials, at most 300 characters",
        ),
    ),
    (
        CLUSTER,
        {"store": {"url": "rediss://redis.example"}},
        (
            "spec.store.url",
            '"rediss://redis.example"',
            "redis://HOST:PORT/DB without credentials, at most 300 characters",
        ),
    ),
    (
        CLUSTER,
        {"dns": {"rfc2136": {"server": "192.0.2.53"}, "externalDNS": {}}},
        (
            "spec.dns",
            '{"rfc2136": {"server": "192.0.2.53"}, "externalDNS": {}}',
            "at most one of rfc2136 and externalDNS",
        ),
    ),
    (
        CLUSTER,
        {"dns": {"rfc2136": {"server": "192.0.2.53", "tsigSecretRef": {"name": "dns-key", "secret": "aGk="}}}},
        ("spec.dns.rfc2136.tsigSecretRef.secret", 'an unknown field with "aGk="', "name"),
    ),
    (
        CLUSTER,
        {"dns": {"rfc2136": {"server": "ns1.example.test:53"}}},
        (
            "spec.dns.rfc2136.server",
            '"ns1.example.test:53"',
            "a host name or an IP address without a port, at most 253 characters",
        ),
    ),
    (
        CLUSTER,
        {"domains": ["example.test", "badexample.test"], "dns": {"zone": "example.test"}},
        ("spec.dns.zone", '"example.test"', "a zone that all of spec.domains lie in"),
    ),
    (
        POOL,
        {"ports": {"min": 20000}},
        ("spec.ports", '{"min": 20000}', "min and max, and neither base nor count, when mode is range"),
    ),
    (
        POOL,
        {"ports": {"mode": "shared", "base": 20001, "count": 4}},
        ("spec.ports.base", "20001", "an even number"),
    ),
    (
        POOL,
        {"ports": {"mode": "shared", "base": 65000, "count": 400}},
        ("spec.ports.count", "400", "port pairs that end at port 65535 or before"),
    ),
    (
        POOL,
        {"ports": {"min": 20000, "max": 20003}},
        ("spec.capacity", "nothing, which means 500,", "at most one session for every four ports of the range"),
    ),
    (
        POOL,
        {"interfaces": [{"name": "a", "ipFamilies": ["IPv4", "IPv4"]}]},
        ("spec.interfaces[0].ipFamilies", '["IPv4", "IPv4"]', "each of IPv4 and IPv6 at most once"),
    ),
    (
        POOL,
        {"timeouts": {"rtp": 4000}},
        ("spec.timeouts.silent", "nothing, which means 3600,", "silent not less than rtp"),
    ),
    (POOL, {"domains": ["a"]}, ("spec.domains", 'an unknown field with ["a"]', "")),
]


@pytest.mark.parametrize(
    ("manifest", "spec", "fault"), REFUSED, ids=[f"{fault[0]} given {fault[1]}" for _, _, fault in REFUSED]
)
def test_a_bad_field_is_refused_with_what_was_given_and_what_is_allowed(
    manifest: dict[str, Any], spec: dict[str, Any], fault: tuple[str, str, str]
) -> None:
    (path, given, allowed), *more = faults(changed(manifest, spec))
    assert (path, given) == fault[:2]
    assert allowed == fault[2] if fault[2] else "ports" in allowed
    assert not more


def test_all_that_is_wrong_is_told_at_once_rules_between_right_fields_included() -> None:
    spec = {
        "replicas": None,
        "domains": ["a", "a"],
        "capacity": 0,
        "rollout": {"surge": -1},
        "listeners": [{"name": "a", "port": 0}],
    }
    assert [path for path, _, _ in faults(changed(CLUSTER, spec))] == [
        "spec.capacity",
        "spec.rollout.surge",
        "spec.listeners[0].port",
        "spec.domains",
        "spec.replicas",
    ]


def test_a_rule_that_looks_into_a_faulty_field_is_not_said_to_be_broken() -> None:
    spec = {"domains": [1], "routing": {"routes": [{**ROUTE, "domain": "example.test"}]}}
    assert [path for path, _, _ in faults(changed(CLUSTER, spec))] == ["spec.domains[0]"]


def test_defaults_are_those_of_the_design() -> None:
    cluster, pool = validated(CLUSTER), validated(POOL)
    assert isinstance(cluster, SipCluster)
    assert isinstance(pool, MediaPool)
    assert (cluster.spec.rollout.surge, cluster.spec.rollout.drain_timeout) == (1, 10800)
    assert (cluster.spec.rollout.drain_timeout_action, cluster.spec.rollout.migrate_after) == ("Wait", None)
    assert (pool.spec.timeouts.rtp, pool.spec.timeouts.silent, pool.spec.timeouts.final) == (60, 3600, 10800)
    assert pool.spec.interfaces[0].ip_families == ("IPv4",)
    assert (cluster.namespace, cluster.spec.listeners[0].port) == ("default", 5060)
    assert cluster.spec.store.managed is not None


def test_where_dns_is_published_is_taken_as_it_is_given_and_printed_so_again() -> None:
    spec = {
        "domains": ["example.test", "voice.example.test"],
        "dns": {
            "zone": "example.test",
            "rfc2136": {"server": "2001:db8::53", "tsigSecretRef": {"name": "dns-key"}},
        },
    }
    cluster = validated(changed(CLUSTER, spec))
    assert isinstance(cluster, SipCluster)
    assert cluster.to_wire()["spec"]["dns"] == {
        "ttl": 30,
        "zone": "example.test",
        "rfc2136": {"server": "2001:db8::53", "port": 53, "tsigSecretRef": {"name": "dns-key"}},
    }
    external = validated(changed(CLUSTER, {"dns": {"externalDNS": {}}}))
    assert external.to_wire()["spec"]["dns"] == {"ttl": 30, "externalDNS": {}}


def test_a_null_is_a_field_that_is_not_there() -> None:
    manifest = changed(CLUSTER, {})
    manifest["spec"]["rollout"] = None
    manifest["spec"]["autoscale"] = None
    assert validated(manifest).spec.rollout.surge == 1


def test_a_resource_survives_being_printed_and_read_again() -> None:
    for manifest in (CLUSTER, POOL):
        resource = validated(manifest)
        assert validated(resource.to_wire()) == resource


def test_a_resource_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        validated(CLUSTER).spec.replicas = 3  # type: ignore[misc]


def test_no_field_is_called_what_yaml_1_1_reads_as_a_boolean() -> None:
    def names(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {name for child in value.values() for name in names(child)}
        return {name for child in value for name in names(child)} if isinstance(value, list) else set()

    from sipfleet.api.crd import KINDS, crd

    for model, kind in KINDS:
        assert not {name.lower() for name in names(crd(model, kind))} & {"y", "n", "on", "off", "yes", "no"}
