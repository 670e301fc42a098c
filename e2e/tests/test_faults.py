"""What other systems of this field get wrong (DESIGN 4.8), with calls up from outside."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from e2e.harness.calls import Outside, act, passed
from e2e.harness.fleet import CLUSTER, OPERATOR, POOL, Fleet
from e2e.harness.kubectl import is_true
from e2e.tests.conftest import NEXT
from e2e.tests.test_calls_roll import roll, rolled
from e2e.tests.test_calls_scale import replicas
from sipfleet.calls import CallGenerator

FEW: dict[str, Any] = {"calls": 55, "keep_arriving": False, "duration": (20.0, 40.0)}
"""Of a plan whose calls are all up when something happens: nobody calls a fleet that goes away."""


def lives(fleet: Fleet, name: str) -> dict[str, tuple[str, int]]:
    """(UID, restarts) of each pod of a set by name: other ones if it was replaced or restarted."""
    found = {}
    for pod in fleet.pods(name):
        restarts = sum(one["restartCount"] for one in pod["status"].get("containerStatuses") or [])
        found[pod["metadata"]["name"]] = (pod["metadata"]["uid"], restarts)
    return found


def slot_addresses(fleet: Fleet) -> set[str]:
    """The Services of media slots, each of which has an address."""
    found = fleet.kubectl.items("services", "-l", f"sipfleet.io/set={POOL}")
    return {one["metadata"]["name"] for one in found if one["spec"]["type"] == "LoadBalancer"}


def test_scaled_to_zero_a_fleet_waits_for_its_calls(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        before = {name: await act(lives, fleet, name) for name in (CLUSTER, POOL)}
        calls.mark("zero")
        await act(fleet.kubectl, "scale", f"sipcluster/{CLUSTER}", f"mediapool/{POOL}", "--replicas=0")
        await asyncio.sleep(10)  # time enough to end pods wrongly; the calls of FEW last longer
        calls.mark("ten seconds later")
        # Calls are packed onto the lowest relay: the other may have gone.
        for name, stood in before.items():
            left = await act(lives, fleet, name)
            assert f"{name}-0" in left, f"no pod of {name} was left to the calls"
            assert left.items() <= stood.items(), f"pods of {name} were started anew: {stood}, now {left}"
        for name in (POOL, CLUSTER):
            await act(fleet.until, name, "empty", lambda status: status.get("replicas") == 0, 120)
            assert not await act(fleet.pods, name)
        calls.mark("nobody left")

    passed(outside.play("scale_to_zero", deed, events=("zero", "ten seconds later"), **FEW))


def test_a_pool_grows_by_itself_while_it_is_rolled(fleet: Fleet, outside: Outside) -> None:
    rule = {"min": 2, "max": 4, "freeCapacity": 150, "scaleDown": {"window": 10}, "scaleUp": {"pods": 4, "period": 5}}

    async def deed(calls: CallGenerator) -> None:
        calls.mark("roll", NEXT)
        await act(roll, fleet, NEXT)
        await act(fleet.kubectl.patch, f"mediapool/{POOL}", {"spec": {"replicas": None, "autoscale": rule}})
        await act(fleet.kubectl.until, "accepted", is_true("Accepted"), 30, f"mediapool/{POOL}")
        wanted = await act(fleet.until, POOL, "more", lambda status: (status.get("desiredReplicas") or 0) >= 3, 60)
        calls.mark("grows", f"while {wanted['status']['version']}")
        await act(rolled, fleet, NEXT)
        calls.mark("rolled", NEXT)
        calls.more(5)
        await act(replicas, fleet, 2)

    passed(outside.play("autoscale_in_a_roll", deed, events=("roll", "grows"), duration=(20.0, 30.0)))


@pytest.mark.smoke
def test_a_pool_that_grows_restarts_no_relay(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        before = await act(lives, fleet, POOL)
        calls.mark("grow")
        await act(fleet.kubectl, "scale", f"mediapool/{POOL}", "--replicas=3")
        await act(replicas, fleet, 3)
        calls.mark("grown")
        after = await act(lives, fleet, POOL)
        assert after.items() > before.items(), f"relays were restarted: {before}, now {after}"
        assert await act(slot_addresses, fleet) == {f"{POOL}-{ordinal}" for ordinal in range(4)}
        await act(fleet.kubectl, "scale", f"mediapool/{POOL}", "--replicas=2")
        await act(replicas, fleet, 2)
        # One is kept ahead for the surge of a roll; nothing else is left behind.
        for _ in range(20):
            if len(await act(slot_addresses, fleet)) == 3:
                break
            await asyncio.sleep(0.5)
        assert await act(slot_addresses, fleet) == {f"{POOL}-{ordinal}" for ordinal in range(3)}

    passed(outside.play("grow_only", deed, events=("grow", "grown"), duration=(20.0, 25.0)))


@pytest.mark.smoke
def test_the_standby_goes_on_when_the_leader_is_gone(fleet: Fleet) -> None:
    """Killed, the leader does not give its lease back: it runs out."""
    lease = f"lease/{OPERATOR.partition('/')[2]}"
    leader = fleet.system.get(lease)["spec"]["holderIdentity"]
    fleet.system("delete", "pod", leader, "--force", "--grace-period=0")
    began = time.monotonic()
    fleet.system.until("taken over", lambda one: one["spec"]["holderIdentity"] not in ("", leader), 15, lease)
    fleet.kubectl("scale", f"mediapool/{POOL}", "--replicas=3")
    fleet.until(POOL, "ordered", lambda status: (status.get("desiredReplicas") or 0) == 3, 15)
    took = time.monotonic() - began
    fleet.kubectl("scale", f"mediapool/{POOL}", "--replicas=2")
    replicas(fleet, 2)
    fleet.system("rollout", "status", OPERATOR, "--timeout=60s")
    assert took < 12, f"{took:.1f} s until somebody acted"


def test_a_roll_that_is_overtaken_by_another_ends_in_the_last(fleet: Fleet, outside: Outside) -> None:
    """Two old revisions at once: pods of the first and of the second make way for the third."""

    async def deed(calls: CallGenerator) -> None:
        calls.mark("roll", NEXT)
        await act(roll, fleet, NEXT)
        for name in (POOL, CLUSTER):
            await act(fleet.until, name, "half rolled", lambda status: "->" in (status.get("version") or ""), 120)
        calls.mark("overtaken")
        for what in (f"mediapool/{POOL}", f"sipcluster/{CLUSTER}"):
            await act(fleet.kubectl.patch, what, {"spec": {"version": "0.1.0", "capacity": 120}})
        for name in (POOL, CLUSTER):
            await act(fleet.until, name, "back", lambda status: status.get("version") == "0.1.0", 400)
        await act(fleet.until_settled, 400)
        for name in (POOL, CLUSTER):
            pods = (await act(fleet.status, name))["pods"]
            assert {(pod["version"], pod["capacity"]) for pod in pods} == {("0.1.0", 120)}, pods
        calls.mark("settled")

    passed(outside.play("roll_overtaken", deed, events=("roll", "overtaken"), duration=(20.0, 30.0)))
