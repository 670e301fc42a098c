"""A node with proxies in pods behind a Service, and phones outside: network namespaces, DNAT, real connection tracking.

The rules are those of kube-proxy (a new flow goes to one of the endpoints by chance, and stays there) and of a network
plugin (what a pod sends by itself leaves from the node's address). Phones stand in three places: in an office and at
home with addresses of their own, and behind a port-restricted NAT.
"""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.peers.fleet import Sipproxy, status_of
from tests.integration.peers.netns import Namespace
from tests.integration.peers.process import Peer, wait_for
from tests.integration.relay.conftest import Relay

SERVICE = "192.0.2.77"
RELAY = "192.0.2.50"
HOME, OFFICE = "198.51.100.10", "203.0.113.20"
PRIVATE = "192.168.1.20"
DOMAINS = {"home.test": 5080, "private.test": 5081}
"""Calls for each go to a callee of their own in the office, on this port."""


class Redis(Peer):
    """At a Unix socket, which is the same from every network namespace."""

    def __init__(self, work: Path) -> None:
        self.path = work / "redis.sock"
        argv = ["redis-server", "--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(work)]
        super().__init__(argv, work / "redis.log", self.path.exists)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"


class Pod:
    """A proxy in a network namespace of its own."""

    def __init__(self, work: Path, number: int, common: dict[str, Any]) -> None:
        self.number = number
        self.address = f"10.244.{number}.5"
        self.namespace = Namespace()
        self._work, self._common = work, common
        self._starts = 0
        self.proxy: Sipproxy

    def start(self) -> None:
        """A new incarnation, at the same address."""
        self._starts += 1
        name = f"proxy-{self.number}"
        self.proxy = Sipproxy(
            self._work,
            {
                **self._common,
                "pod": {"set": "c", "name": name, "ordinal": self.number, "uid": f"{name}-{self._starts}"},
                "listeners": [{"address": self.address, "port": 5060, "advertised": SERVICE}],
                "internal": f"{self.address}:5070",
                "admin": f"{self.address}:9090",
            },
        )
        with self.namespace.inside():
            self.proxy.start()
            wait_for(lambda: bool(self.status().get("index")), 10, f"{name} has an index")

    def status(self) -> dict[str, Any]:
        """`GET /status`."""
        with self.namespace.inside():
            return status_of(self.proxy.admin)

    def kill(self) -> None:
        os.kill(self.proxy.pid, signal.SIGKILL)
        self.proxy.wait(5)

    def terminate(self) -> None:
        """SIGTERM: it ends when it is empty."""
        os.kill(self.proxy.pid, signal.SIGTERM)


class Node:
    """Use as a context manager; the pods run and are endpoints."""

    def __init__(self, work: Path, pods: int, *, flows: bool) -> None:
        self.home, self.office, self.private = Namespace(), Namespace(), Namespace()
        self._node, self._nat = Namespace(), Namespace()
        self._rules: list[list[str]] = []
        self._endpoints: list[Pod] = []
        self.redis = Redis(work)
        key = work / "cluster.key"
        key.write_text(secrets.token_hex(32) + "\n")
        key.chmod(0o600)
        common: dict[str, Any] = {
            "key_file": str(key),
            "store": self.redis.url,
            "flows": flows,
            "domains": list(DOMAINS),
            "routes": [{"domain": name, "targets": [f"sip:{OFFICE}:{port}"]} for name, port in DOMAINS.items()],
            "media": {"relays": [f"{RELAY}:2223"]},
        }
        self.pods = [Pod(work, number, common) for number in range(pods)]
        self._relay = Relay(work, "--interface", RELAY, host=RELAY)
        self._plug()

    def _plug(self) -> None:
        node, nat = self._node, self._nat
        node.forward()
        node.run("ip", "address", "add", f"{RELAY}/32", "dev", "lo")
        node.plug(self.home, "home", "198.51.100.1", HOME)
        node.plug(self.office, "office", "203.0.113.1", OFFICE)
        node.plug(nat, "nat", "198.51.101.1", "198.51.101.2")
        nat.forward()
        nat.plug(self.private, "lan", "192.168.1.1", PRIVATE)
        nat.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        for pod in self.pods:
            node.plug(pod.namespace, f"pod{pod.number}", f"10.244.{pod.number}.1", pod.address)
        outside = ["-s", "10.244.0.0/16", "!", "-d", "10.244.0.0/16"]
        node.run("iptables", "-t", "nat", "-A", "POSTROUTING", *outside, "-j", "MASQUERADE")

    def endpoints(self, *pods: Pod) -> None:
        """New flows go to these; entries of pods that are none any more are deleted, as kube-proxy has it for UDP."""
        for rule in self._rules:
            self._node.run("iptables", "-t", "nat", "-D", *rule)
        here = ["PREROUTING", "-d", SERVICE, "-p", "udp", "--dport", "5060"]
        self._rules = []
        for i, pod in enumerate(pods):
            left = len(pods) - i
            chance = ["-m", "statistic", "--mode", "random", "--probability", f"{1 / left:.6f}"] if left > 1 else []
            self._rules.append([*here, *chance, "-j", "DNAT", "--to", f"{pod.address}:5060"])
        for rule in self._rules:
            self._node.run("iptables", "-t", "nat", "-A", *rule)
        for pod in self._endpoints:
            if pod not in pods:
                self._delete("-d", SERVICE, "--reply-src", pod.address)
        self._endpoints = list(pods)

    def flush(self) -> None:
        """All entries are gone, as after `conntrack -F` on the node."""
        self._node.run("conntrack", "-F")

    def _delete(self, *which: str) -> None:
        # `conntrack -D` ends with 1 when there was nothing to delete.
        self._node.run("sh", "-c", f"conntrack -D -p udp {' '.join(which)} || [ $? -eq 1 ]")

    def __enter__(self) -> Self:
        try:
            self.redis.start()
            with self._node.inside():
                self._relay.start()
            for pod in self.pods:
                pod.start()
            self.endpoints(*self.pods)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pod in self.pods:
            if hasattr(pod, "proxy"):
                pod.proxy.kill()
            pod.namespace.close()
        self._relay.kill()
        self.redis.kill()
        for namespace in (self.home, self.office, self.private, self._nat, self._node):
            namespace.close()
