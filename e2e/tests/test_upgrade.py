"""The operator is replaced by another one, with other images and another pod template, and no pod notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.harness.calls import Outside, act, passed
from e2e.harness.fleet import CLUSTER, OPERATOR, POOL, Fleet
from e2e.harness.kubectl import Object
from e2e.tests.conftest import INSTALLED, NEXT
from e2e.tests.test_faults import lives
from sipfleet.calls import CallGenerator

STORE = "sipfleet-store"


@pytest.fixture
def unversioned(fleet: Fleet) -> Iterator[Fleet]:
    """Manifests that leave the version to the operator. Afterwards the first operator is back."""
    if INSTALLED:
        pytest.skip("SIPFLEET_E2E_INSTALLED: the operator is to stay as it is")
    for what in (f"mediapool/{POOL}", f"sipcluster/{CLUSTER}"):
        fleet.kubectl.patch(what, {"spec": {"version": None}})
    fleet.until_settled()
    yield fleet
    fleet.kubectl.attempt("delete", "sipcluster/later", "--ignore-not-found", timeout=120)
    fleet.install()


def standing(fleet: Fleet) -> dict[str, tuple[str, int]]:
    """The life of every pod: proxies, relays, store."""
    store = {
        pod["metadata"]["name"]: (pod["metadata"]["uid"], 0)
        for pod in fleet.kubectl.items("pods", "-l", f"app.kubernetes.io/name={STORE}")
    }
    return {**lives(fleet, CLUSTER), **lives(fleet, POOL), **store}


def container(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


@pytest.mark.smoke
def test_an_upgrade_of_the_operator_restarts_no_pod(unversioned: Fleet, outside: Outside) -> None:
    fleet = unversioned
    before = standing(fleet)
    assert len(before) == 7

    async def deed(calls: CallGenerator) -> None:
        calls.mark("upgrade", NEXT)
        # Another image of all programs, and a template that differs in more than its image.
        await act(lambda: fleet.install(images__tag=NEXT, fleet__priorityClassName=""))
        image = container((await act(fleet.system.get, OPERATOR))["spec"]["template"])
        assert image.endswith(f":{NEXT}"), image
        await act(fleet.until_settled)
        calls.mark("upgraded", NEXT)
        # What exists grows by its own template; what is new is made by the new one.
        await act(fleet.kubectl, "scale", f"sipcluster/{CLUSTER}", "--replicas=3")
        await act(fleet.until, CLUSTER, "three", lambda status: status.get("readyReplicas") == 3, 120)
        third = (await act(fleet.pods, CLUSTER))[2]
        assert container(third).endswith(":0.1.0"), container(third)
        assert third["spec"]["priorityClassName"] == "sipfleet"
        later = fleet.manifests()[1]
        later["metadata"]["name"] = "later"
        later["spec"] |= {"replicas": 1, "mediaPools": [], "exposure": {"type": "clusterIP"}}
        del later["spec"]["version"]
        await act(fleet.kubectl.apply, later)
        ready = await act(
            fleet.kubectl.until,
            "ready",
            lambda one: (one.get("status") or {}).get("readyReplicas") == 1,
            120,
            "sipcluster/later",
        )
        assert ready["status"]["version"] == NEXT
        (pod,) = await act(fleet.pods, "later")
        assert container(pod).endswith(f":{NEXT}"), container(pod)
        assert not pod["spec"].get("priorityClassName")
        after = await act(standing, fleet)
        assert after.items() >= before.items(), f"pods were replaced: {before}, now {after}"

    passed(outside.play("operator_upgrade", deed, events=("upgrade", "upgraded"), duration=(20.0, 25.0)))
