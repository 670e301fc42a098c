"""kubectl and helm as programs: what a user would type, with its output in the error when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Object = dict[str, Any]


class CommandError(AssertionError):
    """A command ended with another exit status than 0; its output is in the text."""


class Kubectl:
    """One cluster, one namespace."""

    def __init__(self, kubectl: str, kubeconfig: Path, namespace: str = "default") -> None:
        self.program = kubectl
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def within(self, namespace: str) -> Kubectl:
        """The same cluster, another namespace."""
        return Kubectl(self.program, self.kubeconfig, namespace)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def __call__(self, *words: str, given: str | None = None, timeout: float = 120.0) -> str:
        """`kubectl -n NAMESPACE words...`; -> its output. Raises `CommandError`."""
        return self.run([self.program, "-n", self.namespace, *words], given=given, timeout=timeout)

    def run(self, command: list[str], *, given: str | None = None, timeout: float = 120.0) -> str:
        """Any program with this cluster's KUBECONFIG. Raises `CommandError`."""
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout, env=self.environment, check=False
        )
        if done.returncode != 0:
            raise CommandError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def attempt(self, *words: str, given: str | None = None, timeout: float = 120.0) -> tuple[int, str]:
        """A command that may fail: (exit status, both outputs)."""
        command = [self.program, "-n", self.namespace, *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout, env=self.environment, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def get(self, *words: str) -> Object:
        """`kubectl get words... -o json`."""
        return dict(json.loads(self("get", *words, "-o", "json")))

    def items(self, *words: str) -> list[Object]:
        """The items of a list."""
        return list(self.get(*words)["items"])

    def apply(self, *manifests: Object) -> None:
        """`kubectl apply -f -`. Raises `CommandError` with what the API server said."""
        self("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))

    def patch(self, what: str, body: Object) -> None:
        """A merge patch."""
        self("patch", what, "--type=merge", "-p", json.dumps(body))

    def until(self, what: str, test: Callable[[Object], bool], timeout: float, *words: str) -> Object:
        """Wait until an object (`kubectl get words...`) passes the test; -> it. Raises `CommandError`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                found = self.get(*words)
                if test(found):
                    return found
            except CommandError as error:  # not there yet, or the API server is away
                found = {"error": str(error)}
            if time.monotonic() > deadline:
                said = json.dumps(found.get("status", found), indent=1)[:4000]
                raise CommandError(f"not {what} within {timeout:g} s: {' '.join(words)}: {said}")
            time.sleep(0.5)


def condition(found: Object, kind: str) -> Object:
    """A condition of an object; an empty one while it has none of that type."""
    for one in (found.get("status") or {}).get("conditions") or []:
        if one["type"] == kind:
            return dict(one)
    return {}


def is_true(kind: str) -> Callable[[Object], bool]:
    """A test: the condition is True, and about the newest generation."""

    def test(found: Object) -> bool:
        one = condition(found, kind)
        return one.get("status") == "True" and one.get("observedGeneration") == found["metadata"].get("generation")

    return test


def settled(found: Object) -> bool:
    """Ready, with the store, and nothing is under way."""
    progress = condition(found, "Progressing")
    current = progress.get("observedGeneration") == found["metadata"].get("generation")
    ready = is_true("Ready")(found) and is_true("StoreAvailable")(found)
    return ready and current and progress.get("status") == "False"
