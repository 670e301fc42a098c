"""Processes of ours: started so that they die with us, watched by pidfd, logging into files of bounded size.

A child is started with PR_SET_PDEATHSIG, so the kernel ends it when the supervisor dies in whatever way, and in a
session of its own, so that Ctrl-C reaches only the supervisor. Nothing is polled: the loop wakes when a child ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1

LOG_BYTES = 8 * 1024 * 1024
"""A log is copied to `<name>.1` and emptied when it has grown to this."""

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with(parent: int) -> Callable[[], None]:
    """What runs in a child between fork and exec, so that it ends when `parent` (a process id) does."""

    def prepare() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return prepare


class Child:
    """One running process; `on_exit(child, status)` is called once, from the loop, when it ended."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        on_exit: Callable[[Child, int], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. Raises `OSError` when the program cannot be executed. Must run on the loop's (main) thread: the
        kernel binds PDEATHSIG to the thread that forked."""
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self.log = log
        self.status: int | None = None
        """Exit status once it ended; negative: the signal that killed it."""
        self.started = self._loop.time()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=None if environment is None else dict(environment),
                cwd="/",
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        finally:
            os.close(descriptor)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._ended)
        self._gone = self._loop.create_future()

    @property
    def alive(self) -> bool:
        return self.status is None

    def _ended(self) -> None:
        status = self._process.poll()
        if status is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.status = status
        self._gone.set_result(status)
        self._on_exit(self, status)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self, timeout: float | None = None) -> bool:
        """Whether it ended within `timeout` seconds."""
        try:
            await asyncio.wait_for(asyncio.shield(self._gone), timeout)
        except TimeoutError:
            return False
        return True


async def stop_all(children: Sequence[Child], number: int, patience: float) -> None:
    """Send a signal to all, and SIGKILL to those that have not ended after `patience` seconds."""
    for child in children:
        child.send(number)
    waiting = [child for child in children if child.alive]
    if waiting:
        await asyncio.wait([asyncio.ensure_future(child.wait(patience)) for child in waiting])
    for child in children:
        child.send(signal.SIGKILL)
    for child in children:
        await child.wait(patience)


def bound_log(log: Path, limit: int = LOG_BYTES) -> bool:
    """Keep a log under its limit: copy it to `<name>.1`, then empty it. The writer appends (O_APPEND), so it goes on at
    the new end; a line written between the two steps is lost."""
    try:
        if log.stat().st_size < limit:
            return False
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)
    except OSError:
        return False
    return True


def exit_text(status: int) -> str:
    """`exit status 2` or `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def last_line(log: Path, longest: int = 200) -> str:
    """The end of a log, as the reason of a death; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:longest] if lines else ""
