"""The test cluster is a cluster: what the other tests take for granted of it.

These tests are about our own cluster only. On another one they are skipped, as its nodes are not ours to break.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from e2e.cluster import binaries, controlplane, layout, network, processes
from e2e.cluster import node as node_parts
from e2e.cluster.cluster import Cluster, is_ready
from e2e.cluster.layout import BUSYBOX_IMAGE, Node
from e2e.harness.kubectl import Kubectl, Object

NAMESPACE = "cluster-test"


@pytest.fixture(scope="module")
def kube(own_cluster: Cluster | None) -> Iterator[Kubectl]:
    """A namespace with one web server on every node, a Service of each kind over them, all reachable."""
    if own_cluster is None:
        pytest.skip("KUBECONFIG names a cluster whose nodes are not ours to break")
    kube = Kubectl(str(binaries.KUBECTL.path), own_cluster.kubeconfig, NAMESPACE)
    kube.attempt("delete", "namespace", NAMESPACE, "--wait", "--ignore-not-found")
    kube("create", "namespace", NAMESPACE)
    kube.apply(web_servers(len(own_cluster.nodes)), *services())
    kube("rollout", "status", "statefulset/web", "--timeout=90s", timeout=100)
    eventually(lambda: len(routes(outer_address(kube))) == len(own_cluster.nodes))
    yield kube
    kube("delete", "namespace", NAMESPACE, "--wait")


def web_servers(count: int) -> Object:
    container = {
        "name": "web",
        "image": BUSYBOX_IMAGE,
        "command": ["/bin/who-asks"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "topologySpreadConstraints": [spread],
            "containers": [container],
        },
    }
    spec = {
        "replicas": count,
        "serviceName": "web",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web"}},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": spec}


def services() -> list[Object]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
        {"name": "sip", "port": 5060, "protocol": "UDP"},
    ]
    kinds: dict[str, Object] = {
        "web": {"clusterIP": "None"},
        "web-inner": {},
        "web-outer": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
        }
        for name, spec in kinds.items()
    ]


def eventually(check: Callable[[], bool], seconds: float = 30.0, pause: float = 0.2) -> float:
    """Waits until a check is true and returns how long that took, in seconds."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(pause)
    return time.monotonic() - began


def pod_on(kube: Kubectl, node: Node) -> Object:
    found = [pod for pod in kube.items("pods", "-l", "app=web") if pod["spec"].get("nodeName") == node.name]
    assert len(found) == 1, f"{len(found)} web servers on {node.name}"
    return found[0]


def name_of(item: Object) -> str:
    return str(item["metadata"]["name"])


def outer_address(kube: Kubectl) -> str:
    for _ in range(100):
        ingress = kube.get("service/web-outer")["status"]["loadBalancer"].get("ingress")
        if ingress:
            assert ingress[0]["ipMode"] == "VIP"
            return str(ingress[0]["ip"])
        time.sleep(0.1)
    raise AssertionError("the fake cloud gave no address")


def routes(address: str) -> set[str]:
    """The nodes that the cloud sends an address to."""
    text = network.run(["ip", "route", "show", f"{address}/32"], "cloud")
    return set(re.findall(r"via (\S+)", text))


def ask(address: str, place: str, source: str = "", port: int = 80) -> tuple[str, str]:
    """Asks a web server over HTTP from a place: (the pod that answered, the source address that it saw)."""
    with network.sockets_in(place):
        connection = socket.socket()
    with connection:
        connection.settimeout(2.0)
        connection.bind((source, 0))
        connection.connect((address, port))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = connection.makefile("rb").read().decode()
    assert " 200 " in answer.splitlines()[0], answer
    pod, seen, _ = answer.splitlines()[-1].split()
    return pod, seen.split(":")[0]


def ask_udp(connection: socket.socket) -> tuple[str, str]:
    """Asks over a connected UDP socket: (the pod that answered, the source address and port that it saw)."""
    for _ in range(5):
        connection.send(b"hello\n")
        try:
            pod, seen, line = connection.recv(1000).decode().split()
        except TimeoutError:
            continue
        assert line == "hello"
        return pod, seen
    raise AssertionError("no answer within 5 tries")


def udp_socket(place: str, address: str, source: str = "") -> socket.socket:
    with network.sockets_in(place):
        connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connection.settimeout(1.0)
    connection.bind((source, 0))
    connection.connect((address, 5060))
    return connection


def fetch(kube: Kubectl, pod: str, address: str) -> tuple[str, str]:
    """Asks from within a pod: the pod that answered and the source address that it saw."""
    answered, seen, _ = kube("exec", pod, "--", "timeout", "3", "wget", "-qO-", f"http://{address}/").split()
    return answered, seen.split(":")[0]


# --- the cluster as it is ---------------------------------------------------------------------------------------------


def test_all_nodes_are_ready_in_zones_of_their_own(kube: Kubectl, cluster: Cluster) -> None:
    items = kube.items("nodes")
    assert [name_of(item) for item in items] == [node.name for node in cluster.nodes]
    assert all(is_ready(item) for item in items)
    assert {item["status"]["nodeInfo"]["kubeletVersion"] for item in items} == {f"v{binaries.KUBERNETES.version}"}
    assert len({item["metadata"]["labels"]["topology.kubernetes.io/zone"] for item in items}) == len(items)


def test_logs_and_exec_reach_a_pod_on_every_node(kube: Kubectl, cluster: Cluster) -> None:
    for node in cluster.nodes:
        pod = name_of(pod_on(kube, node))
        assert "ready" in kube("logs", pod)
        assert kube("exec", pod, "--", "hostname").strip() == pod


def test_a_pods_address_is_seen_by_other_pods_and_its_nodes_address_outside(kube: Kubectl, cluster: Cluster) -> None:
    first, *_, last = cluster.nodes
    here, there = pod_on(kube, first), pod_on(kube, last)
    assert fetch(kube, name_of(here), f"{there['status']['podIP']}:8080")[1] == here["status"]["podIP"]
    with network.sockets_in("world"):
        listener = socket.create_server((layout.WORLD_ADDRESSES[0], 0))
    with listener:
        listener.settimeout(5.0)
        address, port = listener.getsockname()
        words = ["exec", name_of(here), "--", "sh", "-c", f"nc -w 2 {address} {port} </dev/null"]
        with subprocess.Popen([kube.program, "-n", NAMESPACE, *words], env=kube.environment) as asking:
            connection, (source, _) = listener.accept()
            connection.close()
            asking.wait(10)
    assert source == first.address


def test_the_control_plane_reaches_pods_as_its_webhooks_need(kube: Kubectl, cluster: Cluster) -> None:
    for node in cluster.nodes:
        pod = pod_on(kube, node)
        assert ask(pod["status"]["podIP"], "control", port=8080)[0] == name_of(pod)


def test_a_cluster_address_reaches_pods_on_all_nodes_and_the_asking_pod_too(kube: Kubectl, cluster: Cluster) -> None:
    pods = {name_of(pod_on(kube, node)) for node in cluster.nodes}
    asking = min(pods)
    answered: set[str] = set()
    for _ in range(60):
        answered.add(fetch(kube, asking, "web-inner")[0])
        if answered == pods:
            break
    assert answered == pods


def test_the_api_is_reached_by_the_service_that_pods_use(kube: Kubectl, cluster: Cluster) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    pod = name_of(pod_on(kube, cluster.nodes[0]))
    assert "ca.crt" in kube("exec", pod, "--", "ls", token)
    words = 'printf "GET / HTTP/1.0\\r\\n\\r\\n" | timeout 3 nc kubernetes.default 443'
    assert "HTTPS server" in kube("exec", pod, "--", "sh", "-c", words)


def test_a_headless_service_has_an_srv_record_for_each_pod(kube: Kubectl, cluster: Cluster) -> None:
    name = f"_sip._udp.web.{NAMESPACE}.svc.{layout.CLUSTER_DOMAIN}"
    pods = kube.items("pods", "-l", "app=web")
    wanted = {(5060, f"{name_of(pod)}.web.{NAMESPACE}.svc.{layout.CLUSTER_DOMAIN}") for pod in pods}

    def found() -> set[tuple[int, str]]:
        text = kube("exec", name_of(pods[0]), "--", "nslookup", "-type=srv", name)
        return {(int(port), target) for port, target in re.findall(r"service = \d+ \d+ (\d+) (\S+)", text)}

    eventually(lambda: found() == wanted, 15)
    status, text = kube.attempt("exec", name_of(pods[0]), "--", "nslookup", "web.example.test.")
    assert status != 0
    assert "NXDOMAIN" in text, "another name does not exist, rather than that the server fails"
    address = kube("exec", name_of(pods[0]), "--", "nslookup", f"web-1.web.{NAMESPACE}.svc.{layout.CLUSTER_DOMAIN}")
    assert next(pod for pod in pods if name_of(pod) == "web-1")["status"]["podIP"] in address


def test_the_outer_address_is_reached_from_the_world_with_the_source_intact(kube: Kubectl, cluster: Cluster) -> None:
    address = outer_address(kube)
    for source in layout.WORLD_ADDRESSES[:3]:
        assert ask(address, "world", source)[1] == source
    pods = {ask(address, "world")[0] for _ in range(60)}
    assert len(pods) == len(cluster.nodes), "flows are spread over all nodes"


def test_the_outer_address_is_reached_through_the_nat_which_is_the_source_then(kube: Kubectl) -> None:
    address = outer_address(kube)
    assert ask(address, "home")[1] == layout.NAT_ADDRESS
    with udp_socket("home", address) as connection:
        assert ask_udp(connection)[1].split(":")[0] == layout.NAT_ADDRESS


def test_a_connected_udp_socket_gets_its_answers_from_the_outer_address(kube: Kubectl) -> None:
    source = layout.WORLD_ADDRESSES[2]
    with udp_socket("world", outer_address(kube), source) as connection:
        answers = {ask_udp(connection) for _ in range(5)}
        assert len(answers) == 1, "one flow stays at one pod"
        assert answers.pop()[1] == f"{source}:{connection.getsockname()[1]}"


def test_nobody_comes_in_through_the_nat_unasked(kube: Kubectl) -> None:
    address = outer_address(kube)
    with udp_socket("home", address) as inside:
        seen = ask_udp(inside)[1]
        with udp_socket("world", address) as stranger:
            nat, port = seen.split(":")
            stranger.connect((nat, int(port)))
            stranger.send(b"not asked for\n")
            inside.settimeout(0.5)
            with pytest.raises(TimeoutError):
                inside.recv(1000)


def test_the_outer_address_works_within_the_cluster_from_a_node_without_a_pod_of_it(
    kube: Kubectl, cluster: Cluster
) -> None:
    pod = name_of(pod_on(kube, cluster.nodes[0]))
    kube("label", "pod", "-l", "app=web", "only=no", "--overwrite")
    there = pod_on(kube, cluster.nodes[-1])
    kube("label", "pod", name_of(there), "only=yes", "--overwrite")
    only = services()[2]
    only["metadata"]["name"] = "only"
    only["spec"]["selector"] = {"only": "yes"}
    kube.apply(only)
    status = kube.until("served", lambda found: bool(found["status"]["loadBalancer"]), 10, "service/only")["status"]
    address = status["loadBalancer"]["ingress"][0]["ip"]
    eventually(lambda: routes(address) == {cluster.nodes[-1].address})
    assert fetch(kube, pod, address)[0] == name_of(there)
    assert ask(address, "world")[0] == name_of(there)
    kube("delete", "service", "only")
    eventually(lambda: routes(address) == set(), 5)
    kube.apply(only)
    status = kube.until("served", lambda found: bool(found["status"]["loadBalancer"]), 10, "service/only")["status"]
    assert status["loadBalancer"]["ingress"][0]["ip"] == address, "the same name has the same address again"
    kube("delete", "service", "only")


def test_a_service_may_ask_for_its_outer_address(kube: Kubectl) -> None:
    fixed = services()[2]
    fixed["metadata"]["name"] = "fixed"
    fixed["spec"]["loadBalancerIP"] = "198.51.100.250"
    kube.apply(fixed)
    found = kube.until("served", lambda found: bool(found["status"]["loadBalancer"]), 10, "service/fixed")
    assert found["status"]["loadBalancer"]["ingress"][0]["ip"] == "198.51.100.250"
    kube("delete", "service", "fixed")


def test_a_volume_is_bound_kept_and_given_back_empty(kube: Kubectl) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }

    def pod(name: str, script: str) -> Object:
        container = {
            "name": "c",
            "image": BUSYBOX_IMAGE,
            "command": ["/bin/sh", "-c", script],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "securityContext": {"runAsUser": 1000},
        }
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def done(found: Object) -> bool:
        return bool(found["status"]["phase"] == "Succeeded")

    kube.apply(claim, pod("writes", "echo kept > /data/file"))
    kube.until("done", done, 30, "pod/writes")
    kube.apply(pod("reads", "cat /data/file"))
    kube.until("done", done, 30, "pod/reads")
    assert kube("logs", "reads") == "kept\n"
    volume = kube.get("pvc/data")["spec"]["volumeName"]
    kube("delete", "pod/writes", "pod/reads", "pvc/data")
    kube.until("free", lambda found: bool(found["status"]["phase"] == "Available"), 15, f"pv/{volume}")
    kube.apply(claim, pod("looks", "ls /data | wc -l"))
    kube.until("done", done, 30, "pod/looks")
    assert kube("logs", "looks") == "0\n"
    kube("delete", "pod/looks", "pvc/data")


def test_permissions_and_pod_security_are_enforced(kube: Kubectl) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:default"
    status, text = kube.attempt("get", "secrets", f"--as={account}")
    assert status != 0
    assert "forbidden" in text
    kube("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    status, text = kube.attempt("run", "bad", f"--image={BUSYBOX_IMAGE}", "--privileged")
    kube("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-")
    assert status != 0
    assert "violates PodSecurity" in text


# --- the cluster as it is broken --------------------------------------------------------------------------------------


def test_a_pod_that_does_not_serve_is_out_of_the_route_in_seconds(kube: Kubectl, cluster: Cluster) -> None:
    address, node = outer_address(kube), cluster.nodes[0]
    pod = name_of(pod_on(kube, node))
    kube("label", "pod", pod, "app-")
    try:
        took = eventually(lambda: node.address not in routes(address), 10, 0.05)
        assert took < 5.0
        assert all(ask(address, "world")[0] != pod for _ in range(20))
    finally:
        kube("delete", "pod", pod, "--wait")
    kube("rollout", "status", "statefulset/web", "--timeout=60s")
    eventually(lambda: node.address in routes(address))


def test_all_connections_can_be_forgotten(kube: Kubectl, cluster: Cluster) -> None:
    def tracked(port: int) -> int:
        words = ["conntrack", "-L", "-p", "udp", "--orig-port-src", str(port)]
        return sum(len(network.run(words, node.name).splitlines()) for node in cluster.nodes)

    with udp_socket("world", outer_address(kube)) as connection:
        port = connection.getsockname()[1]
        before = ask_udp(connection)
        assert tracked(port) == 1
        cluster.flush_connections()
        assert tracked(port) == 0
        assert ask_udp(connection) == before, "the route still leads to the same node, which has one pod"


def test_kube_proxy_restarts(kube: Kubectl, cluster: Cluster) -> None:
    node = cluster.nodes[0]
    before = processes.pid_of(node_parts.kube_proxy_name(node))
    cluster.restart_kube_proxy(node)
    after = processes.pid_of(node_parts.kube_proxy_name(node))
    assert None not in (before, after)
    assert before != after
    address = outer_address(kube)
    eventually(lambda: len(routes(address)) == len(cluster.nodes))
    assert ask(address, "world")[1] == layout.WORLD_ADDRESSES[0]


def test_the_api_server_restarts(kube: Kubectl, cluster: Cluster) -> None:
    before = processes.pid_of(controlplane.API_SERVER)
    cluster.restart_api_server()
    assert processes.pid_of(controlplane.API_SERVER) not in (None, before)
    assert name_of(kube.get("statefulset/web")) == "web"
    assert ask(outer_address(kube), "world")[1] == layout.WORLD_ADDRESSES[0]


def test_a_kubelet_is_killed_and_its_pods_go_on(kube: Kubectl, cluster: Cluster) -> None:
    node = cluster.nodes[1]
    pod = pod_on(kube, node)
    cluster.kill_kubelet(node)
    assert processes.pid_of(node_parts.kubelet_name(node)) is None
    assert ask(pod["status"]["podIP"], "control", port=8080)[0] == name_of(pod)
    cluster.start_kubelet(node)
    cluster.wait_ready([node], 60)
    again = pod_on(kube, node)
    assert again["status"]["containerStatuses"][0]["restartCount"] == 0


def test_pods_are_killed_while_their_kubelet_is_stopped(kube: Kubectl, cluster: Cluster) -> None:
    node, address = cluster.nodes[1], outer_address(kube)
    pod = pod_on(kube, node)
    cluster.stop_kubelet(node)
    try:
        cluster.kill_pods(node)
        assert processes.in_cgroup(f"{node.cgroup}/kubepods") == []
        with pytest.raises(OSError, match=r"No route|timed out|refused"):
            ask(pod["status"]["podIP"], "control", port=8080)
        # Nobody tells Kubernetes, so the cloud goes on sending: that is what a dead kubelet is like.
        assert node.address in routes(address)
    finally:
        cluster.continue_kubelet(node)

    def restarted() -> bool:
        found = pod_on(kube, node)["status"]["containerStatuses"][0]
        return bool(found["ready"] and found["restartCount"] == 1)

    eventually(restarted, 60)


def test_a_partitioned_node_goes_on_alone_and_comes_back(kube: Kubectl, cluster: Cluster) -> None:
    node, address = cluster.nodes[1], outer_address(kube)
    pod = pod_on(kube, node)
    cluster.partition(node)
    try:
        took = eventually(lambda: node.address not in routes(address), 10, 0.05)
        assert took < 5.0
        assert processes.in_cgroup(f"{node.cgroup}/kubepods") != []
        assert ask(pod["status"]["podIP"], node.name, port=8080)[0] == name_of(pod)
        with pytest.raises(OSError, match=r"No route|timed out"):
            ask(pod["status"]["podIP"], "control", port=8080)
    finally:
        cluster.heal(node)
    eventually(lambda: node.address in routes(address))
    assert ask(pod["status"]["podIP"], "control", port=8080)[0] == name_of(pod)


@pytest.mark.timeout(240)
def test_a_node_dies_and_comes_back(kube: Kubectl, cluster: Cluster) -> None:
    node, address = cluster.nodes[-1], outer_address(kube)
    cluster.kill_node(node)
    try:
        took = eventually(lambda: node.address not in routes(address), 10, 0.05)
        assert took < 5.0
        assert processes.in_cgroup(node.cgroup) == []
        assert {ask(address, "world")[0] for _ in range(20)}
        silent = eventually(lambda: not is_ready(kube.get(f"node/{node.name}")), 90, 1.0)
        print(f"out of the route after {took:.1f} s, NotReady after {silent:.0f} s")
    finally:
        cluster.start_node(node)
    eventually(lambda: node.address in routes(address), 60)
    assert ask(pod_on(kube, node)["status"]["podIP"], "control", port=8080)[0] == name_of(pod_on(kube, node))
