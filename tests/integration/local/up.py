"""`sipfleet up` under test: a real supervisor with real pods and a real store, in a state directory of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sipfleet.local.client import Client
from sipfleet.local.errors import NotRunningError
from sipfleet.local.names import ALIASES
from tests.integration.peers.process import Peer, PeerError, wait_for

SIPFLEET = [sys.executable, "-m", "sipfleet"]

MANIFESTS = """
apiVersion: sipfleet.io/v1alpha1
kind: SipCluster
metadata: {{name: {name}}}
spec:
  replicas: {proxies}
  domains: [example.test]
  exposure: {{type: virtualIP, address: {address}}}
  routing: {{routes: [{{name: all, targets: ["sip:127.0.0.1:7070"]}}]}}
  mediaPools: [{name}-media]
---
apiVersion: sipfleet.io/v1alpha1
kind: MediaPool
metadata: {{name: {name}-media}}
spec:
  replicas: {relays}
  ports: {{mode: range, min: 20000, max: 20399}}
  capacity: 100
"""


def manifests(address: str, name: str = "t", proxies: int = 2, relays: int = 2) -> str:
    """A cluster `name` at `address` with its pool `name-media`."""
    return MANIFESTS.format(name=name, address=address, proxies=proxies, relays=relays)


def children(pid: int) -> set[int]:
    """All living descendants of a process."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                if alive(child):
                    found |= {child} | children(child)
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Up(Peer):
    """`sipfleet up -f FILE`; as a context manager it is up and ready inside the block, and ended after it."""

    def __init__(self, work: Path, text: str, name: str = "t", env: dict[str, str] | None = None) -> None:
        self.state_home = work / "state"
        self.cluster = name
        self.file = work / "manifests.yaml"
        self.file.write_text(text)
        self.env = {"XDG_STATE_HOME": str(self.state_home), **(env or {})}
        super().__init__([*SIPFLEET, "up", "-f", str(self.file), "--plain"], work / "up.log", self.ready, self.env)

    def run(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Another `sipfleet` command against it."""
        env = {**os.environ, **self.env}
        return subprocess.run([*SIPFLEET, *words], capture_output=True, text=True, env=env, input=text, timeout=30)

    def ok(self, *words: str, text: str | None = None) -> str:
        """The output of a command that must succeed."""
        done = self.run(*words, text=text)
        if done.returncode != 0:
            raise PeerError(f"sipfleet {' '.join(words)}: exit status {done.returncode}: {done.stderr}\n{self.tail()}")
        return done.stdout

    def get(self, what: str) -> list[dict[str, Any]]:
        """The rows of `sipfleet get WHAT`, empty while nobody answers; by the socket, which is quicker."""
        client = Client(self.cluster)
        client.state.path = self.state_home / "sipfleet" / self.cluster
        try:
            rows: list[dict[str, Any]] = client.get(f"/v1/{ALIASES[what]}")
        except NotRunningError:
            return []
        return rows

    def pods(self) -> dict[str, dict[str, Any]]:
        """Pods by name."""
        return {row["name"]: row for row in self.get("pods")}

    def condition(self, what: str, type: str) -> str:
        """The status of a condition of `sipcluster/NAME` or `mediapool/NAME`; empty when there is none."""
        for row in self.get(what):
            for one in row["status"].get("conditions", []):
                if one["type"] == type:
                    return str(one["status"])
        return ""

    def ready(self) -> bool:
        """Whether every set says Ready and has settled."""
        rows = self.get("clusters") + self.get("pools")
        said = [{c["type"]: c["status"] for c in row["status"].get("conditions", [])} for row in rows]
        return bool(said) and all(c.get("Ready") == "True" and c.get("Progressing") == "False" for c in said)

    def until(self, condition: Callable[[], bool], what: str, limit: float = 15.0) -> float:
        """Wait for something; -> seconds that it took. `PeerError` with the end of the log when it does not happen."""
        began = time.monotonic()
        try:
            wait_for(condition, limit, what)
        except PeerError as error:
            raise PeerError(f"{error}; the end of the log:\n{self.tail(6000)}") from None
        return time.monotonic() - began

    def stop(self, number: int = signal.SIGINT, limit: float = 5.0) -> int:
        """Ctrl-C, or another signal; -> exit status."""
        os.kill(self.pid, number)
        return self.wait(limit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = children(self.pid)
        if self.running:
            with contextlib.suppress(PeerError):
                self.stop()
        self.kill()
        for pid in left:  # only what it started itself; nothing is left unless it failed to clean up
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start(20.0)
