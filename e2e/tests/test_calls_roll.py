"""Calls are kept while a version is rolled out, and while a broken one is stopped and put back."""

from __future__ import annotations

import pytest

from e2e.harness.calls import KILLED_RELAY_MS, LEAST, Outside, act, passed
from e2e.harness.fleet import CLUSTER, POOL, Fleet
from e2e.harness.kubectl import condition
from e2e.tests.conftest import BROKEN, NEXT
from sipfleet.calls import CallGenerator


def roll(fleet: Fleet, version: str) -> None:
    fleet.version = version
    for what in (f"mediapool/{POOL}", f"sipcluster/{CLUSTER}"):
        fleet.kubectl.patch(what, {"spec": {"version": version}})


def rolled(fleet: Fleet, version: str) -> None:
    for name in (POOL, CLUSTER):
        fleet.until(name, f"version {version}", lambda status: status.get("version") == version, 400)
    fleet.until_settled(400)


@pytest.mark.smoke
def test_a_new_version_is_rolled_out(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("roll", NEXT)
        await act(roll, fleet, NEXT)
        await act(rolled, fleet, NEXT)
        calls.mark("rolled", NEXT)

    passed(outside.play("roll_version", deed, events=("roll",)))


def test_a_broken_version_is_stopped_and_put_back_while_a_pod_dies(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        # Before the roll: the status that knows of the calls may take 10 s, and the kill must come before the put-back.
        victim = await act(fleet.busiest, POOL, LEAST)
        calls.mark("roll", BROKEN)
        await act(roll, fleet, BROKEN)
        for name in (POOL, CLUSTER):
            await act(fleet.until, name, "surge", lambda status: status.get("replicas") == 3, 120)
        calls.mark("kill", victim)
        await act(fleet.kubectl, "delete", "pod", victim, "--grace-period=0", "--force")
        for name in (POOL, CLUSTER):
            failed = await act(
                fleet.until,
                name,
                "failed",
                lambda status: (
                    condition({"status": status}, "Degraded").get("reason") == "RolloutFailed"
                    and status.get("replicas") == 2 == status.get("readyReplicas")
                ),
                400,
            )
            assert "0.1.0" in failed["status"]["version"], failed["status"]["version"]
        calls.mark("put back")

    passed(outside.play("bad_version", deed, limit_ms=KILLED_RELAY_MS, events=("roll", "kill")))
