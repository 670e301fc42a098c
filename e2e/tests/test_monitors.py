"""What the operator has to do with monitoring, on a real API server and with the rights that the chart gives:
ServiceMonitors where the kind is unknown, comes, is changed by others, refuses, and goes; and a Prometheus that an
autoscaled set names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.peers.process import Peer, wait_for

from e2e.harness.alone import Alone, alone, has_event, manifest
from e2e.harness.kubectl import Object
from e2e.harness.plane import good, kubectl

HOST, STORE, PROMETHEUS = "127.102.10.1", "127.102.10.2", "127.102.10.3"
SOON = {"monitors__INTERVAL": 0.5}
"""It looks for the kind twice a second instead of every three minutes."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    with alone(tmp_path_factory.mktemp("monitors"), HOST, STORE) as made:
        yield made


@pytest.fixture
def sets(place: Alone) -> Iterator[Alone]:
    """A SipCluster and a MediaPool; nothing of them is left for the next test."""
    common = {"replicas": 1, "exposure": {"type": "hostNetwork"}, "store": {"url": place.store}}
    place.apply(
        [manifest("SipCluster", "demo", common | {"domains": ["example.test"]}), manifest("MediaPool", "media", common)]
    )
    try:
        yield place
    finally:
        place.clean()
        good(place.plane.admin, "delete", "crd", "servicemonitors.monitoring.coreos.com", "--ignore-not-found")
        wait_for(lambda: not known(place), 30, "the kind is gone")


def known(place: Alone) -> bool:
    return kubectl(place.plane.admin, "get", "servicemonitors").returncode == 0


ANYTHING: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def install(place: Alone, endpoints: Object | None = None) -> None:
    """The kind, as small as it can be; `endpoints` is the schema of `spec.endpoints`."""
    schema = {
        "type": "object",
        "properties": {
            "spec": ANYTHING
            | {
                "properties": {"endpoints": {"type": "array", "items": ANYTHING} | (endpoints or {})},
            }
        },
    }
    names = {"plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "names": names, "scope": "Namespaced", "versions": [version]},
    }
    good(place.plane.admin, "apply", "-f", "-", given=json.dumps(body))
    crd = "crd/servicemonitors.monitoring.coreos.com"
    good(place.plane.admin, "wait", "--for=condition=Established", crd, "--timeout=30s")


def test_without_the_kind_nothing_is_missed(sets: Alone) -> None:
    with sets.runs(**SOON) as peer:
        for name in ("demo", "media"):
            sets.until(f"statefulset/{name}")
        time.sleep(1.5)  # three looks
        assert sets.get("service/demo-metrics") is None
        assert "ServiceMonitor" not in peer.log.read_text()
        assert " WARNING " not in peer.log.read_text()


def test_where_the_kind_is_each_set_has_one_that_names_its_metrics(sets: Alone) -> None:
    install(sets)
    with sets.runs(**SOON):
        for kind, name in (("SipCluster", "demo"), ("MediaPool", "media")):
            found = sets.until(f"servicemonitor/{name}")
            [owner] = found["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"]) == (kind, name)
            assert owner["uid"] == sets.get(f"{kind.lower()}/{name}")["metadata"]["uid"]
            service = sets.get(f"service/{name}-metrics")
            wanted = found["spec"]["selector"]["matchLabels"].items()
            assert wanted <= service["metadata"]["labels"].items()
            [endpoint], [port] = found["spec"]["endpoints"], service["spec"]["ports"]
            assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
            template = sets.until(f"statefulset/{name}")["spec"]["template"]
            [container] = template["spec"]["containers"]
            assert port["port"] in [one["containerPort"] for one in container["ports"] if one["protocol"] == "TCP"]
            assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
            # A pod that drains loses the label `listed`, and is scraped all the same.
            assert "sipfleet.io/listed" not in service["spec"]["selector"]


def test_the_kind_comes_is_meddled_with_and_goes_while_the_operator_runs(sets: Alone) -> None:
    admin = sets.plane.admin
    with sets.runs(**SOON):
        sets.until("statefulset/demo")
        install(sets)
        sets.until("servicemonitor/demo")
        good(admin, "label", "servicemonitor/demo", "release=monitoring")
        good(admin, "patch", "servicemonitor/demo", "--type=merge", "-p", '{"spec": {"endpoints": []}}')
        found = sets.until("servicemonitor/demo", lambda one: bool(one and one["spec"]["endpoints"]))
        assert found["metadata"]["labels"]["release"] == "monitoring"
        good(admin, "delete", "servicemonitor/demo")
        sets.until("servicemonitor/demo")
        good(admin, "delete", "crd", "servicemonitors.monitoring.coreos.com")
        sets.until("service/demo-metrics", lambda one: one is None)
        good(admin, "scale", "sipcluster/demo", "--replicas=2")
        sets.until("statefulset/demo", lambda one: bool(one and one["spec"]["replicas"] == 2))


def _refused(events: Any) -> bool:
    return any(e["reason"] == "MonitorRefused" and e["involvedObject"]["name"] == "demo" for e in events["items"])


def test_one_that_is_refused_is_told_and_keeps_nothing_else_from_being_made(sets: Alone) -> None:
    install(sets, {"maxItems": 0})
    with sets.runs(**SOON):
        sets.until("statefulset/demo")
        told = sets.until("events", _refused)
        refused = [one for one in told["items"] if one["reason"] == "MonitorRefused"]
        [event] = [one for one in refused if one["involvedObject"]["name"] == "demo"]
        assert event["type"] == "Warning"
        assert "servicemonitor/demo" in event["message"]
        assert "endpoints" in event["message"]


def test_an_autoscaled_set_says_whether_the_prometheus_that_it_names_answers(sets: Alone) -> None:
    admin, url = sets.plane.admin, f"http://{PROMETHEUS}:9090"
    spec = {"replicas": None, "autoscale": {"min": 1, "max": 3, "prometheus": {"url": url}}}
    good(admin, "patch", "mediapool/media", "--type=merge", "-p", json.dumps({"spec": spec}))
    configuration = sets.work / "prometheus.yml"
    configuration.write_text("{}")
    argv = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={sets.work}/data"]
    argv += [f"--web.listen-address={PROMETHEUS}:9090", "--log.level=warn"]
    with sets.runs(**SOON):
        away = sets.until("mediapool/media", lambda one: _metrics(one)["status"] == "False")
        told = f"{url}: connection refused; nothing is scaled down"
        assert (_metrics(away)["reason"], _metrics(away)["message"]) == ("PrometheusUnavailable", told)
        assert away["status"]["desiredReplicas"] == 1
        events = sets.until("events", lambda found: has_event(found, "PrometheusUnavailable"))
        assert any(told in one["message"] and one["type"] == "Warning" for one in events["items"])
        with Peer(argv, sets.work / "prometheus.log"):
            there = sets.until("mediapool/media", lambda one: _metrics(one)["status"] == "True")
            assert (_metrics(there)["reason"], _metrics(there)["message"]) == ("Measured", url)
        sets.until("mediapool/media", lambda one: _metrics(one)["status"] == "False")
        back = json.dumps({"spec": {"replicas": 1, "autoscale": None}})
        good(admin, "patch", "mediapool/media", "--type=merge", "-p", back)
        sets.until("mediapool/media", lambda one: _metrics(one)["status"] == "none")


def _metrics(found: Any) -> Object:
    """The condition; status `none` where there is none."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "MetricsAvailable"), {"status": "none"})
