"""What `kubectl sipfleet status` says of a manifest and its status."""

from __future__ import annotations

from typing import Any

import pytest

from sipfleet.api.status import ConditionStatus, MediaPoolStatus, PodStatus, SipClusterStatus
from sipfleet.plan import Probe, plan
from sipfleet.plugin.drain import progress as drain_progress
from sipfleet.plugin.findings import EXPECTED, findings, leaving, progress, summary
from tests.unit.plan.scenes import NOW, look, pod, wish

STAMP = "2026-05-01T10:00:00Z"


def resource(kind: str = "SipCluster", generation: int = 1, status: Any = None, **spec: Any) -> dict[str, Any]:
    model = SipClusterStatus if kind == "SipCluster" else MediaPoolStatus
    wire = model(**status).model_dump(mode="json", exclude_none=True) if status is not None else None
    metadata = {"name": "demo", "namespace": "voip", "generation": generation, "creationTimestamp": STAMP}
    return {"kind": kind, "metadata": metadata, "spec": spec, **({"status": wire} if wire else {})}


def told(**statuses: str) -> dict[str, Any]:
    """A status with the conditions as they should be, but for the given ones: `Ready="False PodsMissing"`."""
    every = {**EXPECTED, "Progressing": "False", **statuses}
    return {
        "observed_generation": 1,
        "conditions": [
            ConditionStatus(
                type=kind,
                status=text.split()[0],  # type: ignore[arg-type]
                reason=[*text.split(), "AsExpected"][1],
                message=f"about {kind}",
                last_transition_time=STAMP,
            )
            for kind, text in every.items()
        ],
    }


def what(found: dict[str, Any]) -> list[str]:
    return [one.what for one in findings(found)]


def test_what_is_as_it_should_be_is_not_told() -> None:
    assert what(resource(status=told())) == []


def test_what_was_not_looked_at_yet_is_not_told() -> None:
    assert what(resource(status=told(EgressAddress="Unknown NotProbed", CallsKept="Unknown NotProbed"))) == []


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_condition_that_is_not_good_is_told_with_what_to_do(kind: str) -> None:
    bad = "False" if EXPECTED[kind] == "True" else "True"
    [one] = findings(resource(status=told(**{kind: f"{bad} SomeReason"})))
    assert (one.what, one.reason, one.message, one.since) == (f"{kind}={bad}", "SomeReason", f"about {kind}", STAMP)
    assert one.next or kind == "Ready"


@pytest.mark.parametrize(
    ("condition", "text", "words"),
    [
        ("Ready", "False AddressPending", "spec.exposure.type"),
        (
            "Ready",
            "False PodsMissing",
            "kubectl -n voip describe pods -l sipfleet.io/kind=SipCluster,sipfleet.io/set=demo",
        ),
        ("Degraded", "True RolloutFailed", "involvedObject.name=demo"),
        ("Degraded", "True LeaseLost", "kubectl -n voip get pods"),
        ("Degraded", "True PodsFailed", "describe pods"),
        ("DrainBlocked", "True DrainTimeout", "drainTimeoutAction"),
        ("StoreAvailable", "False Unreachable", "app.kubernetes.io/name=sipfleet-store"),
    ],
)
def test_what_to_do_follows_the_reason(condition: str, text: str, words: str) -> None:
    [one] = findings(resource(status=told(**{condition: text})))
    assert words in one.next


def test_a_store_of_ones_own_is_named() -> None:
    bad = resource(status=told(StoreAvailable="False Unreachable"), store={"url": "redis://192.0.2.1:6379/0"})
    assert "redis://192.0.2.1:6379/0" in findings(bad)[0].next


def test_a_consequence_is_not_told_beside_its_cause() -> None:
    refused = told(Accepted="False InvalidSpec", Ready="False InvalidSpec")
    assert what(resource(status=refused)) == ["Accepted=False"]
    lost = told(EgressAddress="False Differs", CallsKept="False EgressAddressDiffers")
    assert what(resource(status=lost)) == ["EgressAddress=False"]


def test_a_status_that_no_operator_wrote_for_this_generation_is_told() -> None:
    assert what(resource()) == ["no status"]
    [one] = findings(resource(generation=3, status=told()))
    assert one.message == "the operator has seen generation 1 of 3"


def test_a_deletion_is_told() -> None:
    going = resource(status=told())
    going["metadata"]["deletionTimestamp"] = STAMP
    assert what(going) == ["being deleted"]


def test_what_is_under_way_stands_apart_from_what_is_wrong() -> None:
    busy = resource(status=told(Progressing="True RollingOut"))
    assert what(busy) == []
    assert progress(busy) == "RollingOut: about Progressing"


def pods(*phases: tuple[str, str | None]) -> list[PodStatus]:
    return [
        PodStatus(name=f"demo-{n}", ordinal=n, uid=f"u{n}", phase=phase, revision="r", active=n, draining_since=since)
        for n, (phase, since) in enumerate(phases)
    ]


def test_pods_that_take_no_calls_any_more_are_listed() -> None:
    found = resource(status={**told(), "pods": pods(("Serving", None), ("Draining", STAMP), ("Starting", None))})
    assert [(pod["name"], pod["active"], pod["drainingSince"]) for pod in leaving(found)] == [("demo-1", 1, STAMP)]


@pytest.mark.parametrize(("kind", "field"), [("SipCluster", "active_dialogs"), ("MediaPool", "active_sessions")])
def test_a_summary_counts_the_calls_of_both_kinds(kind: str, field: str) -> None:
    status = {**told(), field: 7, "ready_replicas": 1, "desired_replicas": 2, "address": "192.0.2.1"}
    row = summary(resource(kind, status=status))
    assert (row["calls"], row["ready"], row["wanted"], row["address"]) == (7, 1, 2, "192.0.2.1")


def test_every_condition_of_the_planner_is_known_here() -> None:
    measured = Probe("MetricsAvailable", "True", "Measured")
    made = plan(wish(), look(pod(0), pod(1), probes=(measured,)), NOW).status.conditions
    assert {one.type for one in made} == {*EXPECTED, "Progressing"}


def test_the_progress_of_a_drain() -> None:
    found = resource(status={**told(), "pods": pods(("Serving", None), ("Draining", STAMP))})
    assert drain_progress(found, "demo-1", "u1") == "Draining, 1 call left"
    assert drain_progress(found, "demo-0", "u0") == "waits for its turn, Serving, 0 calls left"
    assert drain_progress(found, "demo-1", "another") == "not in the status"
    assert drain_progress(None, "demo-1", "u1") == "not in the status"
    blocked = resource(status={**told(DrainBlocked="True DrainTimeout"), "pods": pods(("Draining", STAMP))})
    assert drain_progress(blocked, "demo-0", "u0") == "Draining, 0 calls left; about DrainBlocked"
