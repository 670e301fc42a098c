"""`sipfleet call` against real peers: its own callee, Debian's Kamailio, a Redis with CDRs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from sipfleet.calls import generator
from sipfleet.calls.cdr import RedisCdrs
from sipfleet.calls.errors import CallsError, EngineError
from sipfleet.calls.generator import CallGenerator
from sipfleet.calls.plan import CallPlan
from sipfleet.calls.results import Reason, Report
from tests.integration.peers.kamailio import Kamailio
from tests.integration.peers.redis_server import RedisServer

HOST = "127.102.2.1"
COMMAND = [sys.executable, "-c", "from sipfleet.calls.cli import call_command; call_command(prog_name='sipfleet call')"]


def plan(host: str, port: int, calls: int = 10, **settings: object) -> CallPlan:
    usual = {"rate": 50.0, "duration": (1.0, 1.5), "ring": (0.0, 0.1), "seed": 3}
    address = (host, port)
    return CallPlan("sip:echo@example.test", address, address, calls, **{**usual, **settings})  # type: ignore[arg-type]


async def finish(planned: CallPlan, cdrs: RedisCdrs | None = None) -> Report:
    async with CallGenerator(planned, cdrs) as calls:
        return await calls.finish(20)


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_calls_straight_to_the_callee_are_kept(host: str) -> None:
    report = asyncio.run(finish(plan(host, 5081)))
    assert report.reasons() == {}
    assert len(report.calls) == 10
    assert sum(call.lost for call in report.calls) == 0
    assert report.control.received > 40


def test_calls_through_kamailio_are_kept(tmp_path: Path) -> None:
    proxy, callee = ("127.102.2.2", 5060), ("127.102.2.3", 5080)
    planned = CallPlan(f"sip:echo@{callee[0]}:{callee[1]}", proxy, callee, 30, 50.0, (1.0, 1.5), (0.0, 0.1))
    with Kamailio(tmp_path, proxy):
        report = asyncio.run(finish(planned))
    assert report.reasons() == {}
    assert len(report.calls) == 30
    assert {call.bye_by for call in report.calls} == {"caller", "callee"}
    assert sum(call.retransmissions for call in report.calls) == 0


def test_a_call_without_exactly_one_cdr_is_not_kept(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "CDR_PATIENCE", 1.0)
    url = f"redis://{redis_server.host}:{redis_server.port}"
    planned = plan(HOST, 5082, 4)

    async def run() -> Report:
        source = RedisCdrs(url)
        async with CallGenerator(planned, source) as calls:
            await calls.until(lambda status: status.ended == 4, 10, "end of four calls")
            ids = {call.number: call.call_id for call in calls.calls}
            with redis.Redis.from_url(url) as store:
                for number, ident in ((1, "a"), (1, "a"), (2, "b"), (2, "c"), (4, "d")):
                    store.xadd("sf:default/demo:cdr", {"cdr": json.dumps({"id": ident, "call_id": ids[number]})})
                store.xadd("sf:default/demo:cdr", {"cdr": "not JSON"})
            try:
                return await calls.finish(30)
            finally:
                await source.close()

    report = asyncio.run(run())
    assert {call.number: call.reason for call in report.calls} == {
        1: None,
        2: Reason.SEVERAL_CDRS,
        3: Reason.NO_CDR,
        4: None,
    }


def test_a_cdr_source_that_does_not_answer_is_an_error_with_its_address() -> None:
    with pytest.raises(CallsError, match=r"redis://127\.102\.2\.9:1"):
        asyncio.run(finish(plan(HOST, 5083, 1), RedisCdrs("redis://127.102.2.9:1")))


def test_an_address_that_is_taken_is_an_error_with_the_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 5084))
        with pytest.raises(EngineError, match=r"127\.102\.2\.1:5084.*in use"):
            asyncio.run(finish(plan(HOST, 5084, 1)))


def test_a_stranger_at_the_callee_gets_a_sip_answer_and_noise_gets_none() -> None:
    async def run() -> bytes:
        async with CallGenerator(plan(HOST, 5085, 1)) as calls:
            await calls.until_established(timeout=5)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.settimeout(2)
                stranger.connect((HOST, 5085))
                stranger.send(b"\r\n\r\n")
                stranger.send(b"\xff" * 200)
                stranger.send(
                    b"INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n"
                    b"To: <sip:x@y>\r\nCall-ID: other\r\nCSeq: 1 INVITE\r\n\r\n"
                )
                answer = await asyncio.to_thread(stranger.recv, 4096)
            assert (await calls.finish(10)).all_kept
            return answer

    assert asyncio.run(run()).startswith(b"SIP/2.0 404 ")


def test_calls_keep_arriving_until_stopped_and_more_can_be_asked_for() -> None:
    async def run() -> Report:
        async with CallGenerator(plan(HOST, 5086, 5, keep_arriving=True, duration=(0.5, 0.7))) as calls:
            await calls.until_established(5, timeout=5)
            calls.more(12)
            await calls.until_established(12, timeout=5)
            await calls.until(lambda status: status.ended > 15, 10, "15 calls ended")
            return await calls.finish(10)

    report = asyncio.run(run())
    assert report.all_kept
    assert len(report.calls) > 25


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_one_json_document_and_ends_with_0(tmp_path: Path) -> None:
    picture = tmp_path / "calls.png"
    arguments = [f"sip:x@{HOST}:5087", "--listen", f"{HOST}:5087", "--calls", "4", "--duration", "1", "--json"]
    done = run_command(*arguments, "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["calls"], told["kept"], len(told["results"])) == (4, 4, 4)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "calls kept 4 of 4" in done.stderr


def test_the_command_of_the_documentation_runs_as_it_stands() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "calls.md").read_text()
    [block] = re.findall(r"^```sh\nsipfleet call (.*)\n```$", page, re.MULTILINE)
    done = run_command(*shlex.split(block))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_reason_is_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "calls.md").read_text()
    assert [reason for reason in Reason if f"`{reason}`" not in page] == []


def test_the_command_ends_with_1_when_a_call_is_not_kept() -> None:
    done = run_command(
        f"sip:x@{HOST}:5999", "--listen", f"{HOST}:5088", "--calls", "1", "--duration", "1", "--setup-time", "2"
    )
    assert done.returncode == 1, done.stderr
    assert "not_answered" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sip:x@example.test"], "--proxy"),
        (["sip:x@127.0.0.1", "--listen", "nowhere"], "nowhere"),
        (["sip:x@127.0.0.1", "--duration", "long"], "MIN-MAX"),
        (["sip:x@127.0.0.1", "--calls", "0"], "expected 1 to 10000"),
    ],
)
def test_wrong_settings_end_with_2_and_say_what_is_expected(arguments: list[str], complaint: str) -> None:
    done = run_command(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_hangs_up_and_prints_the_results() -> None:
    arguments = [f"sip:x@{HOST}:5089", "--listen", f"{HOST}:5089", "--calls", "5", "--duration", "60", "--json"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=quiet, text=True) as running:
        time.sleep(3)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=15)
    told = json.loads(output)
    assert (told["calls"], told["kept"]) == (5, 5)
    assert all(call["bye_status"] == 200 for call in told["results"])
    assert running.returncode == 0


def test_the_engine_ends_when_its_front_is_killed() -> None:
    arguments = [f"sip:x@{HOST}:5090", "--listen", f"{HOST}:5090", "--calls", "3", "--duration", "60"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        time.sleep(2.5)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 1
        running.kill()
    deadline = time.monotonic() + 6
    while os.path.exists(f"/proc/{children[0]}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{children[0]}")
