"""Conditions and the one word for a pod."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipfleet.plan import Kind, LeaseState, Observed, Phase, Probe, SlotObservation, plan, pod_phase
from tests.unit.plan.scenes import NOW, STANDING, condition, decide, leaving, look, pod, unborn, wish

TYPES = [
    "Accepted",
    "Ready",
    "Progressing",
    "Degraded",
    "StoreAvailable",
    "EgressAddress",
    "SourceAddressPreserved",
    "SurgeBlocked",
    "DrainBlocked",
    "CallsKept",
]


def judged(kind: str, observed: Observed, **changes: object) -> tuple[str, str, str]:
    return condition(plan(wish(**changes), observed, NOW), kind)


def test_all_conditions_are_there_from_the_first_look_on() -> None:
    assert [c.type for c in plan(wish(), Observed(), NOW).status.conditions] == TYPES


def test_what_nothing_probes_is_unknown_not_true() -> None:
    observed = replace(look(pod(0), pod(1)), store_available=None)
    for kind in ("StoreAvailable", "EgressAddress", "SourceAddressPreserved", "CallsKept"):
        assert judged(kind, observed) == ("Unknown", "NotProbed", "")


def test_a_set_that_is_measured_says_whether_measurements_come() -> None:
    probe = Probe("MetricsAvailable", "False", "PrometheusUnavailable", "http://192.0.2.9: no answer")
    assert judged("MetricsAvailable", look(pod(0), probes=(probe,))) == (probe.status, probe.reason, probe.message)


def test_a_settled_set_is_ready_and_quiet() -> None:
    observed = look(pod(0), pod(1))
    statuses = {kind: judged(kind, observed)[0] for kind in TYPES}
    assert (statuses["Accepted"], statuses["Ready"], statuses["StoreAvailable"]) == ("True", "True", "True")
    for kind in ("Progressing", "Degraded", "SurgeBlocked", "DrainBlocked"):
        assert statuses[kind] == "False"


def test_the_time_of_a_condition_changes_with_its_status_alone() -> None:
    first = decide(wish(), pod(0), unborn(1))
    later = decide(wish(), pod(0), pod(1, serving=False), status=first.status, now=NOW + 50)
    ready = {c.type: c for c in later.status.conditions}["Ready"]
    assert (ready.status, ready.since, ready.message) == (
        "False",
        int(NOW),
        "1 of 2 pods take calls: set-1 (Starting)",
    )
    done = decide(wish(generation=4), pod(0), pod(1), status=later.status, now=NOW + 60)
    ready = {c.type: c for c in done.status.conditions}["Ready"]
    assert (ready.status, ready.since, ready.observed_generation) == ("True", int(NOW) + 60, 4)


@pytest.mark.parametrize(
    ("slots", "changes", "said"),
    [
        ((pod(0), unborn(1)), {}, ("True", "Starting", "set-1 (Pending)")),
        ((pod(0),), {}, ("True", "Scaling", "")),
        ((pod(0), leaving(1, active=2)), {"replicas": 1}, ("True", "Draining", "set-1 (Draining)")),
        (
            (pod(0), pod(1), pod(2, revision="new")),
            {"revision": "new"},
            ("True", "RollingOut", "1 of 3 pods have the new revision"),
        ),
        ((pod(0), pod(1)), {}, ("False", "Settled", "")),
    ],
    ids=["starting", "scaling", "draining", "rolling", "settled"],
)
def test_progressing_says_what_is_going_on(
    slots: tuple[SlotObservation, ...], changes: dict[str, object], said: tuple[str, str, str]
) -> None:
    assert judged("Progressing", look(*slots), **changes) == said


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        (pod(1, phase=Phase.FAILED, serving=False, message="exit 2"), ("True", "PodsFailed", "set-1 (exit 2)")),
        (pod(1, phase=Phase.DEAD, serving=False), ("True", "PodsFailed", "set-1 (Dead)")),
        (pod(1, lease=LeaseState.LOST), ("True", "LeaseLost", "set-1 (Lost)")),
    ],
)
def test_degraded_names_the_pods(slot: SlotObservation, said: tuple[str, str, str]) -> None:
    assert judged("Degraded", look(pod(0), slot)) == said


def test_many_pods_are_counted_not_listed() -> None:
    slots = [pod(o, serving=False, phase=Phase.FAILED) for o in range(20)]
    _, _, message = judged("Degraded", look(*slots, status=replace(STANDING, replicas=20)), replicas=20)
    assert message.endswith("set-4 (Failed) and 15 more")


def test_a_store_that_is_away_is_said_with_what_it_means() -> None:
    status, reason, message = judged("StoreAvailable", replace(look(pod(0), pod(1)), store_available=False))
    assert (status, reason) == ("False", "Unreachable")
    assert "calls go on" in message


def test_a_set_becomes_ready_with_its_store_and_stays_ready_without() -> None:
    away = replace(look(pod(0), pod(1)), store_available=False)
    status, reason, message = judged("Ready", away)
    assert (status, reason) == ("False", "StorePending")
    assert "store" in message
    ready = plan(wish(), look(pod(0), pod(1)), NOW).status
    assert judged("Ready", replace(away, status=ready))[:2] == ("True", "PodsServe")


@pytest.mark.parametrize(
    ("egress", "source", "kept"),
    [
        ("True", "True", ("True", "AddressesPreserved")),
        ("False", "True", ("False", "EgressAddressWrong")),
        ("True", "False", ("False", "SourceAddressPreservedWrong")),
        ("Unknown", "False", ("False", "SourceAddressPreservedWrong")),
        ("True", "Unknown", ("Unknown", "NotProbed")),
    ],
)
def test_calls_are_kept_only_with_both_addresses_intact(egress: str, source: str, kept: tuple[str, str]) -> None:
    probes = (Probe("EgressAddress", egress, "Wrong"), Probe("SourceAddressPreserved", source, "Wrong"))
    observed = look(pod(0), pod(1), probes=probes)
    assert judged("CallsKept", observed)[:2] == kept
    assert judged("EgressAddress", observed) == (egress, "Wrong", "")


def test_a_manifest_that_cannot_be_followed_is_not_accepted() -> None:
    changes = {"accepted": False, "accepted_reason": "Refused", "accepted_message": "spec.x"}
    assert judged("Accepted", look(pod(0), pod(1)), **changes) == ("False", "Refused", "spec.x")


@pytest.mark.parametrize(
    ("slot", "word"),
    [
        (unborn(0), "Pending"),
        (unborn(0, phase=Phase.UNSCHEDULABLE), "Unschedulable"),
        (pod(0, serving=False), "Starting"),
        (pod(0), "Serving"),
        (pod(0, lease=LeaseState.UNKNOWN), "Serving"),
        (pod(0, cordoned=True), "Cordoned"),
        (leaving(0, active=1), "Draining"),
        (leaving(0), "Empty"),
        (pod(0, lease=LeaseState.LOST), "Lost"),
        (pod(0, phase=Phase.FAILED), "Failed"),
        (pod(0, phase=Phase.TERMINATING), "Terminating"),
        (pod(0, phase=Phase.DEAD), "Dead"),
    ],
)
def test_a_pod_has_one_word(slot: SlotObservation, word: str) -> None:
    assert pod_phase(slot) == word


def test_both_kinds_have_the_same_conditions() -> None:
    assert [c.type for c in plan(wish(Kind.PROXY), look(pod(0)), NOW).status.conditions] == TYPES
