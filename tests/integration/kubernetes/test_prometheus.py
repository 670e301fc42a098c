"""The load of pods as a real Prometheus has it: what comes of values, of stale ones, and of a server that is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server

import pytest

from sipfleet.kubernetes import prometheus
from sipfleet.kubernetes.prometheus import Measurements, PrometheusError, Reading, Source, ask
from sipfleet.plan import Observed, Plan, SetStatus, plan
from sipfleet.setkey import SetKey
from tests.integration.peers.process import Peer, wait_for
from tests.unit.kubernetes.scenes import pool
from tests.unit.plan.scenes import NOW, pod, rule, wish

KEY = SetKey("MediaPool", "voice", "media")
PODS = ("media-0", "media-1", "media-2")


@dataclass
class Exporter:
    """Three relays' `GET /metrics`, under a path for each."""

    url: str
    sessions: dict[str, str] = field(default_factory=dict)
    """What stands behind the metric's name; a pod that is missing answers 503."""


@dataclass
class World:
    """A Prometheus that scrapes the exporter twice a second."""

    peer: Peer
    exporter: Exporter
    where: Source


@contextlib.contextmanager
def exporter(address: str) -> Iterator[Exporter]:
    made = Exporter(f"http://{address}:9100")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = made.sessions.get(self.path.strip("/"))
            body = f"rtprelay_capacity 10\nrtprelay_sessions {said}\n".encode()
            self.send_response(200 if said is not None else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 9100), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def world(tmp_path: Path, loopback_address: Callable[[], str]) -> Iterator[World]:
    address = loopback_address()
    with exporter(address) as made:
        targets = [
            {"targets": [f"{address}:9100"], "labels": {"__metrics_path__": f"/{name}", "pod": name} | SPACE}
            for name in PODS
        ]
        configuration = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "relays", "static_configs": targets}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(configuration))
        url = f"http://{address}:9090"
        argv = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        argv += [f"--web.listen-address={address}:9090", "--log.level=warn"]
        where = prometheus.source(
            pool(replicas=None, autoscale={"min": 1, "max": 9, "prometheus": {"url": url}}),
        )
        assert where is not None
        with Peer(argv, tmp_path / "prometheus.log", lambda: _is_ready(url)) as peer:
            yield World(peer, made, where)


SPACE = {"namespace": "voice"}


def _is_ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1) as answer:
        return bool(answer.status == 200)
    return False


async def until(measurements: Measurements, where: Source, wanted: Callable[[Reading], bool], limit: float) -> Reading:
    """The first reading that is wanted."""
    end = time.monotonic() + limit
    while True:
        reading = measurements.use(KEY, where)
        if reading is not None and wanted(reading):
            return reading
        assert time.monotonic() < end, f"within {limit} s: {reading}"
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "INTERVAL", 0.2)


def decided(reading: Reading) -> tuple[Plan, str]:
    """What the planner makes of a reading of three relays whose leases say that they are idle, and the condition."""
    slots = prometheus.measured([pod(0), pod(1), pod(2)], reading, "media")
    probe = prometheus.verdict(Source("http://192.0.2.9", ""), reading, slots, "media", NOW)
    seen = Observed(tuple(slots), SetStatus(replicas=3, recommended=1, revision="old"), True, probes=(probe,))
    return plan(wish(name="media", replicas=None, autoscale=rule()), seen, NOW), probe.status


def test_values_arrive_and_take_the_place_of_leases_and_a_server_that_is_away_scales_nothing_down(world: World) -> None:
    async def run() -> None:
        told: list[SetKey] = []
        measurements = Measurements(told.append)
        world.exporter.sessions = {"media-0": "9", "media-1": "10", "media-2": "9"}
        busy = await until(measurements, world.where, lambda one: len(one.loads) == 3, 15)
        assert busy == Reading({"media-0": 9, "media-1": 10, "media-2": 9})
        assert decided(busy)[0].status.replicas == 4
        world.exporter.sessions = dict.fromkeys(PODS, "0")
        idle = await until(measurements, world.where, lambda one: set(one.loads.values()) == {0}, 10)
        assert (decided(idle)[0].status.replicas, decided(idle)[1]) == (1, "True")
        world.peer.kill()
        away = await until(measurements, world.where, lambda one: one.problem is not None, 10)
        assert away == Reading({}, "connection refused")
        result, status = decided(away)
        assert (result.status.replicas, result.actions, status) == (3, (), "False")
        assert set(told) == {KEY}
        await measurements.close()

    asyncio.run(run())


def test_a_pod_that_is_not_scraped_any_more_and_one_with_old_samples_are_unknown(world: World) -> None:
    async def run() -> None:
        measurements = Measurements(lambda _: None)
        world.exporter.sessions = {"media-0": "1", "media-1": "2", "media-2": f"3 {round((time.time() - 70) * 1000)}"}
        reading = await until(measurements, world.where, lambda one: len(one.loads) == 2, 15)
        assert reading == Reading({"media-0": 1, "media-1": 2})
        assert decided(reading)[0].status.replicas == 3
        wait_for(lambda: _has(world, "media-2"), 5, "Prometheus itself gives the old sample")
        del world.exporter.sessions["media-1"]
        reading = await until(measurements, world.where, lambda one: len(one.loads) == 1, 10)
        assert reading == Reading({"media-0": 1})
        await measurements.close()

    asyncio.run(run())


def _has(world: World, name: str) -> bool:
    query = f"{world.where.url}/api/v1/query?query=rtprelay_sessions"
    with urllib.request.urlopen(query, timeout=5) as answer:
        found = json.load(answer)["data"]["result"]
    return name in {one["metric"]["pod"] for one in found}


def test_a_query_of_the_users_own_is_asked_and_a_wrong_one_is_explained(world: World) -> None:
    world.exporter.sessions = dict.fromkeys(PODS, "2")
    own = replace(world.where, query="sum by (pod) (rtprelay_sessions) + 1 # mine")
    end = time.monotonic() + 15
    while (found := ask(own)) != dict.fromkeys(PODS, 3):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert ask(replace(own, query="rtprelay_sessionz")) == {}
    with pytest.raises(PrometheusError, match=r"HTTP status 400: .*parse error"):
        ask(replace(own, query="sum by (rtprelay_sessions"))
    with pytest.raises(PrometheusError, match="HTTP status 400"):
        ask(replace(own, query="7"))
    with pytest.raises(PrometheusError, match="label pod"):
        ask(replace(own, query="sum(rtprelay_sessions)"))


def test_of_what_is_no_prometheus_nothing_is_told(world: World) -> None:
    world.exporter.sessions = {"api/v1/query": "1"}
    with pytest.raises(PrometheusError, match=r"^HTTP status 503$"):
        ask(Source(world.exporter.url, "x"))


def test_a_server_that_never_answers_holds_up_neither_the_loop_nor_other_sets(
    loopback_address: Callable[[], str], world: World
) -> None:
    async def run() -> float:
        measurements = Measurements(lambda _: None)
        other = SetKey("MediaPool", "voice", "other")
        measurements.use(other, Source(f"http://{mute}:9090", "x"))
        worst, began = 0.0, time.monotonic()
        reading = None
        while reading is None:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - before)
            measurements.use(KEY, world.where)
            reading = measurements.use(other, Source(f"http://{mute}:9090", "x"))
            assert time.monotonic() - began < 10
        assert reading == Reading({}, "no answer within 4 s")
        assert measurements.use(KEY, world.where) is not None
        await measurements.close()
        return worst

    mute = loopback_address()
    with create_server((mute, 9090)):
        ask(world.where)  # the client is imported
        assert asyncio.run(run()) < 1.0
