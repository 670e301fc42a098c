"""`kubectl sipfleet` against a real API server: as kubectl starts it, by people with all rights and with few.

There are etcd and kube-apiserver and no operator: the tests write what one would.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.peers.probe import answers_ng, is_bound
from tests.integration.peers.process import Peer
from tests.integration.peers.redis_server import RedisServer

from e2e.cluster import binaries
from e2e.harness.fleet import OPERATOR_NAMESPACE, ROOT
from e2e.harness.kubectl import Object
from e2e.harness.plane import Plane, good, kubectl, running
from sipfleet.plugin.inside import SELECTOR

HOST = "127.102.9.1"
PROXY, CALLEE, MEDIA = "127.102.9.2", "127.102.9.3", "127.102.9.4"
NAMESPACE = "voip"
STAMP = "2026-01-01T00:00:00Z"
VENV = Path(sys.executable).parent


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(tmp_path_factory.mktemp("plane"), HOST, NAMESPACE) as made:
        yield made


def sipfleet(kubeconfig: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return kubectl(kubeconfig, "sipfleet", *words)


def apply(plane: Plane, *objects: Object) -> None:
    good(
        plane.admin, "apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    )


def write_status(plane: Plane, what: str, **status: Any) -> None:
    patch = json.dumps({"status": status})
    good(plane.admin, "-n", NAMESPACE, "patch", what, "--subresource=status", "--type=merge", "-p", patch)


def condition(kind: str, status: str, reason: str, message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": STAMP}


CONDITIONS = (
    ("Accepted", "True"),
    ("Ready", "True"),
    ("Progressing", "False"),
    ("Degraded", "False"),
    ("StoreAvailable", "True"),
)


def conditions(**others: tuple[str, str, str]) -> list[Object]:
    usual = {kind: (status, "AsExpected", "") for kind, status in CONDITIONS}
    return [condition(kind, *told) for kind, told in {**usual, **others}.items()]


def pod_status(name: str, phase: str, active: int, **more: Any) -> Object:
    ordinal = int(name.rpartition("-")[2])
    return {
        "name": name,
        "ordinal": ordinal,
        "uid": f"uid-{ordinal}",
        "phase": phase,
        "revision": "r",
        "active": active,
    } | more


def sip_cluster(name: str = "demo", callee: str = f"{CALLEE}:7070", **spec: Any) -> Object:
    routes = [
        {"name": "trunk", "targets": ["sip:198.51.100.10:5060"]},
        {"name": "tests", "prefix": "t-", "targets": [f"sip:{callee}"]},
    ]
    body = {"replicas": 2, "domains": ["example.test"], "routing": {"routes": routes}, "mediaPools": ["media"], **spec}
    body.setdefault("store", {"managed": {}})
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "sipfleet.io/v1alpha1", "kind": "SipCluster", "metadata": metadata, "spec": body}


def media_pool(name: str = "media") -> Object:
    spec = {"replicas": 1, "ports": {"mode": "shared", "base": 30000, "count": 4}, "store": {"managed": {}}}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "sipfleet.io/v1alpha1", "kind": "MediaPool", "metadata": metadata, "spec": spec}


def pod(name: str, labels: dict[str, str], namespace: str = NAMESPACE) -> Object:
    """A pod that no node runs."""
    containers = [{"name": "operator", "image": "none"}]
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


def test_without_the_kinds_it_says_which_chart_is_missing(plane: Plane) -> None:
    done = sipfleet(plane.admin, "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "install the chart sipfleet-crds" in done.stderr


@pytest.fixture(scope="module")
def sets(plane: Plane) -> Plane:
    """A SipCluster and a MediaPool, both well, and who may look at them."""
    good(plane.admin, "apply", *(f"--filename={path}" for path in sorted((ROOT / "crds").glob("*.yaml"))))
    good(plane.admin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    rules = [
        {"apiGroups": ["sipfleet.io"], "resources": ["sipclusters", "mediapools"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "look", "namespace": NAMESPACE},
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "look", "namespace": NAMESPACE},
        "subjects": [{"kind": "User", "name": "viewer", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
    }
    apply(plane, sip_cluster(), media_pool(), role, binding)
    return plane


@pytest.fixture
def well(sets: Plane) -> Plane:
    """The same, with the status of a fleet that is as it should be."""
    common = {"observedGeneration": 1, "desiredReplicas": 2, "readyReplicas": 2, "version": "0.1.0"}
    pods = [pod_status(f"demo-{n}", "Serving", n) for n in range(2)]
    write_status(
        sets,
        "sipcluster/demo",
        **common,
        conditions=conditions(),
        activeDialogs=1,
        freeCapacity=3999,
        address=PROXY,
        exposure="loadBalancer",
        pods=pods,
    )
    write_status(
        sets, "mediapool/media", **common, conditions=conditions(), activeSessions=1, freeCapacity=999, pods=[]
    )
    return sets


def test_a_fleet_that_is_well(well: Plane) -> None:
    done = sipfleet(well.admin, "status")
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"\s{2,}", line) for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "READY", "CALLS", "FREE", "VERSION", "ADDRESS", "EXPOSURE", "DOING"]
    assert rows[1] == ["sipcluster/demo", "2/2", "1", "3999", "0.1.0", PROXY, "loadBalancer", "-"]
    assert rows[2][:5] == ["mediapool/media", "2/2", "1", "999", "0.1.0"]
    assert done.stdout.splitlines()[-1] == "All is as it should be. Try it: kubectl sipfleet call demo -n voip"


def test_what_is_wrong_and_who_still_has_calls(well: Plane) -> None:
    write_status(
        well,
        "sipcluster/demo",
        conditions=conditions(
            Ready=("False", "PodsMissing", "1 of 2 pods take calls"),
            DrainBlocked=("True", "DrainTimeout", "after 60 s: demo-1 has 4 calls left"),
            Progressing=("True", "Draining", "demo-1 (Draining)"),
        ),
        pods=[pod_status("demo-0", "Serving", 3), pod_status("demo-1", "Draining", 4, drainingSince=STAMP)],
    )
    done = sipfleet(well.admin, "status", "demo")
    assert done.returncode == 0, done.stderr
    assert "mediapool" not in done.stdout
    assert re.search(r"Ready=False \(PodsMissing\) for \d+d\d+h: 1 of 2 pods take calls", done.stdout)
    assert "next: kubectl -n voip describe pods -l sipfleet.io/kind=SipCluster,sipfleet.io/set=demo" in done.stdout
    assert "drainTimeoutAction to Cut" in done.stdout
    assert re.search(r"^demo-1 +Draining +4 +\d+d\d+h", done.stdout, re.MULTILINE)
    assert not re.search(r"^demo-0", done.stdout, re.MULTILINE)
    assert "All is as it should be" not in done.stdout


def test_the_commands_that_it_recommends_are_commands(well: Plane) -> None:
    write_status(well, "sipcluster/demo", conditions=conditions(Ready=("False", "PodsMissing", "none")))
    [row] = json.loads(sipfleet(well.admin, "status", "sipcluster/demo", "-o", "json").stdout)
    words = shlex.split(row["findings"][0]["next"])
    assert words[0] == "kubectl"
    good(well.admin, *words[1:])


def test_json_has_all_that_is_known(well: Plane) -> None:
    rows = json.loads(sipfleet(well.admin, "status", "-o", "json").stdout)
    assert [(row["kind"], row["name"], row["calls"], row["findings"]) for row in rows] == [
        ("SipCluster", "demo", 1, []),
        ("MediaPool", "media", 1, []),
    ]
    assert [one["name"] for one in rows[0]["pods"]] == ["demo-0", "demo-1"]


def test_namespace_and_context_are_those_of_kubectl(well: Plane) -> None:
    assert (
        "no SipCluster and no MediaPool in namespace default" in sipfleet(well.admin, "status", "-n", "default").stderr
    )
    bare = sipfleet(well.admin, "status", "--context", "bare")
    assert "namespace default" in bare.stderr
    assert sipfleet(well.admin, "status", "--context=bare", "--namespace=voip").stdout.count("demo") >= 1
    every = sipfleet(well.admin, "status", "-A", "--context", "bare").stdout.splitlines()
    assert every[0].split()[0] == "NAMESPACE"
    assert every[1].split()[:2] == ["voip", "sipcluster/demo"]
    nowhere = sipfleet(well.admin, "status", "--context", "nowhere")
    assert nowhere.returncode == 1
    assert nowhere.stderr.startswith("error: no cluster:")


def test_a_viewer_sees_the_status_and_is_told_what_he_may_not(well: Plane) -> None:
    assert sipfleet(well.viewer, "status").returncode == 0
    refused = sipfleet(well.viewer, "status", "-A")
    assert refused.returncode == 1
    assert "403" in refused.stderr
    assert "sipclusters.sipfleet.io is forbidden" in refused.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["status", "nobody"], "there: sipcluster/demo, mediapool/media"),
        (["status", "service/demo"], "sipcluster or mediapool expected"),
        (["calls", "mediapool/media"], "a SipCluster is expected"),
        (["drain", "demo-9"], "there is no pod demo-9 in namespace voip"),
        (["call", "media"], "there is no such one"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(well: Plane, words: list[str], complaint: str) -> None:
    done = sipfleet(well.admin, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr


def test_a_drain_marks_the_pod_and_tells_the_calls_left(well: Plane) -> None:
    labels = {"sipfleet.io/kind": "SipCluster", "sipfleet.io/set": "demo"}
    apply(well, pod("demo-1", labels))
    found = json.loads(good(well.admin, "-n", NAMESPACE, "get", "pod", "demo-1", "-o", "json"))
    uid = found["metadata"]["uid"]
    path = os.pathsep.join((str(VENV), os.environ["PATH"]))
    environment = {**os.environ, "KUBECONFIG": str(well.admin), "PATH": path}
    with subprocess.Popen(
        [str(binaries.KUBECTL.path), "sipfleet", "drain", "pod/demo-1", "--wait"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "pod/demo-1 is to be drained\n"
        marked = json.loads(good(well.admin, "-n", NAMESPACE, "get", "pod", "demo-1", "-o", "json"))
        assert marked["metadata"]["annotations"]["sipfleet.io/evict"] == "true"
        assert waiting.stdout.readline() == "pod/demo-1: not in the status\n"
        for active in (2, 1):
            one = pod_status("demo-1", "Draining", active, uid=uid, drainingSince=STAMP)
            write_status(well, "sipcluster/demo", pods=[one])
            calls = "calls" if active > 1 else "call"
            assert waiting.stdout.readline() == f"pod/demo-1: Draining, {active} {calls} left\n"
        good(well.admin, "-n", NAMESPACE, "delete", "pod", "demo-1", "--force", "--grace-period=0")
        assert waiting.stdout.readline().startswith("pod/demo-1 is gone after ")
        assert waiting.wait(10) == 0


def test_a_drain_that_takes_too_long_goes_on_without_us(well: Plane) -> None:
    apply(well, pod("demo-0", {"sipfleet.io/kind": "SipCluster", "sipfleet.io/set": "demo"}))
    done = sipfleet(well.admin, "drain", "demo-0", "--wait", "--timeout", "1")
    assert done.returncode == 1
    assert "it goes on draining" in done.stderr
    assert sipfleet(well.admin, "drain", "demo-0").stdout == "pod/demo-0 is to be drained already\n"
    good(well.admin, "-n", NAMESPACE, "delete", "pod", "demo-0", "--force", "--grace-period=0")


def test_a_pod_of_others_is_not_drained(well: Plane) -> None:
    apply(well, pod("web-0", {}))
    done = sipfleet(well.admin, "drain", "web-0")
    assert done.returncode == 1
    assert "is of no SipCluster" in done.stderr
    found = json.loads(good(well.admin, "-n", NAMESPACE, "get", "pod", "web-0", "-o", "json"))
    assert "sipfleet.io/evict" not in found["metadata"].get("annotations", {})
    assert sipfleet(well.viewer, "drain", "web-0").returncode == 1


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[None]:
    """A proxy and a relay at the address that the status tells."""
    config = {
        "domains": ["example.test"],
        "listeners": [{"address": PROXY}],
        "routes": [{"prefix": "t-", "targets": [f"sip:{CALLEE}:7070"]}],
        "media": {"relays": [f"{MEDIA}:2223"]},
    }
    path = tmp_path / "proxy.json"
    path.write_text(json.dumps(config))
    flags = ["--ng", f"{MEDIA}:2223", "--interface", MEDIA, "--ports", "shared:4@30000"]
    relay = Peer([sys.executable, "-m", "rtprelay", *flags], tmp_path / "relay.log", lambda: answers_ng((MEDIA, 2223)))
    proxy = Peer(
        [sys.executable, "-m", "sipproxy", "--config", str(path)],
        tmp_path / "proxy.log",
        lambda: is_bound((PROXY, 5060)),
    )
    with relay, proxy:
        yield


@pytest.mark.usefixtures("pair")
def test_calls_go_to_the_address_of_the_status_and_come_back_by_the_route_that_names_us(well: Plane) -> None:
    done = sipfleet(well.admin, "call", "demo", "--calls", "3", "--duration", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"sip:t-test@example.test through {PROXY} port 5060" in done.stdout
    assert "calls kept 3 of 3" in done.stdout
    done = sipfleet(well.admin, "call", "--listen", f"{CALLEE}:7070", "--calls", "1", "--duration", "1", "--json")
    assert json.loads(done.stdout)["kept"] == 1


def test_a_call_that_the_manifest_sends_elsewhere_is_not_made(well: Plane) -> None:
    done = sipfleet(well.admin, "call", "demo", "sip:1@example.test")
    assert done.returncode == 2
    assert "route trunk sends sip:1@example.test to 198.51.100.10:5060, and not to our callee" in done.stderr


def test_the_route_that_it_recommends_lets_the_call_through(well: Plane) -> None:
    apply(well, sip_cluster("bare", "192.0.2.7:7070"))
    done = sipfleet(well.admin, "call", "bare", "--listen", "127.0.0.1:7070")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.strip().startswith("kubectl")]
    good(well.admin, *shlex.split(line)[1:])
    unknown = sipfleet(well.admin, "call", "bare", "--listen", "127.0.0.1:7070")
    assert unknown.returncode == 1
    assert "sipcluster/bare has no address yet" in unknown.stderr
    good(well.admin, "-n", NAMESPACE, "delete", "sipcluster", "bare")


def test_no_route_to_this_machine_is_said_with_a_way_out(well: Plane) -> None:
    apply(well, sip_cluster("far", "192.0.2.7:7070"))
    done = sipfleet(well.admin, "call", "far")
    assert done.returncode == 1
    assert "no route of sipcluster/far sends calls to this machine" in done.stderr
    good(well.admin, "-n", NAMESPACE, "delete", "sipcluster", "far")


def test_without_an_operator_the_store_cannot_be_asked(well: Plane) -> None:
    for words in (["calls"], ["cdr"], ["cdr", "--follow"], ["call", "--cdr"]):
        done = sipfleet(well.admin, *words)
        assert done.returncode == 1
        assert "no pod of the operator that is ready" in done.stderr


def test_who_may_not_look_for_the_operator_is_told(well: Plane) -> None:
    done = sipfleet(well.viewer, "calls")
    assert done.returncode == 1
    assert 'pods is forbidden: User "viewer" cannot list resource "pods"' in done.stderr


def test_an_operator_of_other_namespaces_is_not_asked(well: Plane) -> None:
    good(well.admin, "create", "namespace", "sipfleet")
    name, _, value = SELECTOR.partition("=")
    one = pod("operator-0", {name: value}, "sipfleet")
    one["spec"]["containers"][0]["env"] = [{"name": "SIPFLEET_WATCH_NAMESPACES", "value": "other,third"}]
    apply(well, one)
    ready = json.dumps({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
    good(well.admin, "-n", "sipfleet", "patch", "pod", "operator-0", "--subresource=status", "-p", ready)
    done = sipfleet(well.admin, "calls")
    assert "looks after namespace voip; pods of operators: sipfleet/operator-0" in done.stderr
    good(well.admin, "-n", "sipfleet", "delete", "pod", "operator-0", "--force", "--grace-period=0")
    one["spec"]["containers"][0]["env"] = [{"name": "SIPFLEET_WATCH_NAMESPACES", "value": "other,voip"}]
    apply(well, one)
    good(well.admin, "-n", "sipfleet", "patch", "pod", "operator-0", "--subresource=status", "-p", ready)
    # It is asked; no node runs it, and kubectl's words are told.
    done = sipfleet(well.admin, "calls")
    assert done.returncode == 1
    assert "error: pod sipfleet/operator-0: " in done.stderr
    assert "does not have a host assigned" in done.stderr


def store(plane: Plane, *words: str) -> subprocess.CompletedProcess[str]:
    """`sipfleet store`, as it runs in the operator's pod."""
    environment = {**os.environ, "KUBECONFIG": str(plane.admin)}
    return subprocess.run(
        [str(VENV / "sipfleet"), "store", *words, "--namespace", NAMESPACE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_store_of_ones_own_is_found_by_the_manifest(well: Plane, tmp_path: Path) -> None:
    with RedisServer(tmp_path, HOST, 6390) as server:
        apply(well, sip_cluster("own", store={"url": server.url}))
        with server.client() as client:
            client.xadd(f"sf:{NAMESPACE}/own:cdr", {"cdr": json.dumps({"id": "a", "call_id": "c"})})
        done = store(well, "cdrs", "own", "--json")
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["call_id"] for line in done.stdout.splitlines()] == ["c"]
    good(well.admin, "-n", NAMESPACE, "delete", "sipcluster", "own")


def test_the_managed_store_is_found_by_its_secret(well: Plane) -> None:
    done = store(well, "cdrs", "demo")
    assert done.returncode == 1
    assert "there is no Secret sipfleet-store-password in namespace voip" in done.stderr
    good(
        well.admin,
        "-n",
        NAMESPACE,
        "create",
        "secret",
        "generic",
        "sipfleet-store-password",
        "--from-literal=password=x/y",
    )
    done = store(well, "cdrs", "demo")
    assert done.returncode == 1
    assert "the store at sentinel://***@sipfleet-store-0.sipfleet-store.voip.svc:26379," in done.stderr
    assert "x/y" not in done.stderr
    assert "x%2Fy" not in done.stderr
    missing = store(well, "cdrs", "nobody")
    assert "there is no SipCluster nobody in namespace voip" in missing.stderr


def test_every_command_of_the_documentation_exists() -> None:
    page = (ROOT / "docs" / "kubectl.md").read_text()
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("kubectl sipfleet ")]
    assert {words[2] for words in commands} == {"status", "calls", "cdr", "drain", "call"}
    for words in commands:
        told = subprocess.run(
            [str(VENV / "kubectl-sipfleet"), *words[2:], "--help"], capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
        for word in words:
            if word.startswith("-"):
                assert re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", told.stdout), word


def test_the_chart_labels_the_operator_as_it_is_looked_for() -> None:
    deployment = (ROOT / "charts/sipfleet/templates/_helpers.tpl").read_text()
    name, _, value = SELECTOR.partition("=")
    assert f"{name}: {value}" in deployment
    assert OPERATOR_NAMESPACE == "sipfleet"
    assert yaml.safe_load((ROOT / "charts/sipfleet/Chart.yaml").read_text())["name"] == "sipfleet"
