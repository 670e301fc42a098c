"""A relay's pod is replaced by one with another address behind the same Service; one configuration file for both."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.peers.process import wait_for
from tests.integration.peers.redis_server import RedisServer
from tests.integration.relay.conftest import Asker, Phone, Relay, next_address
from tests.integration.relay.service import Service


class Call:
    """Two phones that know a relay by its Service only."""

    def __init__(self, asker: Asker, service: Service, call_id: str) -> None:
        self.call_id = call_id
        self.caller, self.callee = Phone(next_address()), Phone(next_address())
        shown = {phone: next_address() for phone in (self.caller, self.callee)}
        offer = asker.ask("offer", call_id=call_id, from_tag="a", sdp=self._sdp(self.caller, shown))
        self.callee.faces(offer.sdp)
        answer = asker.ask("answer", call_id=call_id, from_tag="a", to_tag="b", sdp=self._sdp(self.callee, shown))
        self.caller.faces(answer.sdp)
        for phone, ip in shown.items():
            assert phone.relay[0] == service.address
            phone.rtp.connect(phone.relay)
            service.admit((phone.address, phone.port), ip, phone.relay[1])

    def _sdp(self, phone: Phone, shown: dict[Phone, str]) -> str:
        return re.sub(r"127\.[\d.]+", shown[phone], phone.sdp())

    def to_callee(self, limit: float = 1.0) -> bool:
        return self.caller.speak() == self.callee.hears(limit)

    def to_caller(self, limit: float = 1.0) -> bool:
        return self.callee.speak() == self.caller.hears(limit)

    def begin(self) -> bool:
        """Both have spoken, one after the other, and hear each other."""
        self.to_callee(0.05)
        return self.to_caller() and self.to_callee() and self.to_caller()

    def close(self) -> None:
        self.caller.close()
        self.callee.close()


Pod = Callable[[str, bool], tuple[Relay, Asker]]


@pytest.fixture
def service(ports: str) -> Iterator[Service]:
    first = int(re.findall(r"\d+", ports)[-1 if "@" in ports else 0])
    with Service(next_address(), range(first, first + 32)) as made:
        yield made


@pytest.fixture
def pod(tmp_path: Path, redis_server: RedisServer, service: Service, ports: str) -> Iterator[Pod]:
    """Starts the pod relay-0 under another UID and at another address each time."""
    slots = tmp_path / "slots.json"
    slots.write_text(json.dumps({"0": service.address}))
    with ExitStack() as stack:

        def start(uid: str, speak_first: bool) -> tuple[Relay, Asker]:
            file = tmp_path / "relay.json"
            file.write_text(
                json.dumps(
                    {
                        "pod": {"set": "pool", "name": "${POD_NAME}", "object_uid": "${POD_UID}"},
                        "ng": "${POD_IP}:2223",
                        "admin": "${POD_IP}:8080",
                        "interfaces": ["${POD_IP}"],
                        "slots_file": str(slots),
                        "ports": ports,
                        "speak_first": speak_first,
                        "store": redis_server.url,
                    }
                )
            )
            host = next_address()
            relay = Relay(tmp_path, env={"POD_NAME": "relay-0", "POD_UID": uid, "POD_IP": host}, ports=ports, host=host)
            relay.argv = [*relay.argv[:3], "--config", str(file)]
            stack.callback(relay.kill)
            service.point(host)
            relay.start()
            asker = Asker(relay.ng)
            stack.callback(asker.close)
            return relay, asker

        yield start


@pytest.fixture
def calls(service: Service) -> Iterator[Callable[[Asker], list[Call]]]:
    made: list[Call] = []

    def make(asker: Asker) -> list[Call]:
        made.extend(Call(asker, service, f"c{number}") for number in range(4))
        return made

    yield make
    for call in made:
        call.close()


MakeCalls = Callable[[Asker], list[Call]]
both_modes = pytest.mark.parametrize("ports", ["shared:4@30000", "30000-30031"])


@both_modes
def test_calls_go_on_at_a_pod_with_another_address(
    pod: Pod, service: Service, calls: MakeCalls, redis_server: RedisServer
) -> None:
    old, asker = pod("one", False)
    up = calls(asker)
    assert all(call.begin() for call in up)
    with redis_server.client() as client:
        for record in client.hvals("sf:default/pool:sessions:relay-0"):
            assert old.host.encode() not in record
            assert service.address.encode() in record
        time.sleep(0.1)
        old.kill()
        new, asker = pod("two", False)
        assert new.host != old.host
        status = new.status()
        assert (status["restored"], status["not_restored"], status["speak_first"]) == (4, 0, False)
        assert all(call.begin() for call in up)
        assert service.lost == 0
        for call in up:
            assert asker.ask("delete", call_id=call.call_id, from_tag="a", to_tag="b").result == "ok"
        wait_for(lambda: client.hlen("sf:default/pool:sessions:relay-0") == 0, 2, "no session is left")


@both_modes
def test_a_party_that_comes_back_from_another_port_is_known_by_the_stored_stream(
    pod: Pod, service: Service, calls: MakeCalls
) -> None:
    """The new pod speaks first, as it should not here: every callee then has another port."""
    old, asker = pod("one", False)
    up = calls(asker)
    assert all(call.begin() for call in up)
    time.sleep(0.1)
    old.kill()
    new, asker = pod("two", True)
    for call in up:
        assert not call.to_callee(0.05)
    assert service.lost == 4
    for call in up:
        assert call.to_caller()
        assert call.to_callee()
    wait_for(
        lambda: [event["event"] for event in new.events()].count("source_moved") == 4, 2, "each callee has moved once"
    )


@both_modes
def test_whose_stream_is_another_one_is_not_known(pod: Pod, service: Service, calls: MakeCalls) -> None:
    """The control of the test above."""
    old, asker = pod("one", False)
    up = calls(asker)
    assert all(call.begin() for call in up)
    time.sleep(0.1)
    old.kill()
    pod("two", True)
    for call in up:
        assert not call.to_callee(0.05)
        call.callee.ssrc += 1
    assert not any(call.to_caller(0.05) or call.to_callee(0.05) for call in up)
