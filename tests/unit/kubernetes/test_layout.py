"""From decisions to replicas, template and partition: a StatefulSet must end no pod that the planner did not end."""

from __future__ import annotations

from sipfleet.kubernetes.layout import SetLayout, layout, revision_of_slot, template_revision
from sipfleet.plan.types import CreateSlot, RemoveSlot, Replace, SetStatus

STABLE = SetStatus(replicas=3, revision="old")


def rolling(partition: int | None) -> SetStatus:
    return SetStatus(replicas=3, revision="old", rolling="new", partition=partition)


def test_at_rest_all_slots_are_of_the_stable_revision_and_nothing_is_held_back() -> None:
    assert layout(STABLE, (), 3, {0: "old", 1: "old", 2: "old"}) == SetLayout(3, "old", 0)


def test_growing_needs_the_highest_slot_that_is_to_be_made() -> None:
    assert layout(STABLE, (CreateSlot(3, "old"), CreateSlot(4, "old")), 3, {}).slots == 5


def test_a_slot_below_that_has_lost_its_pod_makes_the_set_no_smaller() -> None:
    assert layout(STABLE, (CreateSlot(0, "old"),), 3, {}).slots == 3


def test_shrinking_takes_the_highest_slots_and_only_these() -> None:
    assert layout(STABLE, (RemoveSlot(2, "u2"), RemoveSlot(1, "u1")), 3, {}).slots == 1
    assert layout(STABLE, (RemoveSlot(1, "u1"),), 3, {}).slots == 3, "a slot in between cannot go"


def test_a_roll_begins_with_the_new_template_above_every_pod() -> None:
    assert layout(rolling(None), (), 3, {0: "old", 1: "old", 2: "old"}) == SetLayout(3, "new", 3)


def test_the_surge_pod_alone_is_of_the_new_revision() -> None:
    made = layout(rolling(3), (CreateSlot(3, "new"),), 3, {0: "old", 1: "old", 2: "old"})
    assert made == SetLayout(4, "new", 3)


def test_the_partition_follows_only_the_pod_that_is_replaced_now() -> None:
    pods = {0: "old", 1: "old", 2: "old", 3: "new"}
    assert layout(rolling(2), (Replace(2, "u2", "new"),), 4, pods).partition == 2
    assert layout(rolling(0), (Replace(2, "u2", "new"),), 4, pods).partition == 2, "an old pod stands below it"


def test_a_pod_of_another_revision_is_never_above_the_partition() -> None:
    assert layout(rolling(0), (), 3, {0: "new", 1: "older", 2: "new"}).partition == 2
    assert layout(STABLE, (), 3, {2: "bad"}).partition == 3, "nor when the roll has been taken back"


def test_a_pod_that_goes_back_is_no_reason_to_hold_the_template_back() -> None:
    assert layout(STABLE, (Replace(2, "u2", "old"),), 3, {0: "old", 1: "old", 2: "bad"}) == SetLayout(3, "old", 0)


def test_an_empty_slot_will_be_what_the_partition_says() -> None:
    current = SetLayout(4, "new", 2)
    assert [revision_of_slot(n, rolling(2), current) for n in (1, 2, 3)] == ["old", "new", "new"]
    assert revision_of_slot(0, rolling(2), None) == "new", "a set that is not there yet is made of its template"
    assert template_revision(STABLE) == "old"
