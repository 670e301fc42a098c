"""Calls are kept when what carries the cluster is disturbed: conntrack, kube-proxy, API server, operator, store."""

from __future__ import annotations

import asyncio
import time

import pytest

from e2e.cluster.cluster import Cluster
from e2e.harness.calls import AFTERMATH, Outside, act, passed
from e2e.harness.fleet import OPERATOR, OPERATORS, POOL, Fleet
from e2e.harness.kubectl import Object
from e2e.tests.conftest import NEXT
from e2e.tests.test_calls_roll import roll, rolled
from e2e.tests.test_calls_scale import replicas
from sipfleet.calls import CallGenerator

NOTICED = 12.0
"""Seconds from a flush until the operator knows that its watches are dead: 11 (client.KEEPALIVE) and a little. What
happens later is told by the next watch; what happens at once is found by the list before it, which proves less."""
AWAY = 300.0
"""Seconds without an operator: the pods do not depend on it."""


def master(fleet: Fleet) -> str:
    """The store pod that is the Redis master."""
    for number in range(3):
        pod = f"sipfleet-store-{number}"
        script = 'redis-cli --no-auth-warning -a "$STORE_PASSWORD" role | head -n 1'
        status, text = fleet.kubectl.attempt("exec", pod, "-c", "redis", "--", "sh", "-c", script, timeout=20)
        if status == 0 and text.strip() == "master":
            return pod
    raise AssertionError("no store pod is master")


@pytest.mark.smoke
def test_conntrack_is_flushed_on_all_nodes(fleet: Fleet, outside: Outside, cluster: Cluster) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("flush")
        await act(cluster.flush_connections)
        await asyncio.sleep(AFTERMATH)

    passed(outside.play("conntrack_flush", deed, events=("flush",)))


@pytest.mark.smoke
def test_the_operator_hears_of_its_pods_after_a_flush(fleet: Fleet, cluster: Cluster) -> None:
    """A watch only reads: without keepalives it would be deaf until the API server ends it, five minutes later."""
    cluster.flush_connections()
    time.sleep(NOTICED)
    victim = fleet.busiest(POOL)
    killed = fleet.kubectl.get(f"pod/{victim}")["metadata"]["uid"]
    fleet.kubectl("delete", "pod", victim, "--grace-period=0", "--force")

    def seen(status: Object) -> bool:
        found = [pod for pod in status["pods"] if pod["name"] == victim]
        return bool(found and found[0]["uid"] != killed and found[0]["phase"] == "Serving")

    fleet.until(POOL, "another pod seen by the operator", seen, 40)


def test_a_manifest_edited_after_a_flush_is_acted_on(fleet: Fleet, cluster: Cluster) -> None:
    """Kopf's own connections notice too: by themselves they would after 70 s."""
    cluster.flush_connections()
    time.sleep(NOTICED)
    fleet.kubectl("scale", f"mediapool/{POOL}", "--replicas=3")
    fleet.until(POOL, "ordered", lambda status: (status.get("desiredReplicas") or 0) == 3, 15)
    fleet.kubectl("scale", f"mediapool/{POOL}", "--replicas=2")
    replicas(fleet, 2)


def test_kube_proxy_restarts(fleet: Fleet, outside: Outside, cluster: Cluster) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("restart")
        for node in cluster.nodes:
            await act(cluster.restart_kube_proxy, node)
        await asyncio.sleep(AFTERMATH)

    passed(outside.play("kube_proxy_restart", deed, events=("restart",)))


def test_the_api_server_restarts(fleet: Fleet, outside: Outside, cluster: Cluster) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("restart")
        await act(cluster.restart_api_server)
        await asyncio.sleep(AFTERMATH / 2)  # watches end and begin again; the status read now may be from before
        await act(fleet.until_settled)

    passed(outside.play("api_server_restart", deed, events=("restart",)))


def test_the_operator_is_away_for_five_minutes_in_a_rollout(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        calls.mark("roll", NEXT)
        await act(roll, fleet, NEXT)
        await asyncio.sleep(8)  # the surge pod is there and slots are being drained: the middle of the roll
        await act(fleet.system, "scale", OPERATOR, "--replicas=0")
        calls.mark("operator gone")
        await asyncio.sleep(AWAY)
        await act(fleet.system, "scale", OPERATOR, f"--replicas={OPERATORS}")
        calls.mark("operator back")
        await act(rolled, fleet, NEXT)

    passed(outside.play("operator_away", deed, events=("operator gone",)))


@pytest.mark.smoke
def test_the_redis_master_is_killed(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        victim = await act(master, fleet)
        calls.mark("kill", victim)
        await act(fleet.kubectl, "delete", "pod", victim, "--grace-period=0", "--force")
        await asyncio.sleep(AFTERMATH)
        await act(fleet.until_settled)

    passed(outside.play("redis_master", deed, events=("kill",)))
