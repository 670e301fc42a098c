"""Network namespaces of a test's own: no names, nothing left behind, whatever way the test ends.

A namespace lives as long as its file descriptor here or a process in it. Sockets and processes that are made `inside`
stay in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.integration.peers.process import PeerError, find_program

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace, made with its loopback interface up."""

    def __init__(self) -> None:
        """Raises `PeerError` where namespaces cannot be made."""
        home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.unshare(CLONE_NEWNET):
                why = os.strerror(ctypes.get_errno())
                raise PeerError(f"no network namespace could be made ({why}); these tests need root, or CAP_SYS_ADMIN")
            self._fd = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
            _enter(home)
        finally:
            os.close(home)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """By which other processes enter it."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in the namespace meanwhile."""
        home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._fd)
            yield
        finally:
            _enter(home)
            os.close(home)

    def run(self, *argv: str) -> str:
        """Run a program inside; what it prints.

        Raises `PeerError` when it fails.
        """
        with self.inside():
            done = subprocess.run([find_program(argv[0]), *argv[1:]], capture_output=True, text=True, timeout=20)
        if done.returncode:
            raise PeerError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def forward(self) -> None:
        """Be a router."""
        with self.inside():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def plug(self, other: Namespace, name: str, here: str, there: str) -> None:
        """A cable to another namespace: interface `name` here with address `here`, `eth0` there, whose router we are.

        Addresses of a /24.
        """
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", other.path)
        self.run("ip", "address", "add", f"{here}/24", "dev", name)
        self.run("ip", "link", "set", name, "up")
        other.run("ip", "address", "add", f"{there}/24", "dev", "eth0")
        other.run("ip", "link", "set", "eth0", "up")
        other.run("ip", "route", "add", "default", "via", here)

    def close(self) -> None:
        os.close(self._fd)


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        raise PeerError(f"setns: {os.strerror(ctypes.get_errno())}")
