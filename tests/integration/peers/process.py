"""One program under a test: started, waited for until it serves, ended with all that it forked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class PeerError(Exception):
    """A peer is not installed, did not start, or did not end in time."""


def find_program(name: str) -> str:
    """Path of an installed program; Debian keeps some in sbin, which is not on everybody's PATH."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise PeerError(f"{name} is not installed; scripts/setup.sh test installs what the tests need")
    return path


def wait_for(condition: Callable[[], bool], limit: float, what: str, interval: float = 0.01) -> None:
    """Poll every `interval` seconds until `condition()` holds; `PeerError` after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise PeerError(f"{what}: not within {limit:g} s")
        time.sleep(interval)


class Peer:
    """A program in a process group of its own, its output in `log`.

    As a context manager it is started, waited for with `ready`, and ended (with whatever it forked) at the end.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        ready: Callable[[], bool] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`env` is added to ours; `ready` says whether it serves.

        Raises `PeerError` when the program is not installed.
        """
        self.argv = [find_program(argv[0]), *argv[1:]]
        self.log = log
        self._ready = ready
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running program. Raises `PeerError` before `start`."""
        if self._process is None:
            raise PeerError(f"{self.argv[0]} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program itself has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, limit: float = 15.0) -> Self:
        """Start and wait until it serves; `PeerError` with the end of its log when it does not within `limit` s."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        if self._ready is not None:
            ready = self._ready
            try:
                wait_for(lambda: not self.running or ready(), limit, f"{self.argv[0]} serves")
                if not self.running:
                    raise PeerError(f"{self.argv[0]} ended with status {self._process.returncode}")
            except PeerError as error:
                self.kill()
                raise PeerError(f"{error}; the end of its log:\n{self.tail()}") from None
        return self

    def wait(self, limit: float, kill: bool = False) -> int:
        """Wait for the end of the program; its exit status. After `limit` seconds it is killed, or `PeerError`."""
        if self._process is None:
            raise PeerError(f"{self.argv[0]} was not started")
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            if kill:
                self.kill()
                return self._process.wait()
            told = f"{self.argv[0]} still runs after {limit:g} s; the end of its log:\n{self.tail()}"
            raise PeerError(told) from None

    def kill(self) -> None:
        """SIGKILL to the program and everything in its process group; returns when it is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self, size: int = 2000) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
