"""Real peers as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.peers.redis_server import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path, loopback_address: Callable[[], str]) -> Iterator[RedisServer]:
    """A running, empty redis-server of this test's own."""
    with RedisServer(tmp_path, loopback_address(), 6379) as server:
        yield server
