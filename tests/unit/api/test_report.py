"""Status of a resource: written from the planner's, read back into it."""

from __future__ import annotations

from sipfleet.api import MediaPoolStatus, SipClusterStatus, desired, remembered, report, validated
from sipfleet.plan import (
    Condition,
    DrainStart,
    LeaseState,
    Observed,
    Phase,
    Recommendation,
    SetStatus,
    SlotObservation,
    SrvRecord,
)
from tests.unit.api.manifests import CLUSTER, POOL

FULL = SetStatus(
    replicas=3,
    recommended=2,
    recommendations=(Recommendation(1_700_000_000.25, 3),),
    last_scale_time=1_700_000_001.5,
    last_scale_up_time=1_700_000_002.5,
    revision="aaaa",
    rolling="bbbb",
    partition=2,
    surge=1,
    roll_start=1_700_000_003.125,
    failed="cccc",
    failed_message="demo-3: does not come up",
    drains=(DrainStart(2, "u2", 1_700_000_004.5),),
    conditions=(Condition("Ready", "True", "PodsServe", "3 wanted", 1_700_000_000, 4),),
    srv_records=(SrvRecord("_sip._udp.example.test.", "demo.example.test.", 5060, "127.20.0.1"),),
    observed_generation=4,
)


def pod(ordinal: int, active: int | None, **changes: object) -> SlotObservation:
    values: dict[str, object] = {
        "uid": f"u{ordinal}",
        "revision": "aaaa",
        "version": "0.1.0",
        "ready": True,
        "serving": True,
        "lease": LeaseState.ALIVE,
        "active": active,
        "capacity": 10,
        "address": f"127.101.0.{ordinal}",
    }
    return SlotObservation(ordinal, **(values | changes))  # type: ignore[arg-type]


OBSERVED = Observed(
    slots=(
        pod(0, 4),
        pod(1, 1),
        pod(2, 2, cordoned=True, draining=True),
        pod(3, 0, revision="bbbb", version="0.2.0"),
        pod(
            4,
            None,
            revision="bbbb",
            version=None,
            phase=Phase.PENDING,
            lease=LeaseState.NONE,
            message="image is fetched",
        ),
    ),
    address="127.20.0.1",
)


def test_all_that_the_planner_remembers_survives_the_status_of_the_resource() -> None:
    cluster = desired(validated(CLUSTER))
    status = report(cluster, OBSERVED, FULL)
    wire = status.model_dump(mode="json", exclude_none=True)
    assert remembered(SipClusterStatus.model_validate(wire)) == FULL
    assert remembered(SipClusterStatus()) == SetStatus()


def test_a_pool_remembers_everything_but_srv_records() -> None:
    status = report(desired(validated(POOL)), OBSERVED, FULL)
    assert isinstance(status, MediaPoolStatus)
    assert status.active_sessions == 7
    assert remembered(MediaPoolStatus.model_validate(status.model_dump(mode="json"))).drains == FULL.drains


def test_the_status_answers_the_first_questions() -> None:
    status = report(desired(validated(CLUSTER)), OBSERVED, FULL, selector="sipfleet.io/set=demo")
    assert isinstance(status, SipClusterStatus)
    assert (status.replicas, status.desired_replicas, status.ready_replicas) == (5, 3, 3)
    assert (status.active_dialogs, status.free_capacity) == (7, 6 + 9 + 10)
    assert (status.version, status.address) == ("0.1.0 -> 0.2.0", "127.20.0.1")
    assert (status.observed_generation, status.selector) == (4, "sipfleet.io/set=demo")
    assert [p.phase for p in status.pods] == ["Serving", "Serving", "Draining", "Serving", "Pending"]
    assert status.pods[2].draining_since == "2023-11-14T22:13:24Z"
    assert status.pods[4].message == "image is fetched"
    assert [record.name for record in status.srv_records] == ["_sip._udp.example.test."]
    assert status.conditions[0].last_transition_time == "2023-11-14T22:13:20Z"


def test_what_nobody_knows_is_left_out_not_zero() -> None:
    away = Observed(slots=(pod(0, None, lease=LeaseState.UNKNOWN),))
    status = report(desired(validated(CLUSTER)), away, SetStatus())
    assert isinstance(status, SipClusterStatus)
    assert (status.active_dialogs, status.free_capacity) == (None, None)
    nothing = report(desired(validated(CLUSTER)), Observed(), SetStatus())
    assert isinstance(nothing, SipClusterStatus)
    assert (nothing.active_dialogs, nothing.free_capacity, nothing.version) == (0, 0, None)
