"""A name server for each test, once as Knot and once as BIND."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.peers.nameserver import FOREIGN, Bind, Knot, NameServer

ZONES = {"example.test": FOREIGN, "second.test": "", "deep.example.test": ""}


@pytest.fixture(params=[Knot, Bind], ids=["knot", "bind"])
def primary(
    request: pytest.FixtureRequest, tmp_path: Path, loopback_address: Callable[[], str]
) -> Iterator[NameServer]:
    """A running primary server of example.test, with other people's records in it, and of two more."""
    with request.param(tmp_path, loopback_address(), ZONES) as server:
        yield server
