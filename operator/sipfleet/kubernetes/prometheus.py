"""The load of a set's pods as a Prometheus has it (`spec.autoscale.prometheus`): where the number of pods is decided,
it takes the place of what the leases say (DESIGN 4.1). Whether a pod is empty is never read here.

A server that does not answer must not hold up anything: it is asked beside the passes, by threads of its own (the
client is a synchronous one), and a pass sees the last answer.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from sipfleet.api import MediaPool, SipCluster
from sipfleet.plan.conditions import METRICS, MOST_NAMED
from sipfleet.plan.types import Measured, Phase, Probe, SlotObservation
from sipfleet.setkey import SetKey

log = logging.getLogger("sipfleet.prometheus")

INTERVAL = 5.0
"""Seconds between two questions for one set."""
TIMEOUT = 4.0
"""Seconds that an answer may take."""
STALE = 60.0
"""A sample that is older, in seconds, says nothing: three scrapes at 20 s were missed."""
MOST_BYTES = 4_000_000
"""Of an answer: some thousand pods."""
MOST_TOLD = 200
"""Characters of what a server says to a query that it refuses."""
THREADS = 4
PART = "sipfleet_part"
"""Label that tells values from times in an answer."""
METRIC = {"SipCluster": "sipfleet_proxy_dialogs", "MediaPool": "rtprelay_sessions"}


class PrometheusError(Exception):
    """There is no answer that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the load of a set is read."""

    url: str
    query: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The last answer."""

    loads: Mapping[str, int]
    """Dialogs or sessions by name of the pod; only fresh samples."""
    problem: str | None = None


def source(resource: SipCluster | MediaPool) -> Source | None:
    """Where the manifest says that the load is; None: in the leases."""
    autoscale = resource.spec.autoscale
    if autoscale is None or autoscale.prometheus is None:
        return None
    default = f'{METRIC[resource.kind]}{{namespace="{resource.namespace}",pod=~"{resource.name}-[0-9]+"}}'
    return Source(autoscale.prometheus.url.rstrip("/"), autoscale.prometheus.query or default)


def question(query: str) -> str:
    """The query twice: for its values and for the times of its samples, which an instant query alone does not tell.

    The time of what is computed of samples is that of the question.
    """
    value, time = (
        f'label_replace({one}, "{PART}", "{part}", "", "")'
        for one, part in ((f"{query}\n", "value"), (f"timestamp({query}\n)", "time"))
    )
    return f"{value} or {time}"


def loads(result: object) -> dict[str, int]:
    """The load of each pod, of the answer to a `question`. Of several samples of one pod the highest counts; one that
    is stale, negative or no number does not.

    Raises `PrometheusError` when it is no such answer.
    """
    values: list[tuple[str, frozenset[tuple[str, str]], float, float]] = []
    times: dict[frozenset[tuple[str, str]], float] = {}
    for labels, asked, value in _samples(result):
        part = labels.pop(PART, "")
        labels.pop("__name__", None)
        mark = frozenset(labels.items())
        if part == "time":
            times[mark] = value
        elif (pod := labels.get("pod")) is not None:
            values.append((pod, mark, asked, value))
    found: dict[str, int] = {}
    for pod, mark, asked, value in values:
        if math.isfinite(value) and value >= 0 and asked - times.get(mark, -math.inf) <= STALE:
            found[pod] = max(found.get(pod, 0), math.ceil(value))
    if values or not times:
        return found
    raise PrometheusError("no sample of the answer has the label pod")


def _samples(result: object) -> Iterator[tuple[dict[str, str], float, float]]:
    """(labels, time of the question, value) of each sample."""
    try:
        for one in result:  # type: ignore[attr-defined]
            asked, value = one["value"]
            yield dict(one["metric"]), float(asked), float(value)
    except (KeyError, TypeError, ValueError):
        raise PrometheusError("the answer is no instant vector") from None


def measured(slots: Sequence[SlotObservation], reading: Reading | None, name: str) -> list[SlotObservation]:
    """The pods of the set `name` with what was measured of them."""
    known = reading.loads if reading is not None else {}
    return [replace(slot, measured=Measured(known.get(f"{name}-{slot.ordinal}"))) for slot in slots]


def verdict(where: Source, reading: Reading | None, slots: Sequence[SlotObservation], name: str, now: float) -> Probe:
    """The condition `MetricsAvailable`. A pod that has just come up is not scraped yet, and that is no fault."""
    if reading is None:
        return Probe(METRICS, "Unknown", "NotMeasured", where.url)
    problem = reading.problem
    if problem is None:
        missing = [
            f"{name}-{slot.ordinal}"
            for slot in slots
            if slot.phase is Phase.RUNNING
            and now - slot.since >= STALE
            and slot.measured is not None
            and slot.measured.load is None
        ]
        if not missing:
            return Probe(METRICS, "True", "Measured", where.url)
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        problem = f"no sample younger than {STALE:.0f} s of {', '.join(missing[:MOST_NAMED])}{more}"
    return Probe(METRICS, "False", "PrometheusUnavailable", f"{where.url}: {problem}; nothing is scaled down")


def ask(where: Source) -> dict[str, int]:
    """One question; blocks. Raises `PrometheusError`, with a text that is the same for the same fault."""
    # Only sets that name a Prometheus pay for its client.
    import requests
    from prometheus_api_client import PrometheusConnect

    session = requests.Session()
    session.hooks["response"].append(_checked)
    try:
        with PrometheusConnect(where.url, retry=0, session=session, timeout=TIMEOUT) as server:
            # Servers that know the parameter (2.43) apply it to samples from which something is computed, too.
            result = server.custom_query(question(where.query), {"lookback_delta": f"{STALE:.0f}s"})
    except PrometheusError:
        raise
    except requests.Timeout:
        raise PrometheusError(f"no answer within {TIMEOUT:.0f} s") from None
    except (KeyError, TypeError, ValueError):
        raise PrometheusError("what answers is no Prometheus") from None
    except Exception as error:  # what is below the client has exceptions of its own
        raise PrometheusError(_text(error)) from None
    return loads(result)


def _checked(response: Any, **_: object) -> None:
    """Before the client reads an answer: one without end would fill the memory, and of what is no answer of a
    Prometheus nothing is told: the URL is the user's, and the operator may reach what he may not."""
    data = response.raw.read(MOST_BYTES + 1, decode_content=True)
    if len(data) > MOST_BYTES:
        raise PrometheusError(f"an answer of more than {MOST_BYTES} bytes")
    if response.status_code != 200:
        raise PrometheusError(_refusal(response.status_code, data))
    response.raw = io.BytesIO(data)


def _refusal(status: int, data: bytes) -> str:
    try:
        said = json.loads(data)
    except ValueError:
        said = None
    told = said.get("error") if isinstance(said, dict) and said.get("status") == "error" else None
    return f"HTTP status {status}" + (f": {told[:MOST_TOLD]}" if isinstance(told, str) else "")


def _text(error: BaseException) -> str:
    """What the system said, which stands at the bottom of a heap of exceptions; their own texts have addresses of
    objects in them."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        one = left.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            if isinstance(one, OSError) and one.strerror:
                return one.strerror.lower()
            seen.append(one)
            left += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return type(error).__name__


class Measurements:
    """The readings of all sets that name a Prometheus."""

    def __init__(self, changed: Callable[[SetKey], None]) -> None:
        """`changed` is called when a reading is another than the one before."""
        self._changed = changed
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")
        self._followed: dict[SetKey, tuple[Source, asyncio.Task[None]]] = {}
        self._readings: dict[SetKey, Reading] = {}

    def use(self, key: SetKey, where: Source | None) -> Reading | None:
        """The last reading of this set, which is followed from now on; None before the first."""
        followed = self._followed.get(key)
        if (followed[0] if followed is not None else None) != where:
            self.forget(key)
            if where is not None:
                self._followed[key] = (where, asyncio.ensure_future(self._follow(key, where)))
        return self._readings.get(key)

    def forget(self, key: SetKey) -> None:
        """Nobody wants to know any more."""
        followed = self._followed.pop(key, None)
        if followed is not None:
            followed[1].cancel()
        self._readings.pop(key, None)

    async def close(self) -> None:
        for key in list(self._followed):
            self.forget(key)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, key: SetKey, where: Source) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            reading = await self._ask(where)
            if reading != self._readings.get(key):
                self._readings[key] = reading
                self._changed(key)
            await asyncio.sleep(max(0.0, began + INTERVAL - loop.time()))

    async def _ask(self, where: Source) -> Reading:
        try:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, ask, where)
            return Reading(await asyncio.wait_for(asked, TIMEOUT + 0.5))
        except TimeoutError:
            return Reading({}, f"no answer within {TIMEOUT:.0f} s")
        except PrometheusError as error:
            return Reading({}, str(error))
        except Exception as error:  # a fault here must not be the last question
            log.exception("asking %s", where.url)
            return Reading({}, type(error).__name__)
