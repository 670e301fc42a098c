"""The cluster as a whole: up, down, and the ways to break it."""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import (
    api,
    binaries,
    certificates,
    cgroups,
    controlplane,
    images,
    layout,
    network,
    objects,
    processes,
    volumes,
)
from e2e.cluster import node as node_parts
from e2e.cluster.layout import Node

CLOUD = "cloud.load-balancer"
ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = Path("/run/lock") / layout.NAME
LOADED = layout.DATA / "images"
MOUNT_POINTS = layout.RUN / "mount-points"
"""Names the folders that were made on the host because a node needs something to mount over."""


class ClusterError(Exception):
    """The cluster is not in a state in which that could be done, or did not come up."""


def say(text: str) -> None:
    """A line about what is being done."""
    print(f"==> {text}", file=sys.stderr, flush=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Only one command at a time brings the cluster up or down."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cloud() -> processes.Launch:
    return processes.Launch(
        CLOUD, [sys.executable, "-m", "e2e.cluster.cloud"], "cloud", environment={"PYTHONPATH": str(ROOT)}
    )


class Cluster:
    """A cluster of our own on this machine, found by what it left under /run."""

    def __init__(self) -> None:
        self._count = 0
        if layout.CONFIGURATION.exists():
            self._count = len([path for path in layout.CONFIGURATION.iterdir() if path.name.startswith("node")])

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Node]:
        """Its nodes."""
        return layout.nodes(self._count)

    def node(self, name: str) -> Node:
        """A node by name. Raises ClusterError."""
        for each in self.nodes:
            if each.name == name:
                return each
        raise ClusterError(f"no node {name!r}; there are: {', '.join(each.name for each in self.nodes) or 'none'}")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig file."""
        return layout.KUBECONFIG

    @property
    def is_up(self) -> bool:
        """Whether it was brought up and its API server runs."""
        return self._count > 0 and processes.pid_of(controlplane.API_SERVER) is not None

    def api(self) -> api.Api:
        """A client of its API, as administrator."""
        return api.Api(self.kubeconfig)

    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to work with it: KUBECONFIG, and PATH with kubectl and helm."""
        tools = [str(tool.path.parent) for tool in (binaries.KUBECTL, binaries.HELM)]
        path = os.pathsep.join([*tools, os.environ.get("PATH", "")])
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Runs kubectl and returns its output. Raises ClusterError with what it said."""
        argv = [str(binaries.KUBECTL.path), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, input=input, env=self.environment())
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    # --- up and down --------------------------------------------------------------------------------------------------

    def up(self, count: int = 3) -> None:
        """Brings up a new cluster; what an earlier one left is removed first. Raises the exceptions of this package."""
        if os.geteuid() != 0:
            raise ClusterError("namespaces, mounts and control groups need root")
        lacking = binaries.missing()
        if lacking:
            raise ClusterError(f"not built yet: {', '.join(lacking)}; run scripts/e2e-binaries.sh")
        with _alone():
            self._down()
            began = time.monotonic()
            try:
                self._up(layout.nodes(count))
            except BaseException:
                say(f"it did not come up; logs are in {layout.LOGS}, `down` removes what there is")
                raise
            say(f"{count} nodes Ready after {time.monotonic() - began:.0f} s")

    def _up(self, nodes: Sequence[Node]) -> None:
        for folder in (layout.CONFIGURATION, layout.LOGS, layout.PROCESSES, LOADED, layout.DATA / "etcd"):
            folder.mkdir(parents=True, mode=0o700)
        say("keys, configuration, networks")
        certificates.make(nodes)
        (layout.CONFIGURATION / "Corefile").write_text(controlplane.corefile())
        (layout.CONFIGURATION / "audit.json").write_text(controlplane.audit_policy())
        cgroups.make(f"/{layout.NAME}")
        network.make()
        _make_mount_points()
        for node in nodes:
            node_parts.write_configuration(node)
        self._count = len(nodes)

        say("control plane")
        processes.start(controlplane.etcd())
        processes.start(controlplane.api_server())
        with ThreadPoolExecutor() as pool:
            own_images = pool.submit(images.make_own, LOADED)
            runtimes = [pool.submit(self._start_runtime, node) for node in nodes]
            self.wait_for_api(90)
            for launch in (controlplane.controller_manager(), controlplane.scheduler()):
                processes.start(launch)
            client = self.api()
            for path, item in objects.permissions():
                client.apply(path, item)
            for node in nodes:
                client.request("POST", "/api/v1/nodes", node_parts.node_object(node))
            processes.start(controlplane.dns())
            for runtime in runtimes:
                runtime.result()
            archives = own_images.result()
        say("nodes")
        for archive in archives:
            images.load(archive, nodes)
        network.reach_pods(nodes)
        for node in nodes:
            processes.start(node_parts.kubelet(node))
            processes.start(node_parts.kube_proxy(node))
        api.wait_until("namespace kube-system", lambda: client.find("/api/v1/namespaces/kube-system") is not None, 30)
        for path, item in [*objects.dns_service(), *objects.storage(nodes)]:
            client.apply(path, item)
        processes.start(_cloud())
        self.wait_ready(nodes, 120)
        service_account = "/api/v1/namespaces/default/serviceaccounts/default"
        api.wait_until("service accounts", lambda: client.find(service_account) is not None, 60)

    def _start_runtime(self, node: Node) -> None:
        """A node's network, namespaces and container runtime."""
        others = [other for other in self.nodes if other != node]
        network.make_node(node, others)
        cgroups.make(node.cgroup)
        volumes.prepare(node)
        processes.start(node_parts.first(node))
        processes.start(node_parts.containerd(node))

        def answers() -> bool:
            processes.expect_running(node_parts.containerd_name(node))
            try:
                images.names(node)
            except images.ImageError:
                return False
            return True

        api.wait_until(f"containerd of {node.name}", answers, 60)

    def wait_for_api(self, seconds: float) -> None:
        """Waits until the API server is ready. Raises TimeoutError and ProcessError."""

        def ready() -> bool:
            for name in (controlplane.ETCD, controlplane.API_SERVER):
                processes.expect_running(name)
            return bool(self.api().get("/readyz") == "ok")

        api.wait_until("API server", ready, seconds)

    def wait_ready(self, nodes: Sequence[Node], seconds: float) -> None:
        """Waits until nodes are Ready. Raises TimeoutError and ProcessError."""
        client = self.api()

        def ready() -> bool:
            for node in nodes:
                processes.expect_running(node_parts.kubelet_name(node))
                if not is_ready(client.get(f"/api/v1/nodes/{node.name}")):
                    return False
            return True

        api.wait_until(f"nodes Ready: {', '.join(node.name for node in nodes)}", ready, seconds)

    def down(self) -> None:
        """Takes everything down; what is not there is no error. Raises ClusterError when something stays."""
        if os.geteuid() != 0:
            raise ClusterError("namespaces, mounts and control groups need root")
        with _alone():
            self._down()

    def _down(self) -> None:
        """Goes by what is there, not by what was noted, so that it also removes what a crashed `up` left."""
        if not leftovers():
            return
        say("taking the cluster down")
        for _ in range(10):
            # A command of an `up` that was killed may still have been at work.
            _take_apart()
            still = leftovers()
            if not still:
                break
            time.sleep(0.5)
        else:
            raise ClusterError(f"left over: {', '.join(still)}")
        self._count = 0

    # --- breaking it --------------------------------------------------------------------------------------------------

    def stop_kubelet(self, node: Node) -> None:
        """Freezes a node's kubelet: it does nothing more, and its connections stay open."""
        processes.send(node_parts.kubelet_name(node), signal.SIGSTOP)

    def continue_kubelet(self, node: Node) -> None:
        """Lets a frozen kubelet go on."""
        processes.send(node_parts.kubelet_name(node), signal.SIGCONT)

    def kill_kubelet(self, node: Node) -> None:
        """Ends a node's kubelet; its pods go on."""
        processes.kill([node_parts.kubelet_name(node)])

    def start_kubelet(self, node: Node) -> None:
        """Starts a kubelet that was killed."""
        self._start_again(node_parts.kubelet_name(node))

    def kill_pods(self, node: Node) -> None:
        """Kills every process of every pod of a node at once. A kubelet that runs brings them back: stop it first."""
        _kill_until_gone(lambda: set(processes.in_cgroup(f"{node.cgroup}/kubepods")), f"pods of {node.name}", 5)

    def kill_node(self, node: Node) -> None:
        """Cuts a node's power: its daemons and all containers are gone at once, and its cable is pulled."""
        network.cut(node)
        processes.kill([node_parts.first_name(node)])

    def start_node(self, node: Node, seconds: float = 120) -> None:
        """Starts a node that was killed, with its old disk and no tracked connections, and waits until it is Ready."""
        processes.kill(node_parts.all_names(node))
        _kill_inside(node.name)
        network.remove_node(node)
        cgroups.remove(node.cgroup)
        self._start_runtime(node)
        processes.start(node_parts.kubelet(node))
        processes.start(node_parts.kube_proxy(node))
        before = time.time()
        client = self.api()

        def ready() -> bool:
            return is_ready(client.get(f"/api/v1/nodes/{node.name}"), since=before)

        api.wait_until(f"{node.name} Ready again", ready, seconds)

    def partition(self, node: Node) -> None:
        """Pulls a node's cable while everything on it goes on."""
        network.cut(node)

    def heal(self, node: Node) -> None:
        """Plugs a node's cable in again."""
        network.mend(node)

    def restart_kube_proxy(self, node: Node) -> None:
        """Ends a node's kube-proxy and starts it again."""
        processes.end([node_parts.kube_proxy_name(node)])
        self._start_again(node_parts.kube_proxy_name(node))

    def restart_api_server(self, seconds: float = 90) -> None:
        """Kills the API server, starts it again and waits until it is ready."""
        processes.kill([controlplane.API_SERVER])
        self._start_again(controlplane.API_SERVER)
        self.wait_for_api(seconds)

    def flush_connections(self) -> None:
        """Makes the connection tracking of all nodes forget everything."""
        for node in self.nodes:
            network.flush_connections(node.name)

    @staticmethod
    def _start_again(name: str) -> None:
        if processes.pid_of(name) is None:
            processes.again(name)

    # --- images -------------------------------------------------------------------------------------------------------

    def load_image(self, archive: Path) -> None:
        """Loads the images of an archive into all nodes (see `images.load`)."""
        images.load(archive, self.nodes)


def is_ready(item: api.Object, since: float = 0.0) -> bool:
    """Whether a Node object says Ready, and said so after a time (seconds since the epoch)."""
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            heard = time.strptime(condition["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ")
            return calendar.timegm(heard) >= int(since)
    return False


def _take_apart() -> None:
    # All lose their power at once; nothing is kept that could be spoilt.
    processes.kill(processes.names())
    _kill_rest()
    network.remove_host_interface()
    for place in network.existing():
        network.remove_place(place)
    try:
        cgroups.remove(f"/{layout.NAME}")
        if layout.VOLUMES.exists():
            layout.VOLUMES.rmdir()
    except OSError as error:
        say(f"not yet gone: {error}")
        return
    _remove_mount_points()
    for folder in (layout.DATA, layout.RUN):
        shutil.rmtree(folder, ignore_errors=True)


def _make_mount_points() -> None:
    made: list[str] = []
    for path in (*node_parts.PRIVATE_FOLDERS, *node_parts.EMPTY_FOLDERS):
        missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
        made += [str(folder) for folder in missing]
        # Noted first: a folder that was not made after all is not removed either.
        MOUNT_POINTS.write_text("\n".join(made))
        Path(path).mkdir(parents=True, exist_ok=True)


def _remove_mount_points() -> None:
    if not MOUNT_POINTS.exists():
        return
    for other in Path("/run").glob("sipfleet-e2e*/mount-points"):
        if other != MOUNT_POINTS:
            # To remove a folder would unmount what another cluster's nodes have on it: that one removes it later.
            made = [path for path in MOUNT_POINTS.read_text().split() if Path(path).exists()]
            other.write_text("\n".join([*made, *other.read_text().split()]))
            return
    for path in MOUNT_POINTS.read_text().split():
        try:
            os.rmdir(path)
        except OSError:
            pass  # it is used by somebody else by now


def _kill_inside(place: str) -> None:
    for pid in processes.inside(place):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _kill_rest() -> None:
    """Kills what is in the cluster's namespaces and control groups, whoever started it: callers of a dead test, say."""

    def found() -> set[int]:
        inside = (pid for place in network.existing() for pid in processes.inside(place))
        return {*processes.in_cgroup(f"/{layout.NAME}"), *inside} - {os.getpid()}

    _kill_until_gone(found, "the cluster", 20)


def _kill_until_gone(found: Callable[[], set[int]], whose: str, seconds: float) -> None:
    """SIGKILL to all that is found, again and again: what dies may have had children that nobody saw."""
    until = time.monotonic() + seconds
    while pids := found():
        if time.monotonic() > until:
            raise ClusterError(f"processes of {whose} do not end: {sorted(pids)}")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def leftovers() -> list[str]:
    """What of a cluster is on the machine: files, namespaces, control groups, the host's cable."""
    found = [str(path) for path in (layout.RUN, layout.DATA, layout.VOLUMES) if path.exists()]
    found += [f"network namespace {layout.namespace(place)}" for place in network.existing()]
    found += cgroups.existing(f"/{layout.NAME}")
    if Path(f"/sys/class/net/{layout.HOST_INTERFACE}").exists():
        found.append(f"interface {layout.HOST_INTERFACE}")
    return found
