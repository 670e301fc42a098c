"""A relay whose advertised address belongs to its slot, and a configuration file that is replaced under it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peers.probe import answers_ng
from tests.integration.peers.process import Peer, wait_for
from tests.integration.relay.conftest import Asker, Phone, Relay, next_address


class Pod(Relay):
    """A relay that reads a file made for all pods of its revision."""

    def __init__(self, work: Path) -> None:
        self.host = next_address()
        self.ng = (self.host, 2223)
        self.admin = (self.host, 8080)
        self.slots = work / "slots.json"
        self.file = work / "config.json"
        self.write({})
        env = {"POD_NAME": "media-1", "POD_UID": "6f1c", "POD_IP": self.host}
        argv = [sys.executable, "-m", "rtprelay", "--config", str(self.file)]
        Peer.__init__(self, argv, work / "rtprelay.log", lambda: self.get("/livez")[0] == 200, env)

    def write(self, changes: dict[str, object]) -> None:
        raw = {
            "pod": {"set": "media", "name": "${POD_NAME}", "object_uid": "${POD_UID}"},
            "ng": "[${POD_IP}]:2223",
            "admin": "[${POD_IP}]:8080",
            "interfaces": ["core/${POD_IP}"],
            "slots_file": str(self.slots),
        }
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({**raw, **changes}))
        part.replace(self.file)

    def named(self, event: str) -> list[dict[str, object]]:
        return [row for row in self.events() if row["event"] == event]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    with Pod(tmp_path) as pod:
        yield pod


def test_it_lives_and_is_not_ready_until_its_slot_has_an_address(pod: Pod) -> None:
    assert (pod.get("/livez")[0], pod.get("/readyz")[0], pod.get("/status")[0]) == (200, 503, 503)
    for text in ("{", json.dumps({"0": "198.51.100.6"}), json.dumps({"1": "2001:db8::7"})):
        pod.slots.write_text(text)
        time.sleep(0.6)
        assert (pod.get("/livez")[0], pod.get("/readyz")[0]) == (200, 503)
    assert not answers_ng(pod.ng)
    assert len(pod.named("waiting_for_slot_address")) == 1, "one line in ten seconds"
    pod.slots.write_text(json.dumps({"0": "198.51.100.6", "1": "198.51.100.7"}))
    wait_for(lambda: pod.get("/readyz")[0] == 200, 3, "it is ready")
    assert pod.status()["interfaces"] == [f"core/{pod.host}!198.51.100.7"]
    assert str(pod.status()["uid"]).startswith("6f1c.")
    asker, phone = Asker(pod.ng), Phone(next_address())
    offer = asker.ask("offer", call_id="c", from_tag="a", sdp=phone.sdp())
    assert b"c=IN IP4 198.51.100.7\r\n" in offer.sdp
    asker.close()
    phone.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_relay_that_waits_ends_at_once_when_it_is_told_to(pod: Pod, number: signal.Signals) -> None:
    os.kill(pod.pid, number)
    assert pod.wait(2) == 0


def test_a_file_that_is_replaced_is_loaded_by_itself_and_a_bad_one_is_told_once(pod: Pod) -> None:
    pod.slots.write_text(json.dumps({"1": "198.51.100.7"}))
    wait_for(lambda: pod.get("/readyz")[0] == 200, 3, "it is ready")
    pod.write({"capacity": 7})
    wait_for(lambda: pod.status()["capacity"] == 7, 3, "it is loaded")
    pod.write({"ports": "20000-20100"})
    wait_for(lambda: bool(pod.named("reload_refused")), 3, "it is refused")
    time.sleep(2.2)
    [refused] = pod.named("reload_refused")
    assert "ports" in str(refused["error"])
    assert pod.status()["capacity"] == 7
    pod.write({"capacity": 8, "pod": {"set": "media", "name": "${NOT_SET_HERE}"}})
    wait_for(lambda: len(pod.named("reload_refused")) == 2, 3, "it is refused")
    pod.write({"capacity": 9})
    wait_for(lambda: pod.status()["capacity"] == 9, 3, "the good one is loaded")
    assert len(pod.named("reloaded")) == 2
