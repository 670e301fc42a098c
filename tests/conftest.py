"""Fixtures that several kinds of test share."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable

import pytest

_addresses = itertools.count(1)
_nets = itertools.count(1)


def pytest_configure() -> None:
    """SIGTERM ends a run as Ctrl-C does: what the fixtures started ends with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def loopback_address() -> Callable[[], str]:
    """Gives addresses of 127.103.0.0/16 that no other test of this run has, so that fixed ports do not collide.

    The second byte from the end comes from the process id: two runs at a time seldom meet.
    """
    net = 16 + os.getpid() % 100

    def next_address() -> str:
        return f"127.103.{net}.{next(_addresses)}"

    return next_address


@pytest.fixture(scope="session")
def loopback_net() -> Callable[[], str]:
    """Gives /24 networks as three octets (`127.103.130`), for a test that lets a cluster choose within its own.

    They lie in the upper half of 127.103.0.0/16, away from those of `loopback_address`.
    """
    first = os.getpid()

    def next_net() -> str:
        return f"127.103.{120 + (first + next(_nets)) % 130}"

    return next_net
