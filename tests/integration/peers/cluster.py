"""`sipfleet up` as users run it, with a state directory of the test's own and its own /24 of loopback addresses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from os import kill
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.integration.peers.fleet import Shares
from tests.integration.peers.probe import Address
from tests.integration.peers.process import Peer, PeerError, wait_for

MANIFEST = """
apiVersion: sipfleet.io/v1alpha1
kind: SipCluster
metadata: {{name: {name}}}
spec:
  replicas: {proxies}
  domains: ["{domain}"]
  exposure: {{type: virtualIP, address: {address}}}
  routing:
    routes:
      - {{name: all, domain: "{domain}", targets: ["sip:{target[0]}:{target[1]}"]}}
  mediaPools: [{name}-media]
---
apiVersion: sipfleet.io/v1alpha1
kind: MediaPool
metadata: {{name: {name}-media}}
spec:
  replicas: {relays}
  capacity: 1000
  ports: {{mode: range, min: 20000, max: 29999}}
"""


class Cluster(Peer):
    """A running cluster at `address`; calls for `domain` go to `target`."""

    def __init__(
        self, work: Path, net: str, domain: str, target: Address, *, name: str = "t", proxies: int = 2, relays: int = 2
    ) -> None:
        """`net` is three octets; the cluster takes `net`.1 for itself and others of the /24 for its pods."""
        self.name, self.address = name, (f"{net}.1", 5060)
        self.pods_wanted = proxies + relays
        manifest = work / "cluster.yaml"
        manifest.write_text(
            MANIFEST.format(
                name=name, proxies=proxies, relays=relays, domain=domain, target=target, address=self.address[0]
            )
        )
        self.program = str(Path(sys.executable).with_name("sipfleet"))
        self.environment = {"XDG_STATE_HOME": str(work / "state")}
        argv = [self.program, "up", "-f", str(manifest), "--plain"]
        super().__init__(argv, work / "up.log", self._all_serve, self.environment)

    def command(self, *words: str) -> str:
        """Run `sipfleet WORDS` against this cluster; its output. Raises `PeerError` when it fails."""
        done = subprocess.run(
            [self.program, *words], capture_output=True, text=True, timeout=30, env=self._env, check=False
        )
        if done.returncode != 0:
            raise PeerError(f"sipfleet {' '.join(words)}: exit status {done.returncode}: {done.stderr}")
        return done.stdout

    def pods(self) -> list[dict[str, Any]]:
        """The pods as `sipfleet get pods` tells them; empty while nobody answers."""
        try:
            return list(json.loads(self.command("get", "pods", "-o", "json")))
        except PeerError:
            return []

    def _all_serve(self) -> bool:
        pods = self.pods()
        return len(pods) == self.pods_wanted and all(pod["serving"] for pod in pods)

    def shares(self) -> Shares:
        """Active dialogs of each proxy."""
        return Shares({pod["name"]: pod["active"] or 0 for pod in self.pods() if pod["kind"] == "SipCluster"})

    def kill_pod(self, name: str) -> None:
        """SIGKILL to the process of a pod."""
        (pid,) = [pod["pid"] for pod in self.pods() if pod["name"] == name]
        kill(int(pid), signal.SIGKILL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ctrl-C, as users end it."""
        if self.running:
            kill(self.pid, signal.SIGINT)
            try:
                wait_for(lambda: not self.running, 15, "sipfleet up ends after SIGINT")
            finally:
                self.kill()
