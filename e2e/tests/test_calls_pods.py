"""Calls are kept when a pod is deleted, politely or by force."""

from __future__ import annotations

import pytest

from e2e.harness.calls import KILLED_RELAY_MS, LEAST, PLANNED_MS, Outside, act, passed
from e2e.harness.fleet import CLUSTER, POOL, Fleet
from sipfleet.calls import CallGenerator

FORCED = ("--grace-period=0", "--force")


@pytest.mark.parametrize(
    ("name", "how", "limit"),
    [
        pytest.param(CLUSTER, FORCED, PLANNED_MS, id="proxy-by-force", marks=pytest.mark.smoke),
        pytest.param(POOL, FORCED, KILLED_RELAY_MS, id="relay-by-force", marks=pytest.mark.smoke),
        pytest.param(CLUSTER, ("--wait=false",), PLANNED_MS, id="proxy"),
        pytest.param(POOL, ("--wait=false",), PLANNED_MS, id="relay"),
    ],
)
def test_a_deleted_pod_costs_no_call(
    fleet: Fleet, outside: Outside, name: str, how: tuple[str, ...], limit: float
) -> None:
    async def deed(calls: CallGenerator) -> None:
        victim = await act(fleet.busiest, name, LEAST)
        uid = (await act(fleet.kubectl.get, f"pod/{victim}"))["metadata"]["uid"]
        calls.mark("delete", victim)
        await act(fleet.kubectl, "delete", "pod", victim, *how)
        await act(fleet.kubectl.until, "another pod", lambda pod: pod["metadata"]["uid"] != uid, 240, f"pod/{victim}")
        await act(fleet.until_settled)
        calls.mark("healed", victim)

    kind = "proxy" if name == CLUSTER else "relay"
    passed(outside.play(f"delete_{kind}{'_force' if how == FORCED else ''}", deed, limit_ms=limit, events=("delete",)))
