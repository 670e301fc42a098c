"""The networks between the nodes, the outside world and the host: namespaces, bridges, cables, routes and one NAT."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import layout
from e2e.cluster.layout import Node, namespace

PLACES = ("cloud", "world", "nat", "home", "control")
"""Whose namespaces there are besides the nodes'."""

NODES_BRIDGE = "nodes"
WORLD_BRIDGE = "outside"

CLONE_NEWNET = 0x4000_0000


class NetworkError(Exception):
    """A command that sets the network up failed; the message has its output."""


def run(argv: Sequence[str], place: str | None = None) -> str:
    """Runs a command, in a place's network namespace where one is given; its output. Raises NetworkError."""
    if place is not None:
        argv = [*enter(place), *argv]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise NetworkError(f"{' '.join(argv)} ended with {done.returncode}: {said}")
    return done.stdout


def enter(place: str) -> list[str]:
    """What is put before a command so that it runs in a place's network namespace."""
    return ["nsenter", f"--net={layout.namespace_path(place)}", "--"]


@contextmanager
def sockets_in(place: str) -> Iterator[None]:
    """The sockets that this thread makes inside the `with` belong to a place's network; they stay there afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(layout.namespace_path(place), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise NetworkError(f"cannot enter the network of {place}: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            if libc.setns(home, CLONE_NEWNET):
                raise NetworkError(f"cannot leave the network of {place}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(home)
        os.close(there)


def _ip(place: str | None, *commands: str) -> None:
    """Runs several `ip` commands in one go."""
    where = ["-n", namespace(place)] if place is not None else []
    done = subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True)
    if done.returncode:
        raise NetworkError(f"ip in {place or 'the host'}: {done.stderr.strip()}, of:\n" + "\n".join(commands))


def _sysctl(place: str, settings: Iterable[str]) -> None:
    run(["sysctl", "-q", "-w", *settings], place)


def _make(place: str, *more: str) -> None:
    run(["ip", "netns", "add", namespace(place)])
    # Packets come and go by different ways where an address is routed to several nodes: no source check.
    _sysctl(place, ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", *more])
    _ip(place, "link set lo up")


def _plug(place: str, bridge: str, port: str, addresses: Sequence[str], gateway: str | None) -> None:
    """Lays a cable from a place (its `eth0`) to a bridge of the cloud (there it has the name `port`)."""
    _ip(
        "cloud",
        f"link add {port} type veth peer name eth0 netns {namespace(place)}",
        f"link set {port} master {bridge} up",
    )
    _ip(
        place,
        *(f"address add {address}/24 dev eth0" for address in addresses),
        "link set eth0 up",
        *([f"route add default via {gateway}"] if gateway is not None else []),
    )


def make() -> None:
    """Makes everything but the nodes. Raises NetworkError."""
    # Hashing ports too, a client's flows spread over the nodes of an address as a load balancer spreads them.
    spread = "net.ipv4.fib_multipath_hash_policy=1"
    _make("cloud", "net.ipv4.ip_forward=1", spread, "net.bridge.bridge-nf-call-iptables=0")
    _ip(
        "cloud",
        f"link add {NODES_BRIDGE} type bridge",
        f"address add {layout.CLOUD_ADDRESS}/24 dev {NODES_BRIDGE}",
        f"link set {NODES_BRIDGE} up",
        f"link add {WORLD_BRIDGE} type bridge",
        f"address add {layout.CLOUD_WORLD_ADDRESS}/24 dev {WORLD_BRIDGE}",
        f"link set {WORLD_BRIDGE} up",
        # What no node serves is lost without a word, as at a cloud's load balancer.
        f"route add blackhole {layout.LOAD_BALANCER_NETWORK}",
    )
    _make("control")
    _plug("control", NODES_BRIDGE, "control", [layout.CONTROL_ADDRESS], layout.CLOUD_ADDRESS)
    _make("world")
    _plug("world", WORLD_BRIDGE, "world", layout.WORLD_ADDRESSES, layout.CLOUD_WORLD_ADDRESS)
    _make("nat", "net.ipv4.ip_forward=1")
    _plug("nat", WORLD_BRIDGE, "nat", [layout.NAT_ADDRESS], layout.CLOUD_WORLD_ADDRESS)
    _make("home")
    _ip("nat", f"link add lan type veth peer name eth0 netns {namespace('home')}")
    _ip("nat", f"address add {layout.NAT_HOME_ADDRESS}/24 dev lan", "link set lan up")
    _ip("home", f"address add {layout.HOME_ADDRESS}/24 dev eth0", "link set eth0 up")
    _ip("home", f"route add default via {layout.NAT_HOME_ADDRESS}")
    _translate()
    _ip(
        None,
        f"link add {layout.HOST_INTERFACE} type veth peer name host netns {namespace('control')}",
        f"address add {layout.HOST_ADDRESS}/30 dev {layout.HOST_INTERFACE}",
        f"link set {layout.HOST_INTERFACE} up",
    )
    _ip("control", f"address add {layout.CONTROL_HOST_ADDRESS}/30 dev host", "link set host up")
    _ip("cloud", f"route add {layout.HOST_NETWORK} via {layout.CONTROL_ADDRESS}")


def _translate() -> None:
    """A port-restricted NAT (RFC 3489 5): in comes only what answers the very address and port that was written to."""
    run(["iptables", "-w", "-P", "FORWARD", "DROP"], "nat")
    run(["iptables", "-w", "-A", "FORWARD", "-i", "lan", "-j", "ACCEPT"], "nat")
    established = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
    run(["iptables", "-w", "-A", "FORWARD", "-o", "lan", *established, "-j", "ACCEPT"], "nat")
    run(["iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"], "nat")


def make_node(node: Node, others: Iterable[Node]) -> None:
    """Makes a node's network and the ways to its pods. Raises NetworkError."""
    _make(node.name, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=0")
    _plug(node.name, NODES_BRIDGE, node.name, [node.address], layout.CLOUD_ADDRESS)
    for other in others:
        _ip(node.name, f"route add {other.pods} via {other.address}")
    # Answers between pods of one node pass its bridge only; they too must be translated back from a Service's address.
    _sysctl(node.name, ["net.bridge.bridge-nf-call-iptables=1"])
    egress = ["-s", str(node.pods), "!", "-d", str(layout.POD_NETWORK), "-j", "MASQUERADE", "--random-fully"]
    run(["iptables", "-w", "-t", "nat", "-A", "POSTROUTING", *egress], node.name)


def make_guest(place: str, node: Node) -> str:
    """Makes a place on a node's bridge of pods, with an address of its own as a pod has one; -> that address. It goes
    with `remove_place`. Raises NetworkError."""
    address = str(node.pods[254])
    _make(place)
    _ip(
        node.name,
        f"link add {place} type veth peer name eth0 netns {namespace(place)}",
        f"link set {place} master {layout.PODS_BRIDGE} up",
    )
    _ip(
        place,
        f"address add {address}/{node.pods.prefixlen} dev eth0",
        "link set eth0 up",
        f"route add default via {node.pods[1]}",
    )
    return address


def reach_pods(all_nodes: Iterable[Node]) -> None:
    """Routes to the pods from the control plane, whose webhooks run there. Raises NetworkError."""
    _ip("control", *(f"route replace {node.pods} via {node.address}" for node in all_nodes))


def cut(node: Node) -> None:
    """Pulls a node's cable: nothing comes or goes, and neither side is told. Raises NetworkError."""
    _ip("cloud", f"link set {node.name} nomaster")


def mend(node: Node) -> None:
    """Plugs a node's cable in again. Raises NetworkError."""
    _ip("cloud", f"link set {node.name} master {NODES_BRIDGE}")


def flush_connections(place: str) -> None:
    """Forgets all that a place's connection tracking knows. Raises NetworkError."""
    run(["conntrack", "-F"], place)


def existing() -> list[str]:
    """The places of which a namespace is there."""
    prefix = namespace("")
    folder = Path("/run/netns")
    if not folder.exists():
        return []
    return sorted(path.name.removeprefix(prefix) for path in folder.iterdir() if path.name.startswith(prefix))


def remove_place(place: str) -> None:
    """Removes a namespace with all that is in it. Raises NetworkError."""
    run(["ip", "netns", "delete", namespace(place)])


def remove_node(node: Node) -> None:
    """Removes a node's network, its cable at once: the kernel takes its time with a namespace. Raises NetworkError."""
    _ip("cloud", f"link delete {node.name}")
    remove_place(node.name)


def remove_host_interface() -> None:
    """Removes the host's cable where there is one. Raises NetworkError."""
    interface = Path(f"/sys/class/net/{layout.HOST_INTERFACE}")
    if interface.exists():
        try:
            _ip(None, f"link delete {layout.HOST_INTERFACE}")
        except NetworkError:
            # It goes by itself with the namespace of its other end.
            if interface.exists():
                raise
