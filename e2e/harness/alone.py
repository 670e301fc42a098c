"""The operator on an API server without nodes, with the rights that the chart gives: what is looked at is what it
applies and says. There is no garbage collector and nobody who starts pods.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.integration.peers.process import Peer, wait_for
from tests.integration.peers.redis_server import RedisServer

from e2e.cluster import binaries
from e2e.harness.fleet import OPERATOR_NAMESPACE, ROOT
from e2e.harness.kubectl import Object
from e2e.harness.plane import Plane, good, kubeconfig_of, kubectl, running

NAMESPACE = "voip"


@dataclass(frozen=True)
class Alone:
    """An API server, a store, and who the operator is there."""

    host: str
    plane: Plane
    operator: Path
    store: str
    work: Path

    @contextlib.contextmanager
    def runs(self, **constants: float) -> Iterator[Peer]:
        """The command `sipfleet operator`; `constants` are of its modules (`monitors__INTERVAL`), so that a test need
        not wait for minutes."""
        modules = {name.partition("__")[0] for name in constants}
        lines = [f"from sipfleet.kubernetes import {module}" for module in sorted(modules)]
        lines += [f"{name.replace('__', '.')} = {value}" for name, value in constants.items()]
        lines += ["from sipfleet.cli import main", "main()"]
        argv = [sys.executable, "-c", "\n".join(lines), "operator", f"--liveness=http://{self.host}:8080/healthz"]
        environment = {"KUBECONFIG": str(self.operator), "POD_NAMESPACE": OPERATOR_NAMESPACE}
        log = self.work / f"operator-{time.monotonic_ns()}.log"
        with Peer(argv, log, env={**os.environ, **environment}) as peer:
            yield peer

    def apply(self, bodies: list[Object]) -> None:
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies})
        good(self.plane.admin, "apply", "-f", "-", given=listed)

    def get(self, what: str) -> Any:
        """The object, None when it is not there."""
        done = kubectl(self.plane.admin, "get", what, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def until(self, what: str, wanted: Callable[[Any], bool] = bool, limit: float = 40) -> Any:
        """The object once it is as wanted; None stands for one that is not there."""
        found: list[Any] = [None]

        def holds() -> bool:
            found[0] = self.get(what)
            return wanted(found[0])

        wait_for(holds, limit, f"{what} is as wanted", 0.2)
        return found[0]

    def clean(self) -> None:
        """Nobody is there who drains, and no garbage collector."""
        admin = self.plane.admin
        for one in ("sipcluster/demo", "mediapool/media"):
            kubectl(admin, "patch", one, "--type=merge", "-p", '{"metadata": {"finalizers": []}}')
            kubectl(admin, "delete", one, "--wait=false")
        kinds = "statefulsets,services,configmaps,secrets,poddisruptionbudgets,networkpolicies"
        good(admin, "delete", kinds, "-l", "app.kubernetes.io/managed-by=sipfleet")
        good(admin, "delete", "events", "--all")
        # The operator was killed, and the next one would wait until its lease runs out.
        good(admin, "-n", OPERATOR_NAMESPACE, "delete", "leases", "--all")


@contextlib.contextmanager
def alone(work: Path, host: str, store: str) -> Iterator[Alone]:
    """All of it at two loopback addresses; it is gone at the end of the block."""
    with running(work, host, NAMESPACE) as plane, RedisServer(work, store, 6379) as redis:
        good(plane.admin, "create", "namespace", OPERATOR_NAMESPACE)
        good(plane.admin, "apply", *(f"--filename={path}" for path in sorted((ROOT / "crds").glob("*.yaml"))))
        good(plane.admin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        shown = [f"--show-only=templates/{name}.yaml" for name in ("serviceaccount", "rbac", "lease", "admission")]
        argv = [binaries.HELM.path, "template", "sipfleet", ROOT / "charts/sipfleet", "-n", OPERATOR_NAMESPACE]
        rendered = subprocess.run([*map(str, argv), *shown], check=True, capture_output=True, text=True).stdout
        good(plane.admin, "apply", "-f", "-", given=rendered)
        [account] = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "ServiceAccount"]
        token = good(plane.admin, "-n", OPERATOR_NAMESPACE, "create", "token", account["metadata"]["name"]).strip()
        operator = kubeconfig_of(work / "operator", host, OPERATOR_NAMESPACE, "operator", token)
        yield Alone(host, plane, operator, redis.url, work)


def manifest(kind: str, name: str, spec: Object) -> Object:
    """A resource of ours."""
    return {"apiVersion": "sipfleet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def has_event(events: Any, reason: str) -> bool:
    return any(one["reason"] == reason for one in events["items"])
