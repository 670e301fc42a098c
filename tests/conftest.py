"""Fixtures that several kinds of test share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest

_addresses = itertools.count(1)


@pytest.fixture(scope="session")
def loopback_address() -> Callable[[], str]:
    """Gives addresses of 127.103.0.0/16 that no other test of this run has, so that fixed ports do not collide.

    The second byte from the end comes from the process id: two runs at a time seldom meet.
    """
    net = 16 + os.getpid() % 224

    def next_address() -> str:
        return f"127.103.{net}.{next(_addresses)}"

    return next_address
