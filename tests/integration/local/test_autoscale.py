"""A pool that follows its sessions: real relays, real sessions by the ng protocol, real leases."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sipcore import ng
from tests.integration.local.up import Up

POOL = """
apiVersion: sipfleet.io/v1alpha1
kind: MediaPool
metadata: {name: t-media}
spec:
  capacity: 5
  autoscale: {min: 1, max: 3, freeCapacity: 2, scaleUp: {pods: 1, period: 1}, scaleDown: {window: 1}}
  ports: {mode: range, min: 20000, max: 20399}
"""
SDP = "v=0\r\no=t 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"


class Asker:
    """Makes and ends sessions on one relay."""

    def __init__(self, relay: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(2.0)
        self._socket.connect((relay, 2223))

    def offer(self) -> str:
        call = secrets.token_hex(6)
        assert self._ask("offer", call, {"sdp": SDP}) == "ok"
        return call

    def delete(self, call: str) -> None:
        assert self._ask("delete", call, {"delete-delay": 0}) == "ok"

    def _ask(self, command: str, call: str, more: dict[str, str | int]) -> str:
        cookie = secrets.token_hex(4).encode()
        self._socket.send(ng.request(cookie, command, {"call-id": call, "from-tag": "a", **more}))
        return ng.parse_reply(self._socket.recv(65536)).result

    def close(self) -> None:
        self._socket.close()


@contextmanager
def asker(relay: str) -> Iterator[Asker]:
    one = Asker(relay)
    try:
        yield one
    finally:
        one.close()


def test_a_pool_grows_with_its_sessions_and_shrinks_when_they_end_without_cutting_one(tmp_path: Path) -> None:
    with Up(tmp_path, POOL, "t-media") as up:
        assert sorted(up.pods()) == ["t-media-0"]
        with asker(up.pods()["t-media-0"]["address"]) as first:
            calls = [first.offer() for _ in range(4)]  # 4 of 5 used, 2 shall be free
            up.until(lambda: len(up.pods()) == 2 and up.ready(), "the second relay")
            with asker(up.pods()["t-media-1"]["address"]) as second:
                kept = second.offer()
                for call in calls:
                    first.delete(call)
                up.until(lambda: up.pods()["t-media-1"]["draining"], "the drain of the second")
                assert up.pods()["t-media-1"]["active"] == 1
                assert up.get("mediapools")[0]["spec"].get("replicas") is None
                second.delete(kept)
            up.until(lambda: sorted(up.pods()) == ["t-media-0"], "one relay again")
        assert up.pods()["t-media-0"]["restarts"] == 0
