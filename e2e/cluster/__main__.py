"""The command `python -m e2e.cluster`: up, down, status, env and the ways to break it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from e2e.cluster import binaries, cgroups, layout, processes
from e2e.cluster.api import ApiError
from e2e.cluster.cluster import Cluster, ClusterError, is_ready, say
from e2e.cluster.images import ImageError
from e2e.cluster.network import NetworkError
from e2e.cluster.processes import ProcessError

ON_NODE: dict[str, str] = {
    "stop-kubelet": "freeze a node's kubelet",
    "continue-kubelet": "let it go on",
    "kill-kubelet": "end a node's kubelet",
    "start-kubelet": "start it again",
    "kill-pods": "kill all processes of a node's pods",
    "kill-node": "cut a node's power",
    "start-node": "start it again and wait until it is Ready",
    "partition": "pull a node's cable",
    "heal": "plug it in again",
    "restart-kube-proxy": "end a node's kube-proxy and start it again",
}
ON_CLUSTER: dict[str, str] = {
    "restart-api-server": "kill the API server and start it again",
    "flush-connections": "make all nodes forget their tracked connections",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A Kubernetes to test on.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="bring a new cluster up")
    up.add_argument("--nodes", type=int, default=3, choices=range(1, 6), metavar="N", help="1 to 5 (default 3)")
    verbs.add_parser("down", help="take it down without a trace")
    verbs.add_parser("status", help="what runs, and what it uses")
    verbs.add_parser("env", help="print shell commands that set KUBECONFIG and PATH")
    load = verbs.add_parser("load-image", help="load an image archive into all nodes")
    load.add_argument("archive", type=Path)
    for verb, text in ON_NODE.items():
        verbs.add_parser(verb, help=text).add_argument("node")
    for verb, text in ON_CLUSTER.items():
        verbs.add_parser(verb, help=text)
    return parser


def _status(cluster: Cluster) -> None:
    for name in processes.names():
        pid = processes.pid_of(name)
        print(f"{name:28}{'pid ' + str(pid) if pid is not None else 'not running'}")
    if cluster.is_up:
        for item in cluster.api().get("/api/v1/nodes")["items"]:
            print(f"{item['metadata']['name']:28}{'Ready' if is_ready(item) else 'not Ready'}")
        used = cgroups.memory_bytes(f"/{layout.NAME}") / 1e6
        print(f"memory {used:.0f} MB, processor time {cgroups.cpu_seconds(f'/{layout.NAME}'):.0f} s")
    else:
        print("no cluster is up")


def _env(cluster: Cluster) -> None:
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f'export PATH={binaries.KUBECTL.path.parent}:{binaries.HELM.path.parent}:"$PATH"')


def _method(cluster: Cluster, verb: str) -> Callable[..., None]:
    method: Callable[..., None] = getattr(cluster, verb.replace("-", "_"))
    return method


def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    cluster = Cluster()
    try:
        match arguments.verb:
            case "up":
                cluster.up(arguments.nodes)
                say(f"kubectl and helm find it by what `{sys.executable} -m e2e.cluster env` prints:")
                _env(cluster)
            case "status":
                _status(cluster)
            case "env":
                _env(cluster)
            case "load-image":
                cluster.load_image(arguments.archive)
            case verb if verb in ON_NODE:
                _method(cluster, verb)(cluster.node(arguments.node))
            case verb:
                _method(cluster, verb)()
    except (ClusterError, ProcessError, NetworkError, ImageError, ApiError, TimeoutError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
