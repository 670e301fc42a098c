"""What is deleted drains first, and what is uninstalled leaves nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from e2e.harness.calls import Outside, act, passed
from e2e.harness.fleet import CLUSTER, OPERATOR, OPERATOR_NAMESPACE, OPERATORS, Fleet
from e2e.harness.kubectl import Kubectl
from e2e.tests.conftest import INSTALLED
from e2e.tests.test_faults import FEW, lives
from sipfleet.calls import CallGenerator
from sipfleet.kubernetes.names import FINALIZER

WHAT = f"sipcluster/{CLUSTER}"


def there(kubectl: Kubectl, what: str) -> bool:
    status, text = kubectl.attempt("get", what, "--ignore-not-found", "-o", "name")
    return status != 0 or bool(text.strip())


async def until_gone(kubectl: Kubectl, what: str, seconds: float) -> None:
    for _ in range(int(seconds)):
        if not await act(there, kubectl, what):
            return
        await asyncio.sleep(1)
    raise AssertionError(f"{what} is still there after {seconds:g} s: {kubectl('get', what, '-o', 'yaml')}")


@pytest.mark.smoke
def test_a_deleted_cluster_drains_first(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        before = await act(lives, fleet, CLUSTER)
        calls.mark("delete")
        await act(fleet.kubectl, "delete", WHAT, "--wait=false")
        await asyncio.sleep(10)  # time enough to end pods wrongly; the calls of FEW last longer
        calls.mark("ten seconds later")
        left = await act(lives, fleet, CLUSTER)
        assert left, "no proxy was left to the calls"
        assert left.items() <= before.items(), f"proxies were started anew: {before}, now {left}"
        await until_gone(fleet.kubectl, WHAT, 90)
        calls.mark("gone")
        assert calls.status.established == 0, f"{calls.status.established} calls were still up"
        await until_gone(fleet.kubectl, f"statefulset/{CLUSTER}", 30)

    passed(outside.play("delete_cluster", deed, events=("delete", "ten seconds later"), **FEW))


def test_a_deletion_waits_for_the_operator_and_loses_nothing(fleet: Fleet, outside: Outside) -> None:
    async def deed(calls: CallGenerator) -> None:
        before = await act(lives, fleet, CLUSTER)
        await act(fleet.system, "scale", OPERATOR, "--replicas=0")
        await act(fleet.system, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=sipfleet-operator")
        calls.mark("delete")
        await act(fleet.kubectl, "delete", WHAT, "--wait=false")
        await asyncio.sleep(8)  # the garbage collector, if it were to take them, would have
        calls.mark("operator back")
        waiting = (await act(fleet.kubectl.get, WHAT))["metadata"]
        assert waiting["deletionTimestamp"]
        assert FINALIZER in waiting["finalizers"]
        assert await act(lives, fleet, CLUSTER) == before, "pods went without the operator"
        await act(fleet.system, "scale", OPERATOR, f"--replicas={OPERATORS}")
        await until_gone(fleet.kubectl, WHAT, 120)
        calls.mark("gone")
        assert calls.status.established == 0, f"{calls.status.established} calls were still up"

    try:
        passed(outside.play("delete_without_operator", deed, events=("delete", "operator back"), **FEW))
    finally:
        fleet.system("scale", OPERATOR, f"--replicas={OPERATORS}")
        fleet.system("rollout", "status", OPERATOR, "--timeout=60s")


PASSING = ("events", "events.events.k8s.io", "componentstatuses")
"""Kinds whose objects go by themselves, or are none."""


def ours(kubectl: Kubectl) -> list[str]:
    """Every object of the cluster whose name, labels or owners speak of sipfleet, whatever its kind."""
    kinds = [kind for kind in kubectl("api-resources", "--verbs=list", "-o", "name").split() if kind not in PASSING]
    text = kubectl("get", ",".join(kinds), "--all-namespaces", "-o", "json", "--ignore-not-found")
    found = []
    for one in json.loads(text)["items"] if text.strip() else []:
        metadata: dict[str, Any] = one["metadata"]
        told = {key: metadata.get(key) for key in ("name", "labels", "annotations", "finalizers", "ownerReferences")}
        # The test cluster's own name service is made by sipfleet's tests, not by sipfleet.
        by_tests = metadata.get("namespace") == "kube-system"
        if "sipfleet" in json.dumps(told) and one["kind"] != "Namespace" and not by_tests:
            found.append(f"{one['kind']} {metadata.get('namespace', '')}/{metadata['name']}")
    return found


@pytest.mark.smoke
def test_helm_uninstall_leaves_nothing(fleet: Fleet, kubectl: Kubectl) -> None:
    if INSTALLED:
        pytest.skip("SIPFLEET_E2E_INSTALLED: sipfleet is to stay")
    before = ours(kubectl)
    for kind in ("SipCluster", "StatefulSet", "PersistentVolumeClaim", "CustomResourceDefinition", "PriorityClass"):
        assert any(one.startswith(f"{kind} ") for one in before), f"no {kind} is found while it is there: {before}"
    # As docs/install.md says.
    kubectl.run([kubectl.program, "delete", "sipclusters,mediapools", "--all", "--all-namespaces"], timeout=180)
    for release in ("sipfleet", "sipfleet-crds"):
        kubectl.run([fleet.helm, "uninstall", release, "--namespace", OPERATOR_NAMESPACE, "--wait"])
    left = ours(kubectl)
    for _ in range(60):  # the garbage collector comes after the owners have gone
        if not left:
            break
        kubectl.attempt("wait", "--for=delete", "pods", "--all", "--timeout=1s")
        left = ours(kubectl)
    assert not left
    kubectl("delete", "namespace", OPERATOR_NAMESPACE, kubectl.namespace, timeout=120)
