"""What happens when something is killed: it comes back, or, when it was the supervisor, nothing is left behind.

Each of proxy, relay, store and supervisor is killed at twenty seeded moments; the supervisor twice a round, once while
the cluster comes up and once while the others heal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sipfleet.api import load_manifests
from sipfleet.local import pods
from sipfleet.local.routes import api_server
from sipfleet.local.state import StateDirectory
from sipfleet.local.supervisor import Supervisor
from tests.integration.local.up import Up, alive, children, manifests
from tests.integration.peers.process import wait_for

ROUNDS = 20


def ports(address: str) -> list[tuple[str, int]]:
    """UDP addresses that a cluster with one proxy and one relay uses."""
    net = address.rpartition(".")[0]
    return [(address, 5060), (f"{net}.10", 5060), (f"{net}.10", 5070), (f"{net}.11", 2223)]


def all_bind(addresses: list[tuple[str, int]]) -> bool:
    for where in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.bind(where)
            except OSError:
                return False
    return True


def kill_supervisor(up: Up, address: str) -> None:
    """SIGKILL; within 3 s no descendant lives and every port binds again."""
    family = children(up.pid)
    os.kill(up.pid, signal.SIGKILL)
    died = time.monotonic()
    up.wait(1)
    wait_for(lambda: not any(alive(pid) for pid in family), 3.0, f"the end of {family}")
    wait_for(lambda: all_bind(ports(address)), max(0.1, 3.0 - (time.monotonic() - died)), "every port")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_after_any_death_the_cluster_heals_or_nothing_is_left(
    seed: int, tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    dice = random.Random(seed)
    address = cluster_address()
    up = Up(tmp_path, manifests(address, proxies=1, relays=1))
    with contextlib.ExitStack() as stack:
        stack.callback(up.kill)
        up._ready = None
        up.start()
        time.sleep(dice.uniform(0.1, 1.0))
        kill_supervisor(up, address)  # while it comes up

        up._ready = up.ready
        up.start(20.0)  # takes the state directory over
        before = up.pods()
        store = _store_pid(up)
        victims = [before["t-0"]["pid"], before["t-media-0"]["pid"], store]
        dice.shuffle(victims)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            time.sleep(dice.uniform(0.0, 0.3))
        up.until(lambda: _healed(up, before, store), "healing")
        assert {name: pod["address"] for name, pod in up.pods().items()} == {
            name: pod["address"] for name, pod in before.items()
        }
        os.kill(up.pods()[dice.choice(["t-0", "t-media-0"])]["pid"], signal.SIGKILL)
        time.sleep(dice.uniform(0.0, 0.2))
        kill_supervisor(up, address)  # while a pod starts again


def _store_pid(up: Up) -> int:
    """The one child of the supervisor that is no pod."""
    pods = {pod["pid"] for pod in up.pods().values()}
    (pid,) = children(up.pid) - pods
    return pid


def _healed(up: Up, before: dict[str, dict[str, object]], store: int) -> bool:
    after = up.pods()
    return (
        all(after[name]["uid"] != before[name]["uid"] and after[name]["phase"] == "Serving" for name in before)
        and up.ready()
        and up.condition("mediapools", "StoreAvailable") == "True"
        and _store_pid(up) != store
    )


def test_a_killed_relay_is_back_within_half_a_second_at_the_same_address(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0)) as up:
        relay = up.pods()["t-media-0"]
        address = (relay["address"], 2223)
        os.kill(relay["pid"], signal.SIGKILL)
        took = up.until(lambda: _pongs(address), "a pong of the next incarnation")
        assert took < 0.5
        up.until(lambda: up.pods()["t-media-0"]["restarts"] == 1, "the restart in the list")


def _pongs(address: tuple[str, int]) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(0.05)
        with contextlib.suppress(OSError):
            one.connect(address)
            one.send(b"1_1 d7:command4:pinge")
            return one.recv(200) == b"1_1 d6:result4:ponge"
    return False


def test_the_second_death_within_a_minute_waits_a_second(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0, relays=1)) as up:
        os.kill(up.pods()["t-media-0"]["pid"], signal.SIGKILL)
        up.until(lambda: up.pods()["t-media-0"]["restarts"] == 1 and up.ready(), "the first restart")
        os.kill(up.pods()["t-media-0"]["pid"], signal.SIGKILL)
        up.until(lambda: up.pods()["t-media-0"]["phase"] == "Failed", "the back-off")
        assert up.until(up.ready, "the second restart") > 0.5


def test_the_store_comes_back_empty_and_the_conditions_say_so(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0)) as up:
        os.kill(_store_pid(up), signal.SIGKILL)
        up.until(lambda: _said(up) == ["StoreAvailable=False", "StoreAvailable=True"], "False, then True")
        up.until(up.ready, "relays that have their leases again")
        assert {pod["restarts"] for pod in up.pods().values()} == {0}


def _said(up: Up) -> list[str]:
    events = [e for e in up.get("events") if e["object"] == "mediapool/t-media"]
    return [e["message"].split()[0] for e in events if e["message"].startswith("StoreAvailable=")]


def test_a_pod_that_hangs_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster_address: Callable[[], str]
) -> None:
    """In this process, so that the probe's times can be made short."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(pods, "LIVE_INTERVAL", 0.2)
    monkeypatch.setattr(pods, "LIVE_TIMEOUT", 0.3)
    state = StateDirectory("t")
    state.make()
    state.lock()

    async def run() -> None:
        up = Supervisor(state, load_manifests(manifests(cluster_address(), proxies=0, relays=1))[1:])
        running = asyncio.ensure_future(up.run(api_server(state, up)))
        try:
            await _serving(up, "")
            slot = up.pods.named("t-media-0")
            assert slot is not None
            hanging = slot.uid
            os.kill(slot.pid or 0, signal.SIGSTOP)
            await _serving(up, hanging)
            assert [event.reason for event in up.events.kept].count("Hangs") == 1
        finally:
            up.stopped.set()
            await running

    asyncio.run(run())
    state.unlock()


def test_a_pod_that_lives_but_serves_nobody_is_told_of_until_it_serves_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster_address: Callable[[], str]
) -> None:
    """The probe asks another port for a while: to it that is the same as a relay that answers nobody."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(pods, "LIVE_INTERVAL", 0.1)
    monkeypatch.setattr(pods, "PROBE_TIMEOUT", 0.3)
    state = StateDirectory("t")
    state.make()

    async def run() -> None:
        up = Supervisor(state, load_manifests(manifests(cluster_address(), proxies=0, relays=1))[1:])
        running = asyncio.ensure_future(up.run(api_server(state, up)))
        try:
            await _serving(up, "")
            slot = up.pods.named("t-media-0")
            assert slot is not None
            monkeypatch.setattr(pods, "NG_PORT", 2224)
            async with asyncio.timeout(10):
                while slot.serving:
                    await asyncio.sleep(0.05)
            monkeypatch.setattr(pods, "NG_PORT", 2223)
            await _serving(up, "")
            assert slot.restarts == 0
            assert [event.reason for event in up.events.kept].count("NotServing") == 1
        finally:
            up.stopped.set()
            await running

    asyncio.run(run())


async def _serving(up: Supervisor, but: str) -> None:
    """Wait for an incarnation of the relay that serves and has not the uid `but`."""
    async with asyncio.timeout(10):
        while True:
            slot = up.pods.named("t-media-0")
            if slot is not None and slot.serving and slot.uid != but:
                return
            await asyncio.sleep(0.05)


def test_processes_of_strangers_are_left_alone(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    """A pid that an earlier run wrote down may be somebody else's by now."""
    text = manifests(cluster_address(), proxies=0, relays=1)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        state = tmp_path / "state/sipfleet/t"
        state.mkdir(parents=True)
        (state / "run.json").write_text(json.dumps({"pid": 1, "children": [{"pid": stranger.pid, "started": 1}]}))
        with Up(tmp_path, text) as up:
            assert up.ready()
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
