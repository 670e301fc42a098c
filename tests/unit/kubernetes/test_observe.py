"""What a cluster shows, as the planner is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipfleet.kubernetes import names
from sipfleet.kubernetes.observe import (
    PodMemory,
    by_ordinal,
    lease_of,
    lease_state,
    must_leave,
    never_started,
    node_ready,
    observation,
    ordinal_of,
    phase_of,
    slim_node,
    slim_pod,
    slim_slice,
    unborn,
    unix,
)
from sipfleet.plan.slots import serves
from sipfleet.plan.types import LeaseState, Phase, SlotObservation

from .scenes import NOW, lease, node, pod, view_of


def seen(
    found: dict[str, object] | None = None,
    memory: PodMemory | None = None,
    state: LeaseState = LeaseState.ALIVE,
    *,
    relay: bool = True,
    now: float = NOW,
    available: bool = True,
) -> SlotObservation:
    memory = memory or PodMemory("uid-media-0", serving=True, lease=lease())
    return observation(found or pod(), node(), memory, state, relay, now, False, available=available)


# -- what is kept


def test_the_annotation_that_asks_for_an_eviction_is_kept_of_a_pod_and_no_other() -> None:
    found = pod()
    found["metadata"]["annotations"] = {names.EVICT: "true", "kubectl.kubernetes.io/restartedAt": "now"}
    found["metadata"]["managedFields"] = [{}]
    kept = slim_pod(found)
    assert kept["metadata"]["annotations"] == {names.EVICT: "true"}
    assert "managedFields" not in kept["metadata"]


def test_an_observation_of_what_is_kept_is_that_of_the_whole_pod() -> None:
    memory = PodMemory("uid-media-0", serving=True, lease=lease())
    assert seen(slim_pod(pod()), replace(memory)) == seen(pod(), replace(memory))


def test_dns_names_the_endpoints_of_a_slice_that_do_not_say_that_they_are_not_ready() -> None:
    def endpoint(pod: str, **conditions: bool) -> dict[str, object]:
        return {"targetRef": {"kind": "Pod", "name": pod}, "conditions": conditions, "addresses": ["10.0.0.7"]}

    ready = [endpoint("demo-1", ready=True), endpoint("demo-0"), endpoint("demo-2", ready=False)]
    head = {"name": "demo-x7", "namespace": "voice", "labels": {names.SET: "demo"}, "resourceVersion": "7"}
    kept = slim_slice({"metadata": {**head, "managedFields": [{}]}, "endpoints": [*ready, {"addresses": ["10.0.0.8"]}]})
    assert kept == {"metadata": head, "pods": ["demo-0", "demo-1"]}
    assert slim_slice({"metadata": head, "endpoints": None})["pods"] == []


def test_a_nodes_heartbeat_changes_nothing_of_what_is_kept() -> None:
    def reported(at: str) -> dict[str, object]:
        return {
            "metadata": {"name": "a"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": at}]},
        }

    assert slim_node(reported("09:00")) == slim_node(reported("09:05"))


# -- nodes


def test_a_cordoned_node_and_one_with_a_foreign_taint_are_to_be_left() -> None:
    assert must_leave(node(unschedulable=True))
    assert must_leave(node(taints=[{"key": "maintenance", "effect": "NoExecute"}]))
    assert must_leave(node(taints=[{"key": "maintenance", "effect": "NoSchedule"}]))


@pytest.mark.parametrize(
    "taint",
    [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
        {"key": "maintenance", "effect": "PreferNoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
    ],
)
def test_a_node_that_only_does_not_answer_or_would_rather_have_no_pods_is_not_left(taint: dict[str, str]) -> None:
    assert not must_leave(node(taints=[taint]))


def test_a_tolerated_taint_is_no_reason_to_leave() -> None:
    tainted = node(taints=[{"key": "voip", "effect": "NoSchedule"}])
    assert must_leave(tainted)
    assert not must_leave(tainted, frozenset({"voip"}))


def test_a_node_that_is_gone_neither_has_to_be_left_nor_is_ready() -> None:
    assert not must_leave(None)
    assert not node_ready(None)
    assert node_ready(node())
    assert not node_ready(node("Unknown"))


# -- phases


def test_a_pod_that_runs_on_a_node_that_stands_is_running() -> None:
    assert phase_of(pod(), node()) == (Phase.RUNNING, "")


def test_a_pod_whose_node_is_gone_is_dead_and_says_which() -> None:
    assert phase_of(pod(), None) == (Phase.DEAD, "its node a is gone")


def test_a_pod_that_is_told_to_end_is_terminating_whatever_else_it_is() -> None:
    found = pod(phase="Failed")
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert phase_of(found, None)[0] is Phase.TERMINATING


def test_a_pod_that_was_evicted_by_its_kubelet_is_dead_with_the_kubelets_reason() -> None:
    assert phase_of(pod(phase="Failed", message="The node was low on memory"), node()) == (
        Phase.DEAD,
        "The node was low on memory",
    )


def test_a_pod_without_a_place_is_unschedulable_with_the_schedulers_reason() -> None:
    found = pod(
        phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
    )
    found["spec"] = {"nodeName": None}
    assert phase_of(found, None) == (Phase.UNSCHEDULABLE, "0/3 nodes are available")


def test_a_container_that_ends_again_and_again_has_failed_with_its_exit_status() -> None:
    container = {
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": {"exitCode": 2}},
    }
    assert phase_of(pod(containerStatuses=[container]), node()) == (
        Phase.FAILED,
        "CrashLoopBackOff: back-off 10s (exit status 2)",
    )


def test_an_image_that_cannot_be_had_is_a_failure() -> None:
    container = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
    assert phase_of(pod(phase="Pending", containerStatuses=[container]), node())[0] is Phase.FAILED


def test_a_container_that_is_being_made_is_pending_and_so_is_one_that_ended_once() -> None:
    for state in ({"waiting": {"reason": "ContainerCreating"}}, {"terminated": {"exitCode": 1}}):
        assert phase_of(pod(containerStatuses=[{"state": state}]), node())[0] is Phase.PENDING


def test_only_a_pod_of_which_no_container_ever_ran_has_never_started() -> None:
    assert never_started(pod(phase="Pending", containerStatuses=[]))
    assert not never_started(pod())
    assert not never_started(pod(phase="Pending", containerStatuses=[{"restartCount": 1, "state": {}}]))


def test_the_ordinal_is_the_number_at_the_end_of_the_name() -> None:
    assert ordinal_of(pod("a-1-12")) == 12
    assert ordinal_of(pod("media-store")) is None
    assert by_ordinal({"media-3": pod("media-3"), "other": pod("other")}) == {3: pod("media-3")}


# -- leases


def test_a_pod_that_the_store_never_named_takes_no_calls_yet() -> None:
    """It came up before its store: it answers, and nobody finds it."""
    memory = PodMemory("uid-media-0", serving=True)
    found = seen(memory=memory, state=LeaseState.UNKNOWN)
    assert not serves(found)
    assert found.message == "its lease is not in the store yet"
    assert serves(seen(memory=memory, state=LeaseState.UNKNOWN, available=False)), "nobody can say"
    memory.lease = lease()
    assert serves(seen(memory=memory, state=LeaseState.UNKNOWN)), "a store that lost its memory"


def test_a_restarted_containers_second_process_speaks_for_the_pod() -> None:
    first = lease(uid="uid-media-0.00000001", started=NOW)
    second = lease(uid="uid-media-0.00000002", started=NOW + 5, active=0)
    assert lease_of(view_of(first, second), "media-0", "uid-media-0") == second


def test_the_lease_of_an_earlier_pod_of_the_same_name_does_not_speak_for_this_one() -> None:
    assert lease_of(view_of(lease(uid="another.00000001")), "media-0", "uid-media-0") is None


def test_a_lease_is_lost_only_after_a_whole_life_of_the_same_store() -> None:
    had, never = PodMemory("u", lease=lease()), PodMemory("u")
    young, old = view_of(since=99.0), view_of(since=0.0)
    assert lease_state(had, None, young, True, 100.0) is LeaseState.UNKNOWN
    assert lease_state(had, None, old, True, 100.0) is LeaseState.LOST
    assert lease_state(never, None, old, True, 100.0) is LeaseState.NONE


def test_a_pod_that_was_ready_had_a_lease_before_this_operator_came() -> None:
    """Its node died together with the leader's: the one that stood by never saw it alive."""
    never, young, old = PodMemory("u"), view_of(since=99.0), view_of(since=0.0)
    assert lease_state(never, None, old, True, 100.0, ready=True) is LeaseState.LOST
    assert lease_state(never, None, young, True, 100.0, ready=True) is LeaseState.UNKNOWN


def test_without_the_store_nothing_is_known_of_a_lease_not_even_one_that_was_seen() -> None:
    assert lease_state(PodMemory("u"), lease(), view_of(lease()), False, 100.0) is LeaseState.UNKNOWN
    assert lease_state(PodMemory("u"), None, None, True, 100.0) is LeaseState.UNKNOWN


# -- observations


def test_a_living_lease_is_believed() -> None:
    memory = PodMemory("uid-media-0", serving=True, lease=lease(active=3, transactions=1, cordoned=True, draining=True))
    one = seen(memory=memory)
    assert (one.active, one.transactions, one.capacity, one.empty) == (3, 1, 10, False)
    assert one.cordoned
    assert one.draining
    assert (one.revision, one.version, one.address) == ("old", "1", "10.0.0.7")


def test_a_dead_relays_calls_are_those_that_wait_in_the_store() -> None:
    memory = PodMemory("uid-media-0", lease=lease(active=9), stored=2)
    gone = seen(pod(phase="Failed"), memory, LeaseState.LOST)
    assert (gone.active, gone.empty) == (2, False)
    memory.stored = 0
    assert seen(pod(phase="Failed"), memory, LeaseState.LOST).empty


def test_a_dead_relay_of_which_nobody_counted_the_sessions_is_not_empty() -> None:
    memory = PodMemory("uid-media-0", lease=lease(active=0, empty=True))
    one = seen(pod(phase="Failed"), memory, LeaseState.LOST)
    assert (one.active, one.empty) == (None, False)


def test_a_dead_proxys_calls_go_on_at_other_proxies() -> None:
    memory = PodMemory("uid-demo-0", lease=lease("demo-0", kind="proxy", active=9))
    one = seen(pod("demo-0", phase="Failed"), memory, LeaseState.LOST, relay=False)
    assert (one.active, one.empty) == (0, True)


def test_a_relay_that_runs_and_lost_its_lease_keeps_its_last_number_and_is_not_empty() -> None:
    memory = PodMemory("uid-media-0", lease=lease(active=0, empty=True))
    one = seen(memory=memory, state=LeaseState.LOST)
    assert (one.active, one.empty) == (0, False)


def test_while_the_store_is_away_no_pod_counts_as_empty() -> None:
    memory = PodMemory("uid-media-0", serving=True, lease=lease(active=0, empty=True))
    assert not seen(memory=memory, state=LeaseState.UNKNOWN).empty


def test_the_time_of_a_state_begins_anew_only_when_the_state_changes() -> None:
    memory = PodMemory("uid-media-0", lease=lease())
    assert seen(memory=memory, now=NOW).since == NOW
    assert seen(memory=memory, now=NOW + 5).since == NOW
    memory.serving = True
    assert seen(memory=memory, now=NOW + 9).since == NOW + 9


def test_after_an_uncordon_a_lease_from_before_is_not_believed_for_a_moment() -> None:
    said = lease(cordoned=True, draining=True, active=0, empty=True)
    memory = PodMemory("uid-media-0", serving=True, lease=said, opened=NOW + 1.5)
    just = seen(memory=memory, now=NOW)
    assert (just.cordoned, just.draining, just.empty) == (False, False, False)
    later = seen(memory=memory, now=NOW + 2)
    assert (later.cordoned, later.draining, later.empty) == (True, True, True)


def test_a_slot_whose_pod_is_not_made_yet_has_the_calls_that_wait_for_it() -> None:
    assert unborn(2, "new", 4, True, NOW).active == 4
    assert not unborn(2, "new", 4, True, NOW).empty
    unknown = unborn(2, "new", None, True, NOW)
    assert (unknown.lease, unknown.empty) == (LeaseState.UNKNOWN, False)
    assert unborn(2, "new", None, False, NOW).empty, "a proxy's calls never wait for a slot"


def test_times_of_the_api_server_are_unix_time() -> None:
    assert unix("2023-11-14T22:13:20Z") == NOW
    assert unix(None) == 0.0
