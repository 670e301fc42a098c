"""Calls with their media through a relay that Kamailio controls: Debian's rtpengine, the proven peer, and ours."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipfleet.calls import CallGenerator, CallPlan, Report
from tests.integration.peers.kamailio import Kamailio
from tests.integration.peers.probe import Address, answers_ng
from tests.integration.peers.process import Peer
from tests.integration.peers.rtpengine import Rtpengine

PROXY, CALLEE, NG, MEDIA = ("127.102.3.1", 5060), ("127.102.3.2", 5080), ("127.102.3.3", 2223), "127.102.3.4"


class RelayingKamailio(Kamailio):
    """Kamailio that puts the relay at `ng` into every call."""

    def __init__(self, work: Path, address: Address, ng: Address) -> None:
        super().__init__(work, address)
        text = Path(__file__).with_name("kamailio-relay.cfg").read_text()
        path = work / "kamailio-relay.cfg"
        path.write_text(text.replace("RELAY", f"{ng[0]}:{ng[1]}"))
        self.argv[-1] = str(path)


def ours(work: Path, ports: str) -> Peer:
    argv = [sys.executable, "-m", "rtprelay", "--ng", f"{NG[0]}:{NG[1]}", "--interface", MEDIA, "--ports", ports]
    return Peer(argv, work / "rtprelay.log", lambda: answers_ng(NG))


@pytest.fixture(params=["rtpengine", "range", "shared"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    made = {
        "rtpengine": lambda: Rtpengine(tmp_path, NG, MEDIA),
        "range": lambda: ours(tmp_path, "24000-24999"),
        "shared": lambda: ours(tmp_path, "shared:4@24000"),
    }[request.param]()
    with made as running, RelayingKamailio(tmp_path, PROXY, NG):
        yield running


def plan(calls: int, duration: tuple[float, float]) -> CallPlan:
    return CallPlan(f"sip:echo@{CALLEE[0]}:{CALLEE[1]}", PROXY, CALLEE, calls, 40.0, duration, (0.0, 0.1))


async def run(planned: CallPlan) -> Report:
    async with CallGenerator(planned) as calls:
        return await calls.finish(30)


def test_calls_through_a_relay_are_kept(relay: Peer) -> None:
    report = asyncio.run(run(plan(40, (2.0, 3.0))))
    assert report.reasons() == {}, [call.detail for call in report.calls if not call.kept][:3]
    assert len(report.calls) == 40
    assert sum(call.to_caller.duplicates + call.to_callee.duplicates for call in report.calls) == 0
    assert max(call.lost for call in report.calls) <= 5


@pytest.mark.parametrize("relay", ["range"], indirect=True)
def test_a_relay_that_stops_relaying_is_noticed(relay: Peer) -> None:
    async def stopped() -> Report:
        async with CallGenerator(plan(10, (2.5, 3.0))) as calls:
            await calls.until_established(timeout=10)
            os.kill(relay.pid, signal.SIGSTOP)
            calls.mark("SIGSTOP", "relay")
            return await calls.finish(30)

    try:
        report = asyncio.run(stopped())
    finally:
        os.kill(relay.pid, signal.SIGCONT)
    assert report.reasons() == {"audio_stopped": 10}
    assert report.up_at(report.events[0].at) == 10
