"""No name server sends a call to a pod that leaves: the cluster's own, and a zone of somebody else (DESIGN 5)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.peers.nameserver import FOREIGN, PORT, SECRET, Knot

from e2e.cluster import layout, network
from e2e.cluster.cluster import Cluster
from e2e.harness.fleet import CLUSTER, Fleet
from e2e.harness.journal import Answer, Event, Journal, Questions
from e2e.harness.kubectl import Kubectl, Object, settled
from e2e.tests.conftest import NEXT

TTL = 5
"""`spec.dns.ttl` here, and so long does the test cluster's CoreDNS keep an answer (`e2e.cluster.controlplane`)."""
SLACK = 3.0
"""Seconds that a change of a label may take through controllers and name servers on a busy machine."""
ZONE = "example.test"
OUTER = "voip-dns"
"""The namespace of the cluster in the external zone: on host network, which the restricted profile forbids."""
SERVER = "203.0.113.13"


@dataclass(frozen=True)
class Leaving:
    """A pod that was drained, and what became of it."""

    name: str
    address: str
    since: float
    """Its drain began, by the operator's own word (`status.plan.drains`)."""
    gone: float
    """It was told to end."""


def left(pods: Sequence[Event], sets: Sequence[Event]) -> list[Leaving]:
    """Every pod that was drained while the journals were open, and is gone."""
    since = {
        drain["uid"]: float(drain["since"])
        for event in sets
        for drain in (event.found.get("status") or {}).get("plan", {}).get("drains") or []
    }
    addresses = {event.uid: event.found["status"]["podIP"] for event in pods if event.found["status"].get("podIP")}
    gone: dict[str, Event] = {}
    for event in pods:
        if event.leaving:
            gone.setdefault(event.uid, event)
    return [
        Leaving(gone[uid].found["metadata"]["name"], addresses[uid], begun, gone[uid].at)
        for uid, begun in since.items()
        if uid in gone
    ]


def check(pod: Leaving, answers: Sequence[Answer], cached: float) -> dict[str, object]:
    """The record of a pod left soon after its drain began, and before the pod did."""
    assert sum(pod.since < one.at for one in answers) >= 5, f"{pod}: nobody asked"
    named = [one.at for one in answers if pod.address in one.addresses]
    assert min(named, default=pod.gone) < pod.since, f"{pod} was never listed: nothing was proved"
    told = {"pod": pod.name, "listed_s": round(named[-1] - pod.since, 2), "lived_s": round(pod.gone - pod.since, 2)}
    assert named[-1] - pod.since <= cached + SLACK, told
    assert named[-1] < pod.gone, f"a name server sent calls to a pod that was gone: {told}"
    return told


# --- in the cluster ------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_srv_in_the_cluster_names_no_pod_that_has_gone(fleet: Fleet, cluster: Cluster) -> None:
    """Three proxies become two, then all are replaced; nobody talks, so nothing holds a pod but its name."""
    namespace = fleet.kubectl.namespace
    fleet.kubectl.patch(f"sipcluster/{CLUSTER}", {"spec": {"replicas": 3, "dns": {"ttl": TTL}}})
    fleet.until(CLUSTER, "three", lambda status: status.get("readyReplicas") == 3, 120)
    fleet.until_settled()
    name = f"_sip._udp.{CLUSTER}.{namespace}.svc.{layout.CLUSTER_DOMAIN}"
    pods = Journal(cluster.kubeconfig, f"/api/v1/namespaces/{namespace}/pods", f"sipfleet.io/set={CLUSTER}")
    sets = Journal(cluster.kubeconfig, f"/apis/sipfleet.io/v1alpha1/namespaces/{namespace}/sipclusters")
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = Journal(cluster.kubeconfig, path, f"kubernetes.io/service-name={CLUSTER}")
    questions = Questions("node1", (layout.DNS_SERVICE_ADDRESS, layout.DNS_PORT), name)
    with pods, sets, slices, questions:
        fleet.kubectl.until("three names", lambda _: questions.names(3), 30, "namespace")
        fleet.kubectl("scale", f"sipcluster/{CLUSTER}", "--replicas=2")
        fleet.until(CLUSTER, "two", lambda status: status.get("replicas") == 2, 120)
        fleet.until_settled()
        fleet.kubectl.patch(f"sipcluster/{CLUSTER}", {"spec": {"version": NEXT}})
        fleet.until(CLUSTER, f"version {NEXT}", lambda status: status.get("version") == NEXT, 300)
        fleet.until_settled()
    found = left(pods.events, sets.events)
    assert {pod.name for pod in found} >= {f"{CLUSTER}-{ordinal}" for ordinal in range(3)}, found
    for pod in found:
        print(
            json.dumps(
                check(pod, questions.answers, TTL) | {"slice_s": round(sliced(pod, slices.events) - pod.since, 2)}
            )
        )


def sliced(pod: Leaving, events: Sequence[Event]) -> float:
    """When the EndpointSlices of the Service stopped naming a pod as ready."""
    named = False
    for event in events:
        ready = [
            address
            for endpoint in event.found.get("endpoints") or []
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        ]
        if event.kind != "DELETED" and pod.address in ready:
            named = True
        elif named and event.at >= pod.since - SLACK:
            assert event.at - pod.since <= SLACK, f"{pod} stood in the EndpointSlice until {event.at - pod.since:.1f} s"
            return event.at
    raise AssertionError(f"{pod} was not taken out of the EndpointSlice")


# --- a zone outside ------------------------------------------------------------------------------------------------


class OuterKnot(Knot):
    """Knot on the public network, where the operator's pod reaches it and nobody else's records are touched."""

    def __init__(self, work: Path) -> None:
        super().__init__(work, SERVER, {ZONE: FOREIGN})
        self.argv = [*network.enter("world"), *self.argv]

    def _has(self, zone: str) -> bool:
        with network.sockets_in("world"):
            return super()._has(zone)

    def records(self, zone: str = ZONE) -> set[str]:
        with network.sockets_in("world"):
            return super().records(zone)


@pytest.fixture
def knot(cluster: Cluster, tmp_path: Path) -> Iterator[OuterKnot]:
    with OuterKnot(tmp_path) as server:
        yield server


@pytest.fixture
def outer(installed: Fleet, knot: OuterKnot) -> Iterator[Kubectl]:
    """A namespace for pods on host network. It goes before the name server does: records are withdrawn first."""
    kubectl = installed.kubectl.within(OUTER)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OUTER}})
    yield kubectl
    if os.environ.get("SIPFLEET_E2E_KEEP") is None:
        kubectl.attempt("delete", "sipclusters", "--all", timeout=120)
        kubectl("delete", "namespace", OUTER, "--wait", timeout=180)


def published(fleet: Fleet) -> list[Object]:
    """A cluster of three proxies, each with an address of its own, and its key for the zone."""
    key = {"name": "sipfleet", "algorithm": "hmac-sha256", "secret": SECRET}
    server = {"server": SERVER, "port": PORT, "tsigSecretRef": {"name": "dns-key"}}
    spec = {
        "version": fleet.version,
        "replicas": 3,
        "domains": [ZONE],
        "exposure": {"type": "hostNetwork"},
        "dns": {"ttl": TTL, "rfc2136": server},
        "routing": {"routes": [{"name": "all", "domain": ZONE, "targets": ["sip:203.0.113.11:7070"]}]},
        # A surge has no node left whose ports are free.
        "rollout": {"surge": 0},
    }
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dns-key"}, "stringData": key},
        {"apiVersion": "sipfleet.io/v1alpha1", "kind": "SipCluster", "metadata": {"name": "outer"}, "spec": spec},
    ]


def test_a_record_leaves_an_outer_zone_before_its_pod_does(
    installed: Fleet, outer: Kubectl, knot: OuterKnot, cluster: Cluster
) -> None:
    before = knot.records()
    outer.apply(*published(installed))
    outer.until("settled", settled, 240, "sipcluster/outer")
    srv = f"_sip._udp.{ZONE}."
    assert len([one for one in knot.records() if one.startswith(f"{srv} ") and " SRV " in one]) == 3, knot.records()
    assert before <= knot.records(), "foreign records were touched"
    pods = Journal(cluster.kubeconfig, f"/api/v1/namespaces/{OUTER}/pods", "sipfleet.io/set=outer")
    sets = Journal(cluster.kubeconfig, f"/apis/sipfleet.io/v1alpha1/namespaces/{OUTER}/sipclusters")
    questions = Questions("world", (SERVER, PORT), srv)
    with ExitStack() as stack:
        for one in (pods, sets, questions):
            stack.enter_context(one)
        outer.until("three names", lambda _: questions.names(3), 30, "namespace")
        outer("scale", "sipcluster/outer", "--replicas=2")
        outer.until("two", lambda one: one["status"].get("replicas") == 2, 120, "sipcluster/outer")
        outer("annotate", "pod/outer-0", "sipfleet.io/evict=true")
        uid = outer.get("pod/outer-0")["metadata"]["uid"]
        outer.until("another pod", lambda pod: pod["metadata"]["uid"] != uid, 120, "pod/outer-0")
        outer.until("settled", settled, 120, "sipcluster/outer")
    found = left(pods.events, sets.events)
    assert {pod.name for pod in found} == {"outer-2", "outer-0"}, found
    for pod in found:
        # The server itself is asked: nothing is cached on the way, and the pod waits for those who do.
        # The next pod on that node has the same address, but is not there in the first second.
        told = check(pod, [one for one in questions.answers if one.at < pod.gone + 1.0], 0.0)
        assert pod.gone - pod.since >= TTL, told
        print(json.dumps(told))
    assert before <= knot.records(), "foreign records were touched"
    outer("delete", "sipcluster/outer", timeout=180)
    assert knot.records() == before, "what stands is what stood before"
