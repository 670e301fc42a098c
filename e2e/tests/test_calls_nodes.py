"""Calls are kept when a node is drained, and when one dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from e2e.cluster.cluster import Cluster
from e2e.cluster.layout import Node
from e2e.harness.calls import LEAST, LOST_NODE_MS, Outside, act, passed
from e2e.harness.fleet import POOL, Fleet
from sipfleet.calls import CallGenerator

OUTLASTING: dict[str, Any] = {"duration": (40.0, 60.0), "trickle": 1.0, "ceiling": 90}
"""Calls none of which ends within the silence that a dead node is allowed: nothing would tell it from a call that lost
its audio. The node dies when a status knows of the calls, 10 to 13 s after the first one where it was watched. New
ones arrive meanwhile, once a second."""


def node_of(fleet: Fleet, pod: str) -> str:
    return str(fleet.kubectl.get(f"pod/{pod}")["spec"]["nodeName"])


@pytest.mark.smoke
def test_kubectl_drain_of_a_node(fleet: Fleet, outside: Outside) -> None:
    drained: list[str] = []

    async def deed(calls: CallGenerator) -> None:
        node = await act(lambda: node_of(fleet, fleet.busiest(POOL, LEAST)))
        drained.append(node)
        calls.mark("drain", node)
        words = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        await act(lambda: fleet.kubectl("drain", node, *words, timeout=320))
        calls.mark("drained", node)
        await act(fleet.until_settled)

    try:
        passed(outside.play("drain_node", deed, events=("drain",)))
    finally:
        for node in drained:
            fleet.kubectl("uncordon", node)


def test_a_node_dies(fleet: Fleet, outside: Outside, cluster: Cluster) -> None:
    stopped: list[Node] = []

    async def deed(calls: CallGenerator) -> None:
        node = await act(lambda: cluster.node(node_of(fleet, fleet.busiest(POOL, LEAST))))
        stopped.append(node)
        calls.mark("node dies", node.name)
        await act(cluster.stop_kubelet, node)
        await act(cluster.kill_pods, node)
        await asyncio.sleep(LOST_NODE_MS / 1000 + 5)  # what has not recovered by its limit shows in the gaps
        await act(fleet.until_settled)
        calls.mark("healed", node.name)

    try:
        passed(outside.play("node_dies", deed, limit_ms=LOST_NODE_MS, events=("node dies",), **OUTLASTING))
    finally:
        for node in stopped:
            cluster.continue_kubelet(node)
