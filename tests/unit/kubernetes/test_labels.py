"""The labels that say what others may do with a pod: name it in DNS, send it packets, evict it."""

from __future__ import annotations

from dataclasses import replace

from sipfleet.kubernetes import names
from sipfleet.kubernetes.execute import wanted_labels
from sipfleet.plan.types import LeaseState, Phase, SlotObservation
from tests.unit.plan.scenes import leaving, pod

LISTED, TRAFFIC, PROTECTED = names.LISTED, names.TRAFFIC, names.PROTECTED


def labels(slot: SlotObservation, *, leaving: bool = False, opened: bool = False) -> dict[str, str | None]:
    return wanted_labels(slot, leaving=leaving, opened=opened)


def test_a_pod_that_serves_is_listed_reached_and_protected() -> None:
    assert labels(pod(0, active=3)) == {LISTED: "true", TRAFFIC: "on", PROTECTED: "true"}
    assert labels(pod(0)) == {LISTED: "true", TRAFFIC: "on", PROTECTED: "true"}, "also without a call: one may come"


def test_a_pod_leaves_dns_when_it_is_told_to_go_before_its_lease_says_so() -> None:
    assert labels(pod(0, active=3), leaving=True) == {LISTED: None, TRAFFIC: "on", PROTECTED: "true"}


def test_a_draining_pod_with_calls_still_gets_packets_and_is_not_evicted() -> None:
    assert labels(leaving(0, active=1)) == {LISTED: None, TRAFFIC: "on", PROTECTED: "true"}


def test_a_drained_pod_may_be_evicted_and_still_gets_packets() -> None:
    assert labels(leaving(0)) == {LISTED: None, TRAFFIC: "on", PROTECTED: None}


def test_an_uncordoned_pod_is_listed_and_protected_at_once() -> None:
    assert labels(leaving(0), opened=True) == {LISTED: "true", TRAFFIC: "on", PROTECTED: "true"}


def test_only_a_pod_that_has_no_lease_and_does_not_answer_gets_no_packets() -> None:
    lost = pod(0, lease=LeaseState.LOST, active=3)
    assert labels(lost)[TRAFFIC] == "on", "its store may be what is away"
    assert labels(replace(lost, serving=False)) == {LISTED: None, TRAFFIC: None, PROTECTED: "true"}
    assert labels(pod(0, lease=LeaseState.UNKNOWN, serving=False))[TRAFFIC] == "on"


def test_a_pod_that_does_not_come_up_protects_nothing() -> None:
    assert labels(pod(0, phase=Phase.FAILED, lease=LeaseState.NONE, serving=False))[PROTECTED] is None
