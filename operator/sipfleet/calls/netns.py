"""Sockets in network namespaces (network_namespaces(7)), for phones that stand elsewhere than this process does.

A socket belongs to the namespace in which it was made and stays there. So a thread enters a namespace for as long as it
makes sockets, and goes home. `os.setns` is there from Python 3.12 on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Protocol

from .errors import EngineError

CLONE_NEWNET = 0x4000_0000
_HOME = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class Place(Protocol):
    """Where sockets are made."""

    def __call__(self) -> contextlib.AbstractContextManager[None]:
        """A context in which new sockets stand there."""


def place(path: str) -> Place:
    """The namespace at `path`, such as `/run/netns/home`; an empty path is that of this process.

    Entering needs CAP_SYS_ADMIN. Raises `EngineError` when there is no such namespace or it may not be entered.
    """
    if not path:
        return contextlib.nullcontext
    home, there = _open(_HOME), _open(path)
    with _inside(there, home, path):
        pass
    return lambda: _inside(there, home, path)


@contextlib.contextmanager
def _inside(there: int, home: int, path: str) -> Iterator[None]:
    _enter(there, path)
    try:
        yield
    finally:
        _enter(home, _HOME)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EngineError(f"network namespace {path}: {error.strerror}") from None


def _enter(descriptor: int, path: str) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise EngineError(f"network namespace {path}: cannot be entered: {os.strerror(ctypes.get_errno())}")
