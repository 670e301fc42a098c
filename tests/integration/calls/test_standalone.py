"""Calls through `sipproxy` and `rtprelay` run alone, without store and supervisor: judged as in the demo."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sipfleet.calls import CallGenerator, CallPlan, Report
from tests.integration.peers.probe import answers_ng, is_bound
from tests.integration.peers.process import Peer

NG = ("127.102.4.3", 2223)


@contextmanager
def pair(work: Path, host: str, callee: str, media: str, ports: str) -> Iterator[tuple[Peer, Peer]]:
    """A running proxy at `host`, and its relay."""
    config = {
        "domains": ["example.test"],
        "listeners": [{"address": host}],
        "routes": [{"domain": "example.test", "targets": [f"sip:{callee}"]}],
        "media": {"relays": [f"{NG[0]}:{NG[1]}"]},
    }
    path = work / "proxy.json"
    path.write_text(json.dumps(config))
    flags = ["--ng", f"{NG[0]}:{NG[1]}", "--interface", media, "--ports", ports]
    relay = Peer([sys.executable, "-m", "rtprelay", *flags], work / "relay.log", lambda: answers_ng(NG))
    serves = (lambda: is_bound((host, 5060))) if "." in host else (lambda: "started" in proxy.tail())
    proxy = Peer([sys.executable, "-m", "sipproxy", "--config", str(path)], work / "proxy.log", serves)
    with relay, proxy:
        yield proxy, relay


async def run(plan: CallPlan) -> Report:
    async with CallGenerator(plan) as calls:
        return await calls.finish(30)


@pytest.mark.parametrize("ports", ["20000-20999", "shared:4@20000"])
def test_calls_over_ipv4_are_kept(tmp_path: Path, ports: str) -> None:
    with pair(tmp_path, "127.102.4.1", "127.102.4.2:5080", "127.102.4.4", ports):
        plan = CallPlan("sip:a@example.test", ("127.102.4.1", 5060), ("127.102.4.2", 5080), 40, 40.0, (2.0, 3.0))
        report = asyncio.run(run(plan))
    assert report.reasons() == {}, [call.detail for call in report.calls if not call.kept][:3]
    assert len(report.calls) == 40
    assert max(call.lost for call in report.calls) <= 5


def test_calls_over_ipv6_are_kept(tmp_path: Path) -> None:
    with pair(tmp_path, "::1", "[::1]:5080", "::1", "20000-20999"):
        plan = CallPlan("sip:a@example.test", ("::1", 5060), ("::1", 5080), 10, 40.0, (1.0, 2.0))
        report = asyncio.run(run(plan))
    assert report.reasons() == {}
    assert len(report.calls) == 10


def test_a_killed_relay_without_a_store_loses_its_calls_and_the_judge_says_so(tmp_path: Path) -> None:
    async def killed(plan: CallPlan, relay: Peer) -> Report:
        async with CallGenerator(plan) as calls:
            await calls.until_established(timeout=10)
            os.kill(relay.pid, signal.SIGKILL)
            calls.mark("SIGKILL", "relay")
            return await calls.finish(30)

    with pair(tmp_path, "127.102.4.1", "127.102.4.2:5080", "127.102.4.4", "20000-20999") as (_, relay):
        plan = CallPlan(
            "sip:a@example.test", ("127.102.4.1", 5060), ("127.102.4.2", 5080), 10, 40.0, (2.0, 3.0), t1=0.1
        )
        report = asyncio.run(killed(plan, relay))
    assert report.reasons() == {"audio_stopped": 10}
    assert report.up_at(report.events[0].at) == 10
    assert {call.bye_status for call in report.calls} == {200}, "signalling goes on without the relay"
