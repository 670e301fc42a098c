"""etcd and kube-apiserver on loopback, without controllers and nodes: objects and watches are real, nothing acts on
them.

The programs are those of the test cluster (`python -m e2e.cluster.binaries`), built once into a cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from common import BenchError, program

ROOT = Path(__file__).resolve().parent.parent
ETCD_PORT, API_PORT = 2379, 6443
WATCH_SECONDS = 3600

Object = dict[str, Any]


def binaries() -> dict[str, str]:
    """Path by name, of what is in the cache; what is missing is built first, which takes minutes."""
    module = [sys.executable, "-m", "e2e.cluster.binaries"]
    subprocess.run(module, cwd=ROOT, check=True)
    listed = subprocess.run([*module, "--paths"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return dict(line.split("\t") for line in listed.splitlines())


@dataclass(frozen=True)
class ControlPlane:
    """A running API server and who may speak to it."""

    url: str
    token: str
    kubeconfig: Path
    pids: tuple[int, ...]

    def pin(self, cores: set[int]) -> None:
        """All threads of both programs, those to come too."""
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):  # the thread has ended meanwhile
                    os.sched_setaffinity(int(task.name), cores)


@contextlib.contextmanager
def control_plane(paths: Mapping[str, str], work: Path, core: int) -> Iterator[ControlPlane]:
    """Both programs, and a kubeconfig; they are gone at the end of the block."""
    token = secrets.token_hex(16)
    (work / "tokens.csv").write_text(f'{token},bench,bench,"system:masters"\n')
    url = f"https://127.0.0.1:{API_PORT}"
    etcd = f"http://127.0.0.1:{ETCD_PORT}"
    peer = f"http://127.0.0.1:{ETCD_PORT + 1}"
    key, public = work / "accounts.key", work / "accounts.pub"
    for argv in (["genrsa", "-out", str(key), "2048"], ["rsa", "-in", str(key), "-pubout", "-out", str(public)]):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    etcd_flags = {
        "data-dir": work / "etcd",
        "listen-client-urls": etcd,
        "advertise-client-urls": etcd,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    api_flags = {
        "etcd-servers": etcd,
        "bind-address": "127.0.0.1",
        "advertise-address": "192.0.2.1",  # of the Service `kubernetes`, which nobody uses here
        "endpoint-reconciler-type": "none",
        "secure-port": API_PORT,
        "cert-dir": work / "certificates",
        "token-auth-file": work / "tokens.csv",
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://bench.example",
        "service-account-key-file": public,
        "service-account-signing-key-file": key,
        "service-cluster-ip-range": "10.96.0.0/16",
        # Service accounts come from a controller; no pod here runs as one.
        "disable-admission-plugins": "ServiceAccount",
        "profiling": "false",
    }
    kubeconfig = work / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "bench", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
                "users": [{"name": "bench", "user": {"token": token}}],
                "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
                "current-context": "bench",
            }
        )
    )
    with (
        program([paths["etcd"], *_flags(etcd_flags)], core=core, log=work / "etcd.log") as store,
        program([paths["kubernetes"], "kube-apiserver", *_flags(api_flags)], core=core, log=work / "api.log") as server,
    ):
        yield ControlPlane(url, token, kubeconfig, (store.pid, server.pid))


def _flags(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


class Client:
    """Plain requests and watches; for the one who plays, not for the one who is measured."""

    def __init__(self, plane: ControlPlane) -> None:
        self._url = plane.url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False, limit=64),
            headers={"Authorization": f"Bearer {plane.token}"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def ready(self, limit: float = 60.0) -> None:
        """Returns when the API server serves. Raises `BenchError` after `limit` seconds."""
        async with asyncio.timeout(limit):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self._session.get(f"{self._url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.2)

    async def request(
        self, method: str, path: str, body: object = None, *, merge: bool = False, missing_ok: bool = False
    ) -> Object:
        """Raises `BenchError` with what the API server said; `missing_ok`: not when there is no such object."""
        content = "application/merge-patch+json" if merge else "application/json"
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, self._url + path, data=data, headers={"Content-Type": content}
        ) as answer:
            if answer.status == 404 and missing_ok:
                return {}
            if answer.status >= 400:
                raise BenchError(f"{method} {path}: {answer.status} {await answer.text()}")
            found: Object = await answer.json()
            return found

    async def watch(self, path: str, selector: str = "") -> AsyncIterator[tuple[str, Object]]:
        """(type, object): first all that stand, as `ADDED`, then each change, for `WATCH_SECONDS`."""
        listed = await self.request("GET", f"{path}?labelSelector={selector}")
        for item in listed["items"]:
            yield "ADDED", item
        query = f"watch=true&labelSelector={selector}&resourceVersion={listed['metadata']['resourceVersion']}"
        url = f"{self._url}{path}?{query}&timeoutSeconds={WATCH_SECONDS}"
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise BenchError(f"watch of {path}: {event['object']}")
                yield event["type"], event["object"]
