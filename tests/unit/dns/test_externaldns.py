"""DNSEndpoint objects: what ExternalDNS is asked to publish."""

from __future__ import annotations

from typing import Any

from sipfleet.api import SipCluster, validated
from sipfleet.dns.externaldns import TYPES, dns_endpoint, published_by
from sipfleet.plan import SrvRecord
from tests.unit.api.manifests import CLUSTER, changed

RECORDS = (
    SrvRecord("_sip._udp.example.test.", "demo-0.example.test.", 5060, "192.0.2.1", weight=100, ttl=30),
    SrvRecord("_sip._udp.example.test.", "demo-1.example.test.", 5060, "2001:db8::1", weight=40, ttl=30),
)


def cluster() -> SipCluster:
    manifest = changed(CLUSTER, {"dns": {"externalDNS": {}}})
    manifest["metadata"] |= {"namespace": "voice", "uid": "u1"}
    made = validated(manifest)
    assert isinstance(made, SipCluster)
    return made


def test_the_object_holds_all_that_a_client_looks_for() -> None:
    made = dns_endpoint(cluster(), RECORDS)
    assert (made["apiVersion"], made["kind"]) == ("externaldns.k8s.io/v1alpha1", "DNSEndpoint")
    assert made["metadata"] == {
        "name": "demo",
        "namespace": "voice",
        "labels": {
            "app.kubernetes.io/managed-by": "sipfleet",
            "sipfleet.io/set": "demo",
            "sipfleet.io/kind": "SipCluster",
        },
        "ownerReferences": [
            {
                "apiVersion": "sipfleet.io/v1alpha1",
                "kind": "SipCluster",
                "name": "demo",
                "uid": "u1",
                "controller": True,
            }
        ],
    }
    assert [(e["dnsName"], e["recordType"], e["recordTTL"], e["targets"]) for e in made["spec"]["endpoints"]] == [
        (
            "_sip._udp.example.test",
            "SRV",
            30,
            ["0 100 5060 demo-0.example.test.", "0 40 5060 demo-1.example.test."],
        ),
        ("demo-0.example.test", "A", 30, ["192.0.2.1"]),
        ("demo-1.example.test", "AAAA", 30, ["2001:db8::1"]),
        ("example.test", "NAPTR", 30, ['100 50 "s" "SIP+D2U" "" _sip._udp.example.test.']),
    ]
    assert {e["recordType"] for e in made["spec"]["endpoints"]} == set(TYPES)


def test_the_records_come_back_from_the_object() -> None:
    assert published_by(dns_endpoint(cluster(), RECORDS)) == RECORDS


def test_no_object_and_an_empty_one_publish_nothing() -> None:
    empty: list[dict[str, Any] | None] = [None, {}, {"spec": None}, dns_endpoint(cluster(), ())]
    assert [published_by(one) for one in empty] == [()] * 4
