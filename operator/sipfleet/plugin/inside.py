"""Commands that run inside of the operator's pod: the store of a fleet is reachable from there and not from here.

kubectl itself carries them (`kubectl exec`): it knows every way to log in, and gives the output through as it comes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sipfleet.kubernetes.client import PODS, ApiError, Object

from .connection import Connection, Where
from .errors import PluginError
from .storecommand import PULSE

SELECTOR = "app.kubernetes.io/name=sipfleet-operator"
"""What the chart labels the operator with."""
DEFAULT_NAMESPACE = "sipfleet"
"""Where the operator is looked for by those who may not list the pods of all namespaces."""
CONTAINER = "operator"
PROGRAM = "/opt/sipfleet/bin/sipfleet"
"""Path in the operator's image."""
LINE = 1 << 24
"""Bytes of the longest line that is read."""


@dataclass(frozen=True, slots=True)
class OperatorPod:
    """The pod that is asked."""

    namespace: str
    name: str


async def operator_pod(to: Connection, watched: str, operator_namespace: str | None) -> OperatorPod:
    """A running pod of the operator that looks after the namespace `watched`.

    Raises `PluginError` when there is none, `ApiError`.
    """
    found = await _pods(to, operator_namespace)
    able = [pod for pod in found if _ready(pod) and _watches(pod, watched)]
    if not able:
        seen = ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in found) or "none"
        raise PluginError(
            f"no pod of the operator that is ready and looks after namespace {watched}; pods of operators: {seen}. "
            "The store can be reached from such a pod only; --operator-namespace says where to look"
        )
    metadata = able[0]["metadata"]
    return OperatorPod(metadata["namespace"], metadata["name"])


async def _pods(to: Connection, namespace: str | None) -> list[Object]:
    try:
        return list((await to.api.list(PODS, namespace, SELECTOR))["items"])
    except ApiError as error:
        if error.status != 403 or namespace is not None:
            raise
    return list((await to.api.list(PODS, DEFAULT_NAMESPACE, SELECTOR))["items"])


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return not pod["metadata"].get("deletionTimestamp") and any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    )


def _watches(pod: Object, namespace: str) -> bool:
    """An operator without a list of namespaces looks after all of them."""
    for container in pod["spec"]["containers"]:
        for one in container.get("env") or []:
            if one["name"] == "SIPFLEET_WATCH_NAMESPACES" and one.get("value"):
                return namespace in one["value"].replace(",", " ").split()
    return True


class Inside:
    """Runs `sipfleet ...` in that pod."""

    def __init__(self, pod: OperatorPod, where: Where) -> None:
        """Raises `PluginError` where kubectl is not installed."""
        program = shutil.which(os.environ.get("KUBECTL", "kubectl"))
        if program is None:
            raise PluginError("kubectl is not on the PATH; it carries commands into the operator's pod")
        self._pod = pod
        self._command = [program, *where.flags(), f"--namespace={pod.namespace}", "exec"]

    def _argv(self, words: tuple[str, ...], *flags: str) -> list[str]:
        return [*self._command, *flags, self._pod.name, f"--container={CONTAINER}", "--", PROGRAM, *words]

    async def rows(self, *words: str) -> list[dict[str, Any]]:
        """What it prints, a JSON document a line. Raises `PluginError` with what it said when it fails."""
        process = await asyncio.create_subprocess_exec(
            *self._argv(words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        self._check(process.returncode, errors)
        return [json.loads(line) for line in output.splitlines()]

    async def follow(self, *words: str) -> AsyncGenerator[dict[str, Any], None]:
        """The same for a command that goes on: each document as it comes, until this iterator is closed.

        A pulse on its standard input tells the command that somebody still listens. Raises `PluginError`.
        """
        process = await asyncio.create_subprocess_exec(
            *self._argv(words, "--stdin"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        pulse = asyncio.create_task(_beat(process.stdin))
        errors = asyncio.create_task(process.stderr.read())
        try:
            while line := await process.stdout.readline():
                yield json.loads(line)
            self._check(await process.wait(), await errors)
        finally:
            pulse.cancel()
            errors.cancel()
            if process.returncode is None:
                process.terminate()
                await process.wait()

    def _check(self, status: int | None, errors: bytes) -> None:
        if status:
            lines = errors.decode("utf-8", "replace").splitlines()
            told = [line for line in lines if line.strip() and not line.startswith("command terminated with")]
            said = "\n".join(told).removeprefix("Error: ").removeprefix("error: ") or f"exit status {status}"
            raise PluginError(f"pod {self._pod.namespace}/{self._pod.name}: {said}")


async def _beat(stdin: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # the program has ended: its exit status says how
        while True:
            stdin.write(b"\n")
            await stdin.drain()
            await asyncio.sleep(PULSE)
