"""A bad manifest is refused where it is applied, with the field and what is allowed; the last edit is what counts."""

from __future__ import annotations

import copy
import json

import pytest

from e2e.harness.fleet import CLUSTER, POOL, Fleet
from e2e.harness.kubectl import Kubectl, Object, condition

BAD: list[tuple[str, Object, tuple[str, ...]]] = [
    ("listeners is empty", {"listeners": []}, ("spec.listeners", "at least 1")),
    ("a transport that nobody knows", {"listeners": [{"name": "x", "transport": "SCTP"}]}, ("transport", "UDP")),
    ("replicas and autoscale", {"replicas": 2, "autoscale": {"min": 1, "max": 2}}, ("spec.replicas", "exactly one")),
    ("a port beyond the last", {"listeners": [{"name": "x", "port": 70000}]}, ("port", "65535")),
    ("a field that nobody knows", {"replcas": 3}, ("replcas",)),
    (
        "a foreign domain",
        {"routing": {"routes": [{"name": "a", "domain": "x.test", "targets": ["sip:192.0.2.1"]}]}},
        ("routing.routes", "spec.domains"),
    ),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("spec", "words"), [pytest.param(s, w, id=name.replace(" ", "-")) for name, s, w in BAD])
def test_apply_refuses_it_with_the_field_and_what_is_allowed(
    installed: Fleet, kubectl: Kubectl, spec: Object, words: tuple[str, ...]
) -> None:
    manifest: Object = copy.deepcopy(installed.manifests()[1])
    manifest["metadata"]["name"] = "bad"
    manifest["spec"] |= spec
    status, text = kubectl.attempt("apply", "-f", "-", given=json.dumps(manifest))
    assert status != 0, text
    assert all(word in text for word in words), text


@pytest.mark.smoke
def test_what_only_the_operator_can_tell_is_told_in_the_status(installed: Fleet, kubectl: Kubectl) -> None:
    manifest: Object = copy.deepcopy(installed.manifests()[0])
    manifest["metadata"]["name"] = "ranged"
    manifest["spec"]["ports"] = {"mode": "range", "min": 20000, "max": 20999}
    kubectl.apply(manifest)
    try:
        found = kubectl.until(
            "refused", lambda one: condition(one, "Accepted").get("status") == "False", 30, "mediapool/ranged"
        )
        said = condition(found, "Accepted")
        assert said["reason"] == "PortsNotSupported"
        assert "spec.ports.mode" in said["message"]
        assert "shared" in said["message"]
        assert not kubectl.items("pods", "-l", "sipfleet.io/set=ranged")
    finally:
        kubectl("delete", "mediapool/ranged", "--wait=true", timeout=60)


def test_edited_twice_in_a_second_it_ends_in_the_last(fleet: Fleet, kubectl: Kubectl) -> None:
    kubectl.patch(f"mediapool/{POOL}", {"spec": {"replicas": 3}})
    kubectl.patch(f"mediapool/{POOL}", {"spec": {"replicas": 2}})
    kubectl.patch(f"sipcluster/{CLUSTER}", {"spec": {"replicas": 3}})
    kubectl.patch(f"sipcluster/{CLUSTER}", {"spec": {"replicas": 2}})
    fleet.until_settled()
    for name in (POOL, CLUSTER):
        status = fleet.status(name)
        assert (status["replicas"], status["desiredReplicas"]) == (2, 2)
        assert kubectl.get(f"statefulset/{name}")["spec"]["replicas"] == 2
