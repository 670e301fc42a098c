"""Manifests and the planner's memory over the death of a supervisor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sipfleet.api import Resource, load_manifests
from sipfleet.local.sets import Sets, SetState
from sipfleet.local.state import StateDirectory
from sipfleet.plan.types import DrainStart, Recommendation, SetStatus


def pool(capacity: int = 100, replicas: int = 2) -> Resource:
    (found,) = load_manifests(
        "{apiVersion: sipfleet.io/v1alpha1, kind: MediaPool, metadata: {name: media}, "
        f"spec: {{replicas: {replicas}, capacity: {capacity}}}}}"
    )
    return found


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDirectory:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one = StateDirectory("t")
    one.make()
    return one


def only(sets: Sets) -> SetState:
    (one,) = sets
    return one


def test_apply_says_what_it_did_and_counts_generations(state: StateDirectory) -> None:
    sets = Sets(state)
    assert [sets.apply(pool()), sets.apply(pool()), sets.apply(pool(99))] == ["created", "unchanged", "configured"]
    assert only(sets).generation == 2
    assert sets.find("MediaPool", "media") is only(sets)
    assert sets.find("SipCluster", "media") is sets.find("MediaPool", "media", "elsewhere") is None


def test_the_next_supervisor_finds_manifests_generation_and_scale_decisions_again(state: StateDirectory) -> None:
    sets = Sets(state)
    sets.apply(pool())
    one = only(sets)
    one.status = SetStatus(
        replicas=5,
        recommendations=(Recommendation(17.5, 5),),
        last_scale_time=12.0,
        revision=one.revision,
        rolling="cafe0000",
        drains=(DrainStart(1, "u", 3.0),),
    )
    sets.save(one)
    after = Sets(state)
    assert after.stored() == [pool()]
    assert after.apply(pool()) == "created"
    found = only(after)
    assert (found.generation, found.status.replicas, found.status.recommendations) == (1, 5, one.status.recommendations)
    assert (found.status.rolling, found.status.drains, found.status.revision) == (None, (), ""), "no pod is left"
    assert Sets(state).apply(pool(99)) == "created"


def test_a_revision_that_is_known_to_be_bad_is_not_what_a_fresh_fleet_is_made_of(state: StateDirectory) -> None:
    sets = Sets(state)
    sets.apply(pool(100))
    good = only(sets).revision
    sets.apply(pool(99))
    one = only(sets)
    one.status = SetStatus(replicas=2, revision=good, failed=one.revision, failed_message="died")
    one.keep_revisions(set())
    sets.save(one)
    after = Sets(state)
    after.apply(pool(99))
    assert (only(after).status.revision, only(after).status.failed) == (good, one.revision)
    assert only(after).revisions[good] == pool(100)


def test_what_a_revision_was_made_of_is_kept_while_somebody_names_it(state: StateDirectory) -> None:
    sets = Sets(state)
    sets.apply(pool(100))
    one = only(sets)
    first = one.revision
    sets.apply(pool(99))
    one.keep_revisions({first})
    assert one.revisions[first] == pool(100)
    one.status = replace(one.status, revision=one.revision)
    one.keep_revisions(set())
    assert list(one.revisions) == [one.revision]


def test_what_was_deleted_or_belongs_to_another_run_does_not_come_back(state: StateDirectory) -> None:
    sets = Sets(state)
    sets.apply(pool())
    only(sets).deleting = True
    sets.save(only(sets))
    assert Sets(state).stored() == []
    sets.forget(only(sets))
    assert not list((state / "specs").iterdir())
    sets.apply(pool())
    other = Sets(state)
    other.drop_strangers()
    assert not list((state / "specs").iterdir())
    assert not list((state / "status").iterdir())


def test_files_of_a_newer_version_are_passed_over(state: StateDirectory) -> None:
    sets = Sets(state)
    sets.apply(pool())
    name = "mediapool.default.media.json"
    state.write_json(f"specs/{name}", {"manifest": {"kind": "MediaPool", "spec": {"new": 1}}, "generation": 7})
    state.write_json(f"status/{name}", {"replicas": "many"})
    assert Sets(state).stored() == []
    after = Sets(state)
    after.apply(pool())
    assert only(after).status == SetStatus()
