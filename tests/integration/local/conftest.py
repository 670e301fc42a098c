"""Addresses for clusters under test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest

_nets = itertools.count(os.getpid() * 7)


@pytest.fixture(scope="session")
def cluster_address() -> Callable[[], str]:
    """Gives the address of a cluster in a /24 of 127.106.0.0/16 that no other test of this run has."""
    return lambda: f"127.106.{next(_nets) % 250 + 2}.1"
