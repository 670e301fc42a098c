"""The peers themselves: what the other integration tests stand on serves, and is gone afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.peers.kamailio import Kamailio
from tests.integration.peers.probe import answers_ng, answers_options, is_bound
from tests.integration.peers.process import Peer, PeerError, wait_for
from tests.integration.peers.redis_server import RedisServer
from tests.integration.peers.rtpengine import Rtpengine
from tests.integration.peers.sipp import SippLoad, run_sipp


def test_redis_restarted_after_a_kill_is_empty_and_another_run(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("key", "value")
        first = client.info("server")["run_id"]
    redis_server.kill()
    redis_server.start()
    with redis_server.client() as client:
        assert client.get("key") is None
        assert client.info("server")["run_id"] != first


def test_rtpengine_answers_ng_and_leaves_nothing_behind(tmp_path: Path, loopback_address: Callable[[], str]) -> None:
    ng = (loopback_address(), 2223)
    with Rtpengine(tmp_path, ng, ng[0]) as peer:
        assert answers_ng(ng)
        pid = peer.pid
    assert not os.path.exists(f"/proc/{pid}")
    assert not is_bound(ng)


def test_a_peer_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="no such file"):
        Peer(["sh", "-c", "echo no such file; exit 3"], tmp_path / "log", ready=lambda: False).start()


def test_a_program_that_is_not_installed_is_an_error_not_a_skip(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"scripts/setup\.sh test"):
        Peer(["no-such-program"], tmp_path / "log")


def test_sipp_through_kamailio_keeps_every_call(tmp_path: Path, loopback_address: Callable[[], str]) -> None:
    proxy, callee, source = (loopback_address(), 5060), (loopback_address(), 5080), loopback_address()
    with Kamailio(tmp_path, proxy):
        assert answers_options(proxy)
        load = SippLoad(calls=100, rate=50, hold_ms=1000, limit=30)
        outcome = run_sipp(tmp_path / "sipp", load, proxy=proxy, callee=callee, source=source)
    assert outcome.status == 0, str(outcome)
    assert outcome.counters.successful == 100, str(outcome)
    assert (outcome.verdict.kept, outcome.verdict.lost) == (100, {}), str(outcome)


def test_sipp_reports_lost_calls_when_the_only_proxy_is_killed(
    tmp_path: Path, loopback_address: Callable[[], str]
) -> None:
    """The control of the test above and of all tests that kill a proxy: this harness can say "lost"."""
    proxy, callee, source = (loopback_address(), 5060), (loopback_address(), 5080), loopback_address()
    with Kamailio(tmp_path, proxy) as kamailio:
        load = SippLoad(calls=20, rate=20, hold_ms=2500, limit=6)

        def kill_when_up(caller: object) -> None:
            wait_for(lambda: (tmp_path / "sipp" / "uas.msg").read_text().count("\nACK ") == 20, 5, "20 calls are up")
            kamailio.kill()

        outcome = run_sipp(tmp_path / "sipp", load, proxy=proxy, callee=callee, source=source, during=kill_when_up)
    assert outcome.status == -signal.SIGKILL
    assert (outcome.verdict.answered, outcome.verdict.kept, len(outcome.verdict.lost)) == (20, 0, 20), str(outcome)
