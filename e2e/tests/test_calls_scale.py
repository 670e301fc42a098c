"""Calls are kept while a MediaPool grows and shrinks."""

from __future__ import annotations

import pytest

from e2e.harness.calls import Outside, act, passed
from e2e.harness.fleet import POOL, Fleet
from e2e.harness.kubectl import is_true
from sipfleet.calls import CallGenerator


def replicas(fleet: Fleet, wanted: int) -> None:
    fleet.until(
        POOL, f"{wanted} relays", lambda status: status.get("replicas") == wanted == status.get("readyReplicas"), 300
    )


@pytest.mark.smoke
def test_a_pool_goes_from_two_to_four_to_two_by_kubectl_scale(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("grow")
        await act(fleet.kubectl, "scale", f"mediapool/{POOL}", "--replicas=4")
        await act(replicas, fleet, 4)
        before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in fleet.pods(POOL)}
        calls.mark("shrink")
        await act(fleet.kubectl, "scale", f"mediapool/{POOL}", "--replicas=2")
        await act(replicas, fleet, 2)
        after = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in fleet.pods(POOL)}
        assert all(before[name] == uid for name, uid in after.items()), "a relay that stays was restarted"

    passed(outside.play("scale", deed, events=("grow", "shrink")))


def test_a_pool_goes_from_two_to_four_to_two_by_the_calls_alone(fleet: Fleet, outside: Outside) -> None:
    rule = {"min": 2, "max": 4, "freeCapacity": 75, "scaleDown": {"window": 10}, "scaleUp": {"pods": 4, "period": 5}}
    spec = {"replicas": None, "autoscale": rule, "capacity": 40}
    fleet.kubectl.patch(f"mediapool/{POOL}", {"spec": spec})
    fleet.kubectl.until("accepted", is_true("Accepted"), 30, f"mediapool/{POOL}")
    fleet.until_settled()

    async def deed(calls: CallGenerator) -> None:
        # 60 calls leave 60 of 120 free with three relays, so there are four; with five calls left two have 75 free.
        await act(replicas, fleet, 4)
        calls.mark("grown")
        calls.more(4)
        await act(replicas, fleet, 2)
        calls.mark("shrunk")

    passed(outside.play("autoscale", deed, events=("grown",)))
