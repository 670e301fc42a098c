"""What the demo decides without a cluster: what passes, what is applied, and that a seed plays the same again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sipfleet.api.manifest import parse_manifests
from sipfleet.calls import CallResult, Event, Heard, Report
from sipfleet.calls.judge import Limits, judge
from sipfleet.demo.manifests import Manifests
from sipfleet.demo.scenarios import SCENARIOS
from sipfleet.demo.stage import Outcome, Settings, Stage
from sipfleet.demo.wheels import versions

MANIFESTS = Manifests("127.102.9", "1.2.3.post1")


def call(gap_ms: float = 5.0, **changes: Any) -> CallResult:
    heard = Heard(sent=1000, received=1000, first_at=1.0, last_at=20.98, gap_ms=gap_ms)
    fields: dict[str, Any] = {"started_at": 0.5, "answered_at": 1.0, "acked_at": 1.0, "bye_at": 21.0}
    fields |= {"bye_by": "caller", "bye_status": 200, "bye_arrived": True, "to_caller": heard, "to_callee": heard}
    return judge(CallResult(number=1, call_id="id", **{**fields, **changes}), Limits())


def outcome(*calls: CallResult, **changes: Any) -> Outcome:
    report = Report(seed=1, calls=list(calls), events=[Event("SIGKILL", 5.0)], control=Heard(), began=0.0, seconds=30.0)
    return replace(Outcome("kill_proxy", 60.0, report), **changes)


def test_all_kept_under_the_limit_passes() -> None:
    assert outcome(call(), call()).passed


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (outcome(call(), call(bye_status=481)), "1 calls not kept: 1 bye_rejected"),
        (outcome(call(60.0)), "a gap of 60 ms, 60 ms of it not in the control stream, limit 60 ms"),
        (outcome(), "no call was made"),
        (outcome(call(), problems=["media-0 restarted"]), "media-0 restarted"),
        (Outcome("kill_proxy", 60.0), "not played"),
    ],
)
def test_everything_else_fails_and_says_why(changed: Outcome, complaint: str) -> None:
    assert not changed.passed
    assert complaint in "; ".join(changed.complaints())
    assert changed.as_json()["problems"] == changed.complaints()


@pytest.mark.parametrize(("least", "passes"), [(2, True), (3, False)])
def test_an_event_that_met_too_few_calls_fails(least: int, passes: bool) -> None:
    stage = Stage(None, Settings(least=least), 1, "", print)  # type: ignore[arg-type]
    played = outcome(call(), call(), call(answered_at=6.0))
    stage.check_events(played, ("SIGKILL",))
    assert played.passed is passes


def test_a_seed_gives_every_scenario_its_own_chance_and_the_same_again() -> None:
    def draw(seed: int, name: str) -> float:
        return Stage(None, Settings(), seed, "", print).chance(name).random()  # type: ignore[arg-type]

    assert draw(1, "kill_proxy") == draw(1, "kill_proxy")
    assert len({draw(seed, name) for seed in (1, 2) for name in SCENARIOS}) == 2 * len(SCENARIOS)


@pytest.mark.parametrize("shared", [False, True])
def test_the_manifests_are_accepted(shared: bool) -> None:
    cluster, pool = parse_manifests([("demo", replace(MANIFESTS, shared_ports=shared).text())])
    assert (cluster.kind, pool.kind) == ("SipCluster", "MediaPool")
    assert pool.spec.capacity == MANIFESTS.capacity


def test_the_calls_fit_on_the_relays_and_need_both() -> None:
    calls = Settings().calls
    assert MANIFESTS.capacity + 10 <= calls <= 2 * MANIFESTS.capacity


def test_the_two_releases_have_versions_of_their_own() -> None:
    old, new = versions()
    assert old != new
