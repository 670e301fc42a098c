"""`sipfleet store`, as the plugin runs it in the operator's pod: calls of a real proxy in a real store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipfleet.calls import CallGenerator, CallPlan
from tests.integration.peers.fleet import ProxyPair
from tests.integration.peers.probe import answers_ng
from tests.integration.peers.process import Peer
from tests.integration.peers.redis_server import RedisServer

PROGRAM = str(Path(sys.executable).with_name("sipfleet"))


def told(*words: str) -> list[dict[str, Any]]:
    done = subprocess.run([PROGRAM, "store", *words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_calls_and_cdrs_are_what_was_called(
    tmp_path: Path, redis_server: RedisServer, loopback_address: Callable[[], str]
) -> None:
    proxy, callee, media = (loopback_address(), 5060), (loopback_address(), 5080), loopback_address()
    relay_config = {
        "pod": {"set": "media", "name": "media-0"},
        "ng": f"{media}:2223",
        "interfaces": [media],
        "ports": "20000-20999",
        "store": redis_server.url,
    }
    path = tmp_path / "media-0.json"
    path.write_text(json.dumps(relay_config))
    relay = Peer(
        [sys.executable, "-m", "rtprelay", "--config", str(path)],
        tmp_path / "media-0.log",
        lambda: answers_ng((media, 2223)),
    )
    pods = [loopback_address(), loopback_address()]
    pair = ProxyPair(tmp_path, proxy, pods, redis_server.url, "example.test", callee, pools=["media"])
    place = ("--url", redis_server.url, "pair")

    async def call() -> tuple[list[dict[str, Any]], list[dict[str, Any]], set[str]]:
        plan = CallPlan("sip:bob@example.test", proxy, callee, 4, 40.0, (3.0, 3.5), (0.0, 0.1))
        async with CallGenerator(plan) as calls:
            await calls.until_established()
            up = await asyncio.to_thread(told, "calls", *place)
            report = await calls.finish(20)
        assert report.reasons() == {}
        deadline = time.monotonic() + 5
        while len(ended := await asyncio.to_thread(told, "cdrs", *place)) < 4:
            assert time.monotonic() < deadline, ended
        assert await asyncio.to_thread(told, "calls", *place) == [], "ended dialogs are remembered for a while"
        return up, ended, {one.call_id for one in report.calls}

    with relay, pair:
        up, ended, call_ids = asyncio.run(call())
    assert {row["callId"] for row in up} == call_ids
    assert {row["to"] for row in up} == {"sip:bob@example.test"}
    assert {row["owner"] for row in up} <= {"proxy-0", "proxy-1"}
    assert {row["relay"] for row in up} == {"media-0"}
    assert {row["call_id"] for row in ended} == call_ids
    assert len({row["id"] for row in ended}) == 4
    last = told("cdrs", *place, "--since", ended[2]["streamId"])
    assert [row["id"] for row in last] == [ended[3]["id"]]
    assert [row["id"] for row in told("cdrs", *place, "--limit", "1")] == [ended[3]["id"]]
    assert told("cdrs", *place, "--since", "1h") == ended
    assert told("cdrs", *place, "--since", "2099-01-01T00:00:00Z") == []
    assert told("calls", "--url", redis_server.url, "another") == []


def add(server: RedisServer, number: int, identity: str) -> None:
    with server.client() as client:
        client.xadd("sf:default/demo:cdr", {"cdr": json.dumps({"id": identity, "number": number})})


def test_one_cdr_is_told_once_however_often_it_stands_there(redis_server: RedisServer) -> None:
    for number, identity in enumerate(("a", "b", "a")):
        add(redis_server, number, identity)
    assert [row["number"] for row in told("cdrs", "--url", redis_server.url, "demo")] == [0, 1]


class Following:
    """`cdrs --follow --tied` with a shorter silence."""

    def __init__(self, server: RedisServer, silence: float) -> None:
        code = (
            "from sipfleet.plugin import storecommand as s;"
            f"s.SILENCE = {silence}; s.INTERVAL = 0.1; s.store_group(prog_name='sipfleet store')"
        )
        words = ["cdrs", "--url", server.url, "demo", "--json", "--follow", "--tied"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def test_records_that_come_are_followed_until_standard_input_closes(redis_server: RedisServer) -> None:
    add(redis_server, 0, "a")
    with Following(redis_server, 30) as following:
        assert following.line()["number"] == 0
        for number, identity in ((1, "b"), (2, "a"), (3, "c")):
            add(redis_server, number, identity)
        assert [following.line()["number"] for _ in range(2)] == [1, 3]
        assert following.process.stdin is not None
        following.process.stdin.close()
        assert following.process.wait(5) == 0


def test_nobody_is_followed_who_has_gone_without_a_word(redis_server: RedisServer) -> None:
    with Following(redis_server, 1.5) as following:
        assert following.process.stdin is not None
        began = time.monotonic()
        while time.monotonic() - began < 3:
            following.process.stdin.write("\n")
            following.process.stdin.flush()
            time.sleep(0.2)
        assert following.process.poll() is None
        assert following.process.wait(8) == 0


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("cdrs", "--url", "redis://127.0.0.1:1", "demo"), 1, "does not answer"),
        (("calls", "--url", "redis://127.0.0.1:1", "demo"), 1, "does not answer"),
        (("calls", "--url", "http://x", "demo"), 1, "cannot be read"),
        (("cdrs", "--since", "never", "demo"), 2, "expected a time span"),
    ],
)
def test_what_cannot_be_read_is_said(words: tuple[str, ...], status: int, complaint: str) -> None:
    done = subprocess.run([PROGRAM, "store", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, complaint in done.stderr) == (status, True), done.stderr
