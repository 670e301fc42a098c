"""etcd and kube-apiserver on loopback, without controllers and nodes: for tests of what asks and changes objects.

Nothing acts on what is written there but what a test starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.peers.process import Peer

from e2e.cluster import binaries

VENV = Path(sys.executable).parent


@dataclass(frozen=True)
class Plane:
    """A running API server, and kubeconfig files of two people: one may everything, one has no rights."""

    admin: Path
    viewer: Path


def flags(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def kubeconfig_of(path: Path, host: str, namespace: str, user: str, token: str) -> Path:
    """Write a kubeconfig; its context `bare` names no namespace."""
    context = {"cluster": "c", "user": user, "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://{host}:6443", "insecure-skip-tls-verify": True}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "c", "context": context}, {"name": "bare", "context": {"cluster": "c", "user": user}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(document))
    return path


@contextlib.contextmanager
def running(work: Path, host: str, namespace: str) -> Iterator[Plane]:
    """Both programs at the loopback address `host`, with a namespace; they are gone at the end of the block."""
    missing = [program.name for program in (binaries.ETCD, binaries.KUBERNETES) if not program.path.exists()]
    assert not missing, f"{', '.join(missing)}: not built: python -m e2e.cluster.binaries"
    (work / "tokens.csv").write_text('token-of-admin,admin,1,"system:masters"\ntoken-of-viewer,viewer,2\n')
    key, public = work / "accounts.key", work / "accounts.pub"
    for argv in (["genrsa", "-out", str(key), "2048"], ["rsa", "-in", str(key), "-pubout", "-out", str(public)]):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    client, peer = f"http://{host}:2379", f"http://{host}:2380"
    etcd_flags: dict[str, object] = {
        "data-dir": work / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    api_flags: dict[str, object] = {
        "etcd-servers": client,
        "bind-address": host,
        "advertise-address": "192.0.2.1",
        "endpoint-reconciler-type": "none",
        "secure-port": 6443,
        "cert-dir": work / "certificates",
        "token-auth-file": work / "tokens.csv",
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://plugin.example",
        "service-account-key-file": public,
        "service-account-signing-key-file": key,
        "service-cluster-ip-range": "10.96.0.0/16",
        # Service accounts come from a controller; no pod here runs as one.
        "disable-admission-plugins": "ServiceAccount",
    }
    admin, viewer = (
        kubeconfig_of(work / user, host, namespace, user, f"token-of-{user}") for user in ("admin", "viewer")
    )
    made = Plane(admin, viewer)
    with contextlib.ExitStack() as stack:
        stack.enter_context(Peer([str(binaries.ETCD.path), *flags(etcd_flags)], work / "etcd.log"))
        server = Peer(
            [str(binaries.KUBERNETES.path), "kube-apiserver", *flags(api_flags)],
            work / "api.log",
            lambda: kubectl(made.admin, "get", "--raw", "/readyz").returncode == 0,
        )
        stack.callback(server.kill)
        server.start(90)
        kubectl(made.admin, "create", "namespace", namespace)
        yield made


def kubectl(kubeconfig: Path, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """kubectl with the plugin on its PATH, as people have it."""
    path = os.pathsep.join((str(VENV), str(binaries.KUBECTL.path.parent), os.environ["PATH"]))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path}
    return subprocess.run(
        [str(binaries.KUBECTL.path), *words], env=environment, input=given, capture_output=True, text=True, check=False
    )


def good(kubeconfig: Path, *words: str, given: str | None = None) -> str:
    done = kubectl(kubeconfig, *words, given=given)
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout
