"""What the operator has to do with monitoring, on a real API server and with the rights that the chart gives:
ServiceMonitors where the kind is unknown, comes, is changed by others, refuses, and goes; and a Prometheus that an
autoscaled set names.

There are no nodes: what is looked at is what the operator applies.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.peers.process import Peer, wait_for
from tests.integration.peers.redis_server import RedisServer

from e2e.cluster import binaries
from e2e.harness.fleet import OPERATOR_NAMESPACE, ROOT
from e2e.harness.kubectl import Object
from e2e.harness.plane import Plane, good, kubeconfig_of, kubectl, running

HOST, STORE, PROMETHEUS = "127.102.10.1", "127.102.10.2", "127.102.10.3"
NAMESPACE = "voip"
START = "from sipfleet.kubernetes import monitors; monitors.INTERVAL = 0.5; from sipfleet.cli import main; main()"
"""The command `sipfleet`, which looks for the kind twice a second instead of every three minutes."""


@dataclass(frozen=True)
class Place:
    """An API server, a store, and who the operator is there."""

    plane: Plane
    operator: Path
    store: str
    work: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    work = tmp_path_factory.mktemp("monitors")
    with running(work, HOST, NAMESPACE) as plane, RedisServer(work, STORE, 6379) as store:
        good(plane.admin, "create", "namespace", OPERATOR_NAMESPACE)
        good(plane.admin, "apply", *(f"--filename={path}" for path in sorted((ROOT / "crds").glob("*.yaml"))))
        good(plane.admin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        shown = [f"--show-only=templates/{name}.yaml" for name in ("serviceaccount", "rbac", "lease", "admission")]
        argv = [binaries.HELM.path, "template", "sipfleet", ROOT / "charts/sipfleet", "-n", OPERATOR_NAMESPACE]
        rendered = _output([*map(str, argv), *shown])
        good(plane.admin, "apply", "-f", "-", given=rendered)
        [account] = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "ServiceAccount"]
        token = good(plane.admin, "-n", OPERATOR_NAMESPACE, "create", "token", account["metadata"]["name"]).strip()
        operator = kubeconfig_of(work / "operator", HOST, OPERATOR_NAMESPACE, "operator", token)
        yield Place(plane, operator, store.url, work)


def _output(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def sets(place: Place) -> Iterator[Place]:
    """A SipCluster and a MediaPool, and an operator that runs; nothing of it is left for the next test."""
    common = {"replicas": 1, "exposure": {"type": "hostNetwork"}, "store": {"url": place.store}}
    bodies = (
        ("SipCluster", "demo", common | {"domains": ["example.test"]}),
        ("MediaPool", "media", common),
    )
    items = [
        {"apiVersion": "sipfleet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, name, spec in bodies
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    good(place.plane.admin, "apply", "-f", "-", given=listed)
    try:
        yield place
    finally:
        clean(place)


def clean(place: Place) -> None:
    """Nobody is there who drains, and no garbage collector."""
    admin = place.plane.admin
    for one in ("sipcluster/demo", "mediapool/media"):
        kubectl(admin, "patch", one, "--type=merge", "-p", '{"metadata": {"finalizers": []}}')
        kubectl(admin, "delete", one, "--wait=false")
    kinds = "statefulsets,services,configmaps,secrets,poddisruptionbudgets,networkpolicies"
    good(admin, "delete", kinds, "-l", "app.kubernetes.io/managed-by=sipfleet")
    good(admin, "delete", "events", "--all")
    # The operator was killed, and the next one would wait until its lease runs out.
    good(admin, "-n", OPERATOR_NAMESPACE, "delete", "leases", "--all")
    good(admin, "delete", "crd", "servicemonitors.monitoring.coreos.com", "--ignore-not-found")
    wait_for(lambda: not known(place), 30, "the kind is gone")


@contextlib.contextmanager
def operator(place: Place) -> Iterator[Peer]:
    argv = [sys.executable, "-c", START, "operator", f"--liveness=http://{HOST}:8080/healthz"]
    environment = {"KUBECONFIG": str(place.operator), "POD_NAMESPACE": OPERATOR_NAMESPACE}
    log = place.work / f"operator-{time.monotonic_ns()}.log"
    with Peer(argv, log, env={**os.environ, **environment}) as peer:
        yield peer


def known(place: Place) -> bool:
    return kubectl(place.plane.admin, "get", "servicemonitors").returncode == 0


def install(place: Place, endpoints: Object | None = None) -> None:
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


ANYTHING: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def get(place: Place, what: str) -> Any:
    done = kubectl(place.plane.admin, "get", what, "-o", "json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def until(place: Place, what: str, wanted: Callable[[Any], bool] = bool, limit: float = 40) -> Any:
    """The object once it is as wanted; None stands for one that is not there."""
    found: list[Any] = [None]

    def holds() -> bool:
        found[0] = get(place, what)
        return wanted(found[0])

    wait_for(holds, limit, f"{what} is as wanted", 0.2)
    return found[0]


def test_without_the_kind_nothing_is_missed(sets: Place) -> None:
    with operator(sets) as peer:
        for name in ("demo", "media"):
            until(sets, f"statefulset/{name}")
        time.sleep(1.5)  # three looks
        assert get(sets, "service/demo-metrics") is None
        assert "ServiceMonitor" not in peer.log.read_text()
        assert " WARNING " not in peer.log.read_text()


def test_where_the_kind_is_each_set_has_one_that_names_its_metrics(sets: Place) -> None:
    install(sets)
    with operator(sets):
        for kind, name in (("SipCluster", "demo"), ("MediaPool", "media")):
            found = until(sets, f"servicemonitor/{name}")
            [owner] = found["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"]) == (kind, name)
            assert owner["uid"] == get(sets, f"{kind.lower()}/{name}")["metadata"]["uid"]
            service = get(sets, f"service/{name}-metrics")
            wanted = found["spec"]["selector"]["matchLabels"].items()
            assert wanted <= service["metadata"]["labels"].items()
            [endpoint], [port] = found["spec"]["endpoints"], service["spec"]["ports"]
            assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
            template = until(sets, f"statefulset/{name}")["spec"]["template"]
            [container] = template["spec"]["containers"]
            assert port["port"] in [one["containerPort"] for one in container["ports"] if one["protocol"] == "TCP"]
            assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
            # A pod that drains loses the label `listed`, and is scraped all the same.
            assert "sipfleet.io/listed" not in service["spec"]["selector"]


def test_the_kind_comes_is_meddled_with_and_goes_while_the_operator_runs(sets: Place) -> None:
    admin = sets.plane.admin
    with operator(sets):
        until(sets, "statefulset/demo")
        install(sets)
        until(sets, "servicemonitor/demo")
        good(admin, "label", "servicemonitor/demo", "release=monitoring")
        good(admin, "patch", "servicemonitor/demo", "--type=merge", "-p", '{"spec": {"endpoints": []}}')
        found = until(sets, "servicemonitor/demo", lambda one: bool(one and one["spec"]["endpoints"]))
        assert found["metadata"]["labels"]["release"] == "monitoring"
        good(admin, "delete", "servicemonitor/demo")
        until(sets, "servicemonitor/demo")
        good(admin, "delete", "crd", "servicemonitors.monitoring.coreos.com")
        until(sets, "service/demo-metrics", lambda one: one is None)
        good(admin, "scale", "sipcluster/demo", "--replicas=2")
        until(sets, "statefulset/demo", lambda one: bool(one and one["spec"]["replicas"] == 2))


def _refused(events: Any) -> bool:
    return any(e["reason"] == "MonitorRefused" and e["involvedObject"]["name"] == "demo" for e in events["items"])


def test_one_that_is_refused_is_told_and_keeps_nothing_else_from_being_made(sets: Place) -> None:
    install(sets, {"maxItems": 0})
    with operator(sets):
        until(sets, "statefulset/demo")
        told = until(sets, "events", _refused)
        refused = [one for one in told["items"] if one["reason"] == "MonitorRefused"]
        [event] = [one for one in refused if one["involvedObject"]["name"] == "demo"]
        assert event["type"] == "Warning"
        assert "servicemonitor/demo" in event["message"]
        assert "endpoints" in event["message"]


def test_an_autoscaled_set_says_whether_the_prometheus_that_it_names_answers(sets: Place) -> None:
    admin, url = sets.plane.admin, f"http://{PROMETHEUS}:9090"
    spec = {"replicas": None, "autoscale": {"min": 1, "max": 3, "prometheus": {"url": url}}}
    good(admin, "patch", "mediapool/media", "--type=merge", "-p", json.dumps({"spec": spec}))
    configuration = sets.work / "prometheus.yml"
    configuration.write_text("{}")
    argv = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={sets.work}/data"]
    argv += [f"--web.listen-address={PROMETHEUS}:9090", "--log.level=warn"]
    with operator(sets):
        away = until(sets, "mediapool/media", lambda one: _metrics(one)["status"] == "False")
        told = f"{url}: connection refused; nothing is scaled down"
        assert (_metrics(away)["reason"], _metrics(away)["message"]) == ("PrometheusUnavailable", told)
        assert away["status"]["desiredReplicas"] == 1
        events = until(sets, "events", lambda found: _has_event(found, "PrometheusUnavailable"))
        assert any(told in one["message"] and one["type"] == "Warning" for one in events["items"])
        with Peer(argv, sets.work / "prometheus.log"):
            there = until(sets, "mediapool/media", lambda one: _metrics(one)["status"] == "True")
            assert (_metrics(there)["reason"], _metrics(there)["message"]) == ("Measured", url)
        until(sets, "mediapool/media", lambda one: _metrics(one)["status"] == "False")
        back = json.dumps({"spec": {"replicas": 1, "autoscale": None}})
        good(admin, "patch", "mediapool/media", "--type=merge", "-p", back)
        until(sets, "mediapool/media", lambda one: _metrics(one)["status"] == "none")


def _metrics(found: Any) -> Object:
    """The condition; status `none` where there is none."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "MetricsAvailable"), {"status": "none"})


def _has_event(events: Any, reason: str) -> bool:
    return any(one["reason"] == reason for one in events["items"])
