"""A deletion waits for calls and for servers, but not for ever: what stands in its way is said, and then it is over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.alone import Alone, alone, has_event, manifest
from e2e.harness.plane import good

HOST, STORE, NOBODY = "127.102.11.1", "127.102.11.2", "127.102.11.3"
DRAIN, SLACK = 3, 2
SOON = {"reconcile__DELETION_SLACK": SLACK, "reconcile__RETRY": 1.0}
"""The drain timeout and this slack together are the deadline."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    with alone(tmp_path_factory.mktemp("deadlines"), HOST, STORE) as made:
        yield made


@pytest.fixture
def empty(place: Alone) -> Iterator[Alone]:
    yield place
    place.clean()


def cluster(place: Alone, **changes: Any) -> None:
    spec = {
        "replicas": 1,
        "domains": ["example.test"],
        "store": {"url": place.store},
        "rollout": {"drainTimeout": DRAIN},
    }
    place.apply([manifest("SipCluster", "demo", spec | changes)])


def deleted(place: Alone) -> float:
    """Seconds from the order to delete until it is gone."""
    began = time.monotonic()
    good(place.plane.admin, "delete", "sipcluster/demo", "--wait=false")
    place.until("sipcluster/demo", lambda one: one is None)
    return time.monotonic() - began


def test_a_name_server_that_is_gone(empty: Alone) -> None:
    cluster(empty, exposure={"type": "hostNetwork"}, dns={"rfc2136": {"server": NOBODY}})
    with empty.runs(**SOON):
        empty.until("statefulset/demo")
        # A deletion timestamp has whole seconds.
        assert deleted(empty) >= DRAIN + SLACK - 1
        told = empty.until("events", lambda found: has_event(found, "RecordsLeft"))
    [event] = [one for one in told["items"] if one["reason"] == "RecordsLeft"]
    assert event["type"] == "Warning"


def test_an_address_that_is_lost(empty: Alone) -> None:
    cluster(empty, exposure={"type": "loadBalancer"})
    with empty.runs(**SOON):
        [service] = [
            one
            for one in empty.until("services", lambda found: any(_balanced(one) for one in found["items"]))["items"]
            if _balanced(one)
        ]
        name = service["metadata"]["name"]
        _give(empty, name, [{"ip": "203.0.113.77"}])
        empty.until("statefulset/demo")
        _give(empty, name, [])
        assert deleted(empty) >= DRAIN + SLACK - 1


def _balanced(service: Any) -> bool:
    return bool(service["spec"]["type"] == "LoadBalancer")


def _give(place: Alone, service: str, ingress: list[dict[str, str]]) -> None:
    """What a cloud does."""
    patch = json.dumps({"status": {"loadBalancer": {"ingress": ingress}}})
    good(place.plane.admin, "patch", f"service/{service}", "--subresource=status", "--type=merge", "-p", patch)
