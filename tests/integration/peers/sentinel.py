"""Redis with Sentinel: a master, two replicas and three sentinels, each at an address of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.integration.peers.probe import Address
from tests.integration.peers.process import Peer, PeerError, wait_for

NAME = "main"
PORT = 6379
SENTINEL_PORT = 26379


class Node(Peer):
    """A redis-server with a password, and what it needs to be replicated at an address of loopback."""

    def __init__(self, work: Path, host: str, password: str, master: str = "") -> None:
        self.host, self._password = host, password
        work.mkdir()
        lines = [
            f"bind {host}",
            f"port {PORT}",
            f"dir {work}",
            'save ""',
            "appendonly no",
            f"replica-announce-ip {host}",
            f'requirepass "{password}"',
            f'masterauth "{password}"',
            "repl-diskless-sync-delay 0",
            *([f"replicaof {master} {PORT}"] if master else []),
        ]
        file = work / "redis.conf"
        file.write_text("\n".join(lines) + "\n")
        super().__init__(["redis-server", str(file)], work / "log", self._answers)

    def client(self) -> redis.Redis:
        return redis.Redis(self.host, PORT, password=self._password, socket_timeout=2)

    def role(self) -> str:
        """`master`, `slave`, or empty when it does not answer."""
        with self.client() as client:
            try:
                return str(client.role()[0].decode())
            except redis.RedisError:
                return ""

    def _answers(self) -> bool:
        return bool(self.role())


class Sentinel(Peer):
    """One redis-sentinel; a master that is silent for a second is down for it."""

    def __init__(self, work: Path, host: str, master: str, password: str) -> None:
        self.host = host
        work.mkdir()
        lines = [
            f"bind {host}",
            f"port {SENTINEL_PORT}",
            f"dir {work}",
            f"sentinel announce-ip {host}",
            f"sentinel monitor {NAME} {master} {PORT} 2",
            f'sentinel auth-pass {NAME} "{password}"',
            f"sentinel down-after-milliseconds {NAME} 1000",
            f"sentinel failover-timeout {NAME} 5000",
        ]
        file = work / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        super().__init__(["redis-server", str(file), "--sentinel"], work / "log", lambda: bool(self.state()))

    def state(self) -> dict[str, str]:
        """What it knows of the master; empty when it does not answer."""
        with redis.Redis(self.host, SENTINEL_PORT, socket_timeout=2, decode_responses=True) as client:
            try:
                state: dict[str, str] = client.sentinel_master(NAME)
            except redis.RedisError:
                return {}
            return state

    def fail_over(self) -> None:
        """Have another master elected while the present one works."""
        with redis.Redis(self.host, SENTINEL_PORT, socket_timeout=2) as client:
            client.sentinel_failover(NAME)


class ElectedStore:
    """Three servers of which the sentinels elect one."""

    def __init__(self, work: Path, hosts: list[str], password: str) -> None:
        """`hosts` are six addresses."""
        work.mkdir()
        servers, sentinels = hosts[:3], hosts[3:]
        self.nodes = [
            Node(work / f"redis-{n}", host, password, servers[0] if n else "") for n, host in enumerate(servers)
        ]
        self.sentinels = [
            Sentinel(work / f"sentinel-{n}", host, servers[0], password) for n, host in enumerate(sentinels)
        ]

    @property
    def addresses(self) -> list[Address]:
        """Of the sentinels."""
        return [(sentinel.host, SENTINEL_PORT) for sentinel in self.sentinels]

    def url(self, password: str, first: str = "") -> str:
        """`first` is one more host:port of a sentinel."""
        hosts = [*([first] if first else []), *(f"{host}:{port}" for host, port in self.addresses)]
        return f"sentinel://:{password}@{','.join(hosts)}/{NAME}"

    @property
    def master(self) -> Node:
        """The one that takes writes."""
        found = [node for node in self.nodes if node.running and node.role() == "master"]
        if len(found) != 1:
            raise PeerError(f"{len(found)} masters, one expected")
        return found[0]

    def kill_master(self) -> Node:
        """SIGKILL; -> who it was."""
        master = self.master
        os.kill(master.pid, signal.SIGKILL)
        master.wait(5)
        return master

    def _agreed(self) -> bool:
        """Whether every sentinel knows both replicas and both other sentinels."""
        return all(
            (state.get("num-slaves"), state.get("num-other-sentinels")) == (2, 2)
            for state in (sentinel.state() for sentinel in self.sentinels)
        )

    def __enter__(self) -> Self:
        try:
            for peer in (*self.nodes, *self.sentinels):
                peer.start()
            wait_for(self._agreed, 20, "the sentinels know everybody", interval=0.1)
        except PeerError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in (*self.sentinels, *self.nodes):
            peer.kill()
