"""The store is killed with fifty calls up and comes back empty: nobody on the telephone notices (DESIGN 2.9)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from sipfleet.calls import Report
from sipfleet.demo.cluster import Cluster
from sipfleet.demo.manifests import CLUSTER, POOL, Manifests
from sipfleet.demo.stage import Settings, Stage

SETTINGS = Settings(calls=52, duration=(8.0, 10.0), t1=0.1)


async def told(cluster: Cluster, name: str, since: float) -> list[str]:
    """What the supervisor said of the store's availability for one set since that moment, in order."""
    words = [event["message"] for event in await cluster.get(f"/v1/events?since={since}") if event["object"] == name]
    return [word.split()[0] for word in words if word.startswith("StoreAvailable=")]


async def until_told(cluster: Cluster, since: float, wanted: list[str]) -> None:
    deadline = time.monotonic() + 10
    while True:
        found = [await told(cluster, name, since) for name in (f"sipcluster/{CLUSTER}", f"mediapool/{POOL}")]
        if found == [wanted, wanted]:
            return
        assert time.monotonic() < deadline, f"{wanted} expected of both, got {found}"
        await asyncio.sleep(0.05)


async def play(work: Path) -> Report:
    manifests = Manifests(f"127.102.{192 + os.getpid() % 64}")
    async with Cluster(work, manifests) as cluster:
        stage = Stage(cluster, SETTINGS, 1, "", print)
        async with stage.calls(stage.chance("store")) as calls:
            pids = {pod.pid for pod in await cluster.pods()}
            killed = time.time()
            os.kill((await cluster.get("/v1"))["store"]["pid"], signal.SIGKILL)
            calls.mark("SIGKILL", "store")
            await until_told(cluster, killed, ["StoreAvailable=False", "StoreAvailable=True"])
            report = await calls.finish(60)
        assert {pod.pid for pod in await cluster.pods()} == pids, "no pod restarts because of the store"
        return report


def test_calls_outlive_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    report = asyncio.run(play(tmp_path))
    assert report.reasons() == {}, [call.detail for call in report.calls if not call.kept][:3]
    assert report.up_at(report.events[0].at) >= 50
    assert all(call.cdrs == 1 for call in report.calls)
    assert {call.bye_status for call in report.calls} == {200}
