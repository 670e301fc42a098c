"""The master of a store with sentinels is killed with calls up: another is elected and found, and nobody notices."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sipcore.store import Keys
from sipfleet.store import StoreReader
from tests.integration.peers.fleet import ProxyPair, status_of
from tests.integration.peers.process import Peer, wait_for
from tests.integration.peers.sentinel import ElectedStore, Node
from tests.integration.proxy.audio import TalkingLine
from tests.integration.proxy.phones import Phone

DOMAIN = "example.test"
PASSWORD = "p@ss/w:rd%"
CALLS = 20
ELECTION = 10.0
"""Seconds until everybody has the new master: one of silence, the election, the way to it."""

HAND_OVER = 30.0
"""Seconds until a master that works is made a replica: sentinels wait eight after the election before they do it."""


@pytest.fixture
def store(tmp_path: Path, loopback_address: Callable[[], str]) -> Iterator[ElectedStore]:
    with ElectedStore(tmp_path / "store", [loopback_address() for _ in range(6)], PASSWORD) as store:
        yield store


@pytest.fixture
def silent_sentinel() -> Iterator[str]:
    """A name, which has to be looked up, and a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"localhost:{listener.getsockname()[1]}"


@dataclass
class Fleet:
    """Two proxies and a relay that know the sentinels."""

    pair: ProxyPair
    relay: tuple[str, int]
    """Its admin port."""

    def available(self) -> bool:
        """Whether all three have a store."""
        proxies = [status_of(proxy.admin).get("store") for proxy in self.pair.proxies.values()]
        relay: dict[str, Any] = status_of(self.relay).get("store", {})
        return all(proxies) and bool(relay.get("available"))

    def nobody_has_it(self) -> bool:
        proxies = [status_of(proxy.admin).get("store") for proxy in self.pair.proxies.values()]
        return not any(proxies) and not status_of(self.relay)["store"]["available"]


@pytest.fixture
def fleet(
    store: ElectedStore,
    silent_sentinel: str,
    callee: tuple[str, int],
    tmp_path: Path,
    loopback_address: Callable[[], str],
) -> Iterator[Fleet]:
    url = store.url("${STORE_PASSWORD}", silent_sentinel)
    env = {"STORE_PASSWORD": PASSWORD}
    host = loopback_address()
    config = tmp_path / "relay.json"
    raw = {
        "pod": {"set": "media", "name": "media-0"},
        "ng": f"{host}:2223",
        "admin": f"{host}:9090",
        "interfaces": [host],
        "ports": "24000-24999",
        "store": url,
    }
    config.write_text(json.dumps(raw))
    argv = [sys.executable, "-m", "rtprelay", "--config", str(config)]
    admin = (host, 9090)
    relay = Peer(argv, tmp_path / "relay.log", lambda: bool(status_of(admin).get("index")), env)
    pods = [loopback_address(), loopback_address()]
    address = (loopback_address(), 5060)
    with relay, ProxyPair(tmp_path, address, pods, url, DOMAIN, callee, pools=["media"], env=env) as pair:
        fleet = Fleet(pair, admin)
        for proxy in pair.proxies.values():
            wait_for(lambda at=proxy.admin: bool(status_of(at).get("index")), 5, "it has an index")  # type: ignore[misc]
        yield fleet
        for log in (relay.log, *(proxy.log for proxy in pair.proxies.values())):
            assert PASSWORD not in log.read_text()


@pytest.fixture
def callee(loopback_address: Callable[[], str]) -> tuple[str, int]:
    return loopback_address(), 5080


def cdrs(master: Node) -> list[str]:
    """The Call-IDs of the CDRs."""
    with master.client() as client:
        entries: Any = client.xrange(Keys("default", "pair").cdr.decode())
        return sorted(json.loads(fields[b"cdr"])["call_id"] for _, fields in entries)


def test_calls_outlive_the_master_and_each_has_its_cdr(
    store: ElectedStore, fleet: Fleet, callee: tuple[str, int], loopback_address: Callable[[], str]
) -> None:
    bob = Phone(callee)
    caller = loopback_address()

    def call(name: str) -> TalkingLine:
        return TalkingLine(Phone((caller, 0), fleet.pair.address), bob, DOMAIN, name).up()

    lines = [call(f"c{number}") for number in range(CALLS)]
    shares = fleet.pair.shares()
    assert min(shares.active.values()) > 0, f"both proxies own calls: {shares}"
    assert all(line.talk() for line in lines)

    killed = time.monotonic()
    old = store.kill_master()
    wait_for(fleet.nobody_has_it, 3, "all miss the store")
    assert all(line.talk() for line in lines), "audio needs no store"
    lines[0].down()
    lines.append(call("without-a-store"))
    wait_for(fleet.available, ELECTION - (time.monotonic() - killed), "all have the new master")
    print(f"a store again {time.monotonic() - killed:.1f} s after the kill")
    assert store.master is not old

    assert all(line.talk() for line in lines[1:])
    lines.append(call("with-the-new-master"))
    for line in lines[1:]:
        line.down()
    expected = sorted(line.call_id for line in lines)
    wait_for(lambda: len(cdrs(store.master)) >= len(expected), 5, "all CDRs are written")
    assert cdrs(store.master) == expected
    wait_for(lambda: fleet.pair.shares().total == 0, 2, "no call is left")
    for line in lines:
        line.close()
    bob.socket.close()


def test_a_master_that_is_made_a_replica_is_left(store: ElectedStore, fleet: Fleet) -> None:
    old = store.master
    assert users_of(old) == 3
    store.sentinels[0].fail_over()
    wait_for(lambda: old.role() == "slave", HAND_OVER, "the old master is a replica", interval=0.1)
    wait_for(lambda: users_of(store.master) == 3, ELECTION, "all are at the new master", interval=0.1)
    assert fleet.available()
    assert users_of(old) == 0


def users_of(node: Node) -> int:
    """Connections of our programs: a heartbeat is the last command of each."""
    with node.client() as client:
        return sum(one["cmd"].startswith("evalsha") for one in client.client_list())


def test_the_operator_reads_the_new_master(store: ElectedStore, fleet: Fleet, silent_sentinel: str) -> None:
    asyncio.run(read_through_an_election(store, store.url(quote(PASSWORD, safe=""), silent_sentinel)))


async def read_through_an_election(store: ElectedStore, url: str) -> None:
    reader = StoreReader(url)
    sets = [("default", "pair"), ("default", "media")]

    async def leases() -> list[str]:
        await reader.read_leases(sets, (), asyncio.get_running_loop().time())
        return sorted(lease.pod for view in reader.views.values() for lease in view.leases.values())

    try:
        assert await leases() == ["media-0", "proxy-0", "proxy-1"]
        assert reader.available
        store.kill_master()
        killed = time.monotonic()
        await leases()
        assert reader.available is False
        while not reader.available:
            assert time.monotonic() - killed < ELECTION
            await asyncio.sleep(0.2)
            await leases()
        await asyncio.sleep(2.5)
        assert await leases() == ["media-0", "proxy-0", "proxy-1"]
    finally:
        await reader.close()
