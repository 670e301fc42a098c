"""A judge that has never reported a lost call proves nothing: the demo's scenarios with one thing that keeps calls off.

Each switch of docs/decisions/0005 takes one such thing away from the production code. The same scenarios without a
switch are what `make demo` plays.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sipfleet.calls import Reason
from sipfleet.demo.cluster import Cluster
from sipfleet.demo.manifests import Manifests
from sipfleet.demo.scenarios import SCENARIOS
from sipfleet.demo.stage import GAP_LIMIT_MS, Outcome, Scenario, Settings, Stage

SETTINGS = Settings(
    calls=24, least=18, rate=30.0, duration=(6.0, 8.0), rolling_duration=(6.0, 7.0), mischief=(0.2, 0.5), t1=0.1
)
BYE_FAILED = {Reason.BYE_UNANSWERED, Reason.BYE_REJECTED, Reason.BYE_LOST, Reason.NO_CDR}


async def undisturbed(stage: Stage) -> Outcome:
    """Calls, and nothing is done to the cluster."""
    outcome = Outcome("undisturbed", GAP_LIMIT_MS)
    async with stage.calls(stage.chance("undisturbed")) as calls:
        outcome.report = await calls.finish(60)
    return outcome


async def play(work: Path, scenario: Scenario, settings: Settings) -> Outcome:
    manifests = Manifests(f"127.102.{64 + os.getpid() % 128}", capacity=16)
    async with Cluster(work, manifests) as cluster:
        return await scenario(Stage(cluster, settings, 1, "", print))


@pytest.mark.parametrize(
    ("switch", "scenario", "reasons"),
    [
        pytest.param("adoption", SCENARIOS["kill_proxy"], BYE_FAILED, id="adoption"),
        pytest.param("restore", SCENARIOS["kill_relay"], {Reason.AUDIO_STOPPED}, id="restore"),
        pytest.param("drain", SCENARIOS["scale_media"], {Reason.AUDIO_STOPPED}, id="drain"),
        pytest.param("cross", undisturbed, {Reason.FOREIGN_AUDIO}, id="cross"),
    ],
)
def test_the_judge_reports_lost_calls_without(
    switch: str, scenario: Scenario, reasons: set[Reason], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SIPFLEET_BREAK", switch)
    outcome = asyncio.run(play(tmp_path, scenario, SETTINGS))
    assert outcome.report is not None
    lost = outcome.report.reasons()
    assert not outcome.passed
    assert lost.keys() & reasons, f"lost calls for one of {reasons} expected, got {lost}"


def test_nothing_is_lost_when_nothing_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SIPFLEET_BREAK", raising=False)
    outcome = asyncio.run(play(tmp_path, undisturbed, SETTINGS))
    assert outcome.report is not None
    assert outcome.report.reasons() == {}
    assert outcome.calls == SETTINGS.calls
