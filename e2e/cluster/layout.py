"""Where everything is: names, addresses and folders of the cluster. Data only; nothing here touches the machine.

    198.18.0.0/30        192.0.2.0/24                             203.0.113.0/24
    host .1 -- .2 control .10 --+                                       +-- .10 to .19 world (callers)
                    node1 .11 --+-- .1 cloud (routes, load balancer) .1 +
                    node2 .12 --+                                       +-- .20 nat .1 -- 10.77.0.0/24 -- .10 home

Addresses are those for documentation (RFC 5737), private ones in the cluster and behind the NAT, and between host and
control plane two of those for benchmarks (RFC 2544); the host sees no other of these networks, so none is in its way.
Service addresses of type LoadBalancer are 198.51.100.0/24; they exist as routes in `cloud` only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

INSTANCE = int(os.environ.get("SIPFLEET_E2E_INSTANCE", "0"))
"""0 to 63: clusters of different numbers can be up at the same time; each has networks of its own."""

NAME = "sipfleet-e2e" + (f"-{INSTANCE}" if INSTANCE else "")
"""Of everything that is made on the machine: folders, control groups, the host's interface."""

RUN = Path("/run") / NAME
"""What is about the running cluster: processes, keys, configuration, kubeconfig, logs."""
DATA = Path("/var/lib") / NAME
"""What is big: the store, and each node's disk."""
KUBECONFIG = RUN / "kubeconfig"
PKI = RUN / "pki"
CONFIGURATION = RUN / "configuration"
LOGS = RUN / "logs"
PROCESSES = RUN / "processes"

NODE_NETWORK = IPv4Network("192.0.2.0/24")
WORLD_NETWORK = IPv4Network("203.0.113.0/24")
HOME_NETWORK = IPv4Network("10.77.0.0/24")
LOAD_BALANCER_NETWORK = IPv4Network("198.51.100.0/24")
POD_NETWORK = IPv4Network("10.244.0.0/16")
SERVICE_NETWORK = IPv4Network("10.96.0.0/16")

CLOUD_ADDRESS = "192.0.2.1"
CLOUD_WORLD_ADDRESS = "203.0.113.1"
CONTROL_ADDRESS = "192.0.2.10"
HOST_NETWORK = IPv4Network(f"198.18.0.{4 * INSTANCE}/30")
HOST_ADDRESS = str(HOST_NETWORK[1])
CONTROL_HOST_ADDRESS = str(HOST_NETWORK[2])
"""The control plane's address for the host; the other places reach it by this one too: one kubeconfig fits all."""
WORLD_ADDRESSES = tuple(f"203.0.113.{host}" for host in range(10, 20))
NAT_ADDRESS = "203.0.113.20"
NAT_HOME_ADDRESS = "10.77.0.1"
HOME_ADDRESS = "10.77.0.10"
KUBERNETES_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"

API_PORT = 6443
API_URL = f"https://{CONTROL_HOST_ADDRESS}:{API_PORT}"
DNS_PORT = 53
CLUSTER_DOMAIN = "cluster.local"

HOST_INTERFACE = NAME
"""The host's end of a cable to the control plane, so that kubectl reaches the API server."""

PODS_BRIDGE = "pods"
"""On each node, made by its CNI plugin."""

PAUSE_IMAGE = "sipfleet.io/e2e/pause:1"
BUSYBOX_IMAGE = "sipfleet.io/e2e/busybox:1"
STORAGE_CLASS = "local"
VOLUMES_PER_NODE = 4
VOLUMES = Path("/var/lib") / f"{NAME}-volumes"
"""A node's local volumes, as the node sees them."""


@dataclass(frozen=True)
class Node:
    """One node, by its number (from 1)."""

    number: int

    @property
    def name(self) -> str:
        """Of the Node object, and of its cable in `cloud`."""
        return f"node{self.number}"

    @property
    def address(self) -> str:
        """On the nodes' network."""
        return f"192.0.2.{10 + self.number}"

    @property
    def pods(self) -> IPv4Network:
        """The addresses of its pods."""
        return IPv4Network(f"10.244.{self.number}.0/24")

    @property
    def zone(self) -> str:
        """Each node is in a zone of its own, so that what spreads over zones spreads over nodes."""
        return f"zone-{self.number}"

    @property
    def disk(self) -> Path:
        """What the node keeps when it is restarted, as the host sees it."""
        return DATA / self.name

    @property
    def cgroup(self) -> str:
        """Of all its processes, in every hierarchy."""
        return f"/{NAME}/{self.name}"


def nodes(count: int) -> list[Node]:
    """The nodes of a cluster of that size."""
    return [Node(number) for number in range(1, count + 1)]


def namespace(place: str) -> str:
    """The name of a network namespace, as `ip netns` knows it: of cloud, world, nat, home, control or a node."""
    return f"sipfleet{INSTANCE or ''}-{place}"


def namespace_path(place: str) -> Path:
    """The file that stands for a network namespace."""
    return Path("/run/netns") / namespace(place)


def other_kubeconfig() -> Path | None:
    """The file that KUBECONFIG names when it is that of another cluster; None when it is ours or not set."""
    value = os.environ.get("KUBECONFIG")
    return Path(value) if value and Path(value) != KUBECONFIG else None
