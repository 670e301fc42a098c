"""The cluster under test, as a user has it: `sipfleet up` in a process of its own, commands, and its socket."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sipfleet.local.children import die_with
from sipfleet.local.client import Client
from sipfleet.local.errors import LocalError

from .errors import DemoError
from .manifests import CLUSTER, Manifests

START_TIME = 30.0
"""Seconds that a cluster may take until every pod serves."""
HEARTBEAT = 1.2
"""Seconds after which the pods know of each other what their leases say, and we what they carry."""
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as `sipfleet get pods` shows it."""

    name: str
    kind: str
    ordinal: int
    uid: str
    pid: int | None
    serving: bool
    version: str | None
    active: int
    transactions: int
    restarts: int
    draining: bool

    def __str__(self) -> str:
        state = "drains" if self.draining else "serves" if self.serving else "does not serve"
        return f"{self.name} {state}, {self.active} active, {self.transactions} transactions, {self.version}"

    @classmethod
    def read(cls, row: dict[str, Any]) -> Self:
        names = ("name", "ordinal", "uid", "pid", "version", "restarts")
        return cls(
            **{name: row[name] for name in names},
            kind="proxy" if row["kind"] == "SipCluster" else "relay",
            serving=bool(row["ready"] and row["serving"]),
            active=row["active"] or 0,
            transactions=row["transactions"] or 0,
            draining=bool(row["draining"] or row["cordoned"]),
        )


class Cluster:
    """Use as `async with`: up at the start, ended with everything it started at the end."""

    def __init__(self, work: Path, manifests: Manifests) -> None:
        self.work = work
        self.manifests = manifests
        self.log = work / "sipfleet-up.log"
        self._environment = {**os.environ, "XDG_STATE_HOME": str(work / "state")}
        self._process: asyncio.subprocess.Process | None = None
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stop()

    @property
    def client(self) -> Client:
        if self._client is None:
            raise DemoError("the cluster was not started")
        return self._client

    async def run(self, *arguments: str) -> str:
        """A command of the command line; its output.

        Raises `DemoError` with what it said when it fails.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sipfleet", *arguments),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise DemoError(f"sipfleet {' '.join(arguments)}: {output.decode(errors='replace').strip()}")
        return output.decode(errors="replace").strip()

    async def pods(self, kind: str | None = None) -> list[Pod]:
        """The pods of that kind, `proxy` or `relay`, by ordinal."""
        rows = await self.get("/v1/pods")
        found = [Pod.read(row) for row in rows]
        return sorted((pod for pod in found if kind in (None, pod.kind)), key=lambda pod: (pod.kind, pod.ordinal))

    async def get(self, path: str) -> Any:
        """What the socket answers.

        Raises `DemoError` when the cluster does not answer.
        """
        try:
            return await asyncio.to_thread(self.client.get, path)
        except LocalError as error:
            raise DemoError(f"{error}\n{self.tail()}") from None

    async def until(self, test: Callable[[list[Pod]], bool], timeout: float, what: str) -> list[Pod]:
        """Wait for pods that pass the test.

        Raises `DemoError` when they do not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            pods = await self.pods()
            if test(pods):
                return pods
            if time.monotonic() > deadline:
                states = "; ".join(map(str, pods))
                raise DemoError(f"{what}: not within {timeout:g} s ({states})\n{self.tail()}")
            await asyncio.sleep(_POLL)

    async def until_serving(self, timeout: float = START_TIME) -> list[Pod]:
        """Wait until exactly the pods of the manifests are there, and serve."""
        wanted = self.manifests.proxies + self.manifests.relays
        return await self.until(
            lambda pods: len(pods) == wanted and all(pod.serving and not pod.draining for pod in pods),
            timeout,
            f"{wanted} pods that serve",
        )

    async def apply(self, manifests: Manifests) -> None:
        """`sipfleet apply -f`."""
        self.manifests = manifests
        path = self.work / "cluster.yaml"
        path.write_text(manifests.text())
        await self.run("apply", "-f", str(path), "--cluster", CLUSTER)

    async def cdr_url(self) -> str:
        """Where the CDRs are."""
        info = await self.get("/v1")
        return str(info["store"]["url"])

    def tail(self, lines: int = 15) -> str:
        """The end of what `sipfleet up` printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def _start(self) -> None:
        path = self.work / "cluster.yaml"
        path.write_text(self.manifests.text())
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sipfleet", "up", "-f", str(path), "--plain"),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        os.environ["XDG_STATE_HOME"] = self._environment["XDG_STATE_HOME"]
        self._client = Client(CLUSTER)
        deadline = time.monotonic() + START_TIME
        while True:
            try:
                await asyncio.to_thread(self._client.get, "/v1")
                break
            except LocalError:
                if self._process.returncode is not None or time.monotonic() > deadline:
                    raise DemoError(f"sipfleet up did not come up:\n{self.tail()}") from None
                await asyncio.sleep(_POLL)
        await self.until_serving()
        await asyncio.sleep(HEARTBEAT)

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()
