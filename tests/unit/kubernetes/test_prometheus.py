"""What is made of a Prometheus' answers, and what is said when there is none."""

from __future__ import annotations

from typing import Any

import pytest

from sipfleet.kubernetes.prometheus import (
    PART,
    PrometheusError,
    Reading,
    Source,
    loads,
    measured,
    question,
    source,
    verdict,
)
from sipfleet.plan import LeaseState, Measured, Phase, Probe, SlotObservation
from tests.unit.kubernetes.scenes import NOW, cluster, pool

URL = "http://192.0.2.9:9090"
WHERE = Source(URL, "x")


def sample(part: str, value: float | str, **labels: str) -> dict[str, Any]:
    return {"metric": {PART: part, **labels}, "value": [NOW, str(value)]}


def both(value: float | str, age: float = 1.0, **labels: str) -> list[dict[str, Any]]:
    """The two samples that a `question` gives for one series."""
    return [
        sample("value", value, __name__="rtprelay_sessions", **labels),
        sample("time", NOW - age, **labels),
    ]


def slot(ordinal: int, load: int | None, **changes: Any) -> SlotObservation:
    values: dict[str, Any] = {"phase": Phase.RUNNING, "lease": LeaseState.ALIVE, "since": NOW - 1000, **changes}
    return SlotObservation(ordinal, f"u{ordinal}", "old", measured=Measured(load), **values)


def autoscale(**prometheus: str) -> dict[str, Any]:
    return {"replicas": None, "autoscale": {"min": 1, "max": 3, "prometheus": prometheus}}


def test_without_a_query_it_is_what_our_own_pods_say() -> None:
    asked = source(cluster(**autoscale(url=f"{URL}/")))
    assert asked == Source(URL, 'sipfleet_proxy_dialogs{namespace="voice",pod=~"demo-[0-9]+"}')
    asked = source(pool(**autoscale(url=URL)))
    assert asked == Source(URL, 'rtprelay_sessions{namespace="voice",pod=~"media-[0-9]+"}')
    assert source(pool(**autoscale(url=URL, query="max by (pod) (calls)"))) == Source(URL, "max by (pod) (calls)")
    assert source(pool()) is None
    assert source(pool(replicas=None, autoscale={"min": 1, "max": 3})) is None


def test_a_comment_at_the_end_of_a_query_takes_nothing_away() -> None:
    assert question("calls # mine").count("calls # mine\n") == 2


def test_each_pod_has_the_highest_of_its_fresh_samples() -> None:
    answer = [
        *both(3, pod="media-0"),
        *both(0, pod="media-1"),
        *both(7, pod="media-2", job="a"),
        *both(9, pod="media-2", job="b"),
        *both(99, age=61, pod="media-2", job="c"),
        *both(1.5, pod="media-3"),
    ]
    assert loads(answer) == {"media-0": 3, "media-1": 0, "media-2": 9, "media-3": 2}
    assert loads([]) == {}


@pytest.mark.parametrize(
    "answer",
    [
        both(1, age=60.5, pod="media-0"),
        both("NaN", pod="media-0"),
        both("+Inf", pod="media-0"),
        both(-1, pod="media-0"),
        both(1, pod="media-0")[:1],
    ],
    ids=["old", "no number", "endless", "negative", "of unknown age"],
)
def test_a_sample_that_says_nothing_is_no_load(answer: list[dict[str, Any]]) -> None:
    assert loads(answer) == {}


@pytest.mark.parametrize("answer", [[NOW, "3"], [{"metric": {}, "values": []}], 7, None, [{"value": [1, "x"]}]])
def test_what_is_no_vector_is_refused(answer: object) -> None:
    with pytest.raises(PrometheusError, match="no instant vector"):
        loads(answer)


def test_samples_of_no_pod_are_refused() -> None:
    with pytest.raises(PrometheusError, match="label pod"):
        loads(both(3, instance="a"))


def test_every_pod_without_a_sample_is_unknown_and_none_is_left_to_its_lease() -> None:
    slots = [SlotObservation(0, "u0", "old"), SlotObservation(1, "u1", "old")]
    for reading, expected in (
        (Reading({"media-0": 4, "other-1": 5}), [4, None]),
        (Reading({}, "no answer"), [None, None]),
        (None, [None, None]),
    ):
        assert [one.measured for one in measured(slots, reading, "media")] == [Measured(load) for load in expected]


def test_the_condition_tells_what_is_wrong_with_the_url() -> None:
    fine = [slot(0, 1), slot(1, 0)]
    assert verdict(WHERE, None, fine, "media", NOW) == Probe("MetricsAvailable", "Unknown", "NotMeasured", URL)
    assert verdict(WHERE, Reading({}), fine, "media", NOW) == Probe("MetricsAvailable", "True", "Measured", URL)
    away = verdict(WHERE, Reading({}, "connection refused"), fine, "media", NOW)
    told = f"{URL}: connection refused; nothing is scaled down"
    assert away == Probe("MetricsAvailable", "False", "PrometheusUnavailable", told)


def test_the_condition_names_the_pods_of_which_there_is_no_sample_once_they_should_have_one() -> None:
    slots = [slot(0, 1), slot(1, None, since=NOW - 59), slot(2, None, phase=Phase.PENDING)]
    assert verdict(WHERE, Reading({}), slots, "media", NOW).status == "True"
    slots += [slot(number, None) for number in range(3, 10)]
    told = verdict(WHERE, Reading({}), slots, "media", NOW)
    assert (told.status, told.reason) == ("False", "PrometheusUnavailable")
    assert "no sample younger than 60 s of media-3, media-4, media-5, media-6, media-7 and 2 more" in told.message
