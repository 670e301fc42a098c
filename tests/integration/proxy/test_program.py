"""One `sipproxy`: what it says, how it starts and ends, what it does with its sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.peers.fleet import Sipproxy, status_of
from tests.integration.peers.process import wait_for
from tests.integration.proxy.phones import Line, Phone
from tests.unit.proxy.harness import request, start_line

DOMAIN = "example.test"
BOB_PORT = 5080


class Place:
    """A proxy at an address of its own, and a callee."""

    def __init__(self, work: Path, proxy: str, callee: str) -> None:
        self.work, self.address, self.callee = work, (proxy, 5060), (callee, BOB_PORT)
        self.raw: dict[str, Any] = {
            "pod": {"name": "proxy-0"},
            "listeners": [{"address": proxy, "port": 5060}],
            "admin": f"{proxy}:9090",
            "domains": [DOMAIN],
            "routes": [{"domain": DOMAIN, "targets": [f"sip:{callee}:{BOB_PORT}"]}],
        }

    def proxy(self, **changes: Any) -> Sipproxy:
        return Sipproxy(self.work, {**self.raw, **changes})

    def phones(self) -> tuple[Phone, Phone]:
        return Phone((self.callee[0], 0), self.address), Phone(self.callee)


@pytest.fixture
def place(tmp_path: Path, loopback_address: Callable[[], str]) -> Place:
    return Place(tmp_path, loopback_address(), loopback_address())


@pytest.fixture
def running(place: Place) -> Iterator[tuple[Place, Sipproxy]]:
    with place.proxy() as proxy:
        yield place, proxy


def admin(proxy: Sipproxy, method: str, path: str) -> tuple[int, str]:
    url = f"http://{proxy.admin[0]}:{proxy.admin[1]}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_call_goes_through_and_is_counted(running: tuple[Place, Sipproxy]) -> None:
    place, proxy = running
    alice, bob = place.phones()
    with alice, bob:
        line = Line(alice, bob, DOMAIN, "one").up()
        assert status_of(proxy.admin)["active"] == 1
        # What the autoscaler asks a Prometheus for (docs/scaling.md).
        scraped = admin(proxy, "GET", "/metrics")[1]
        assert 'sipfleet_proxy_dialogs{cluster="standalone",namespace="default",pod="proxy-0"} 1.0' in scraped
        line.down()
    assert status_of(proxy.admin)["active"] == 0
    status, text = admin(proxy, "GET", "/metrics")
    assert status == 200
    assert 'sipfleet_proxy_answered_total{cluster="standalone",namespace="default",pod="proxy-0"} 1.0' in text
    logged = [json.loads(row) for row in proxy.log.read_text().splitlines()]
    [ended] = [row for row in logged if row["event"] == "call-ended"]
    assert ended["call_id"].startswith("one@")


def test_routes_are_reloaded_and_what_cannot_change_is_refused(running: tuple[Place, Sipproxy]) -> None:
    place, proxy = running
    config = place.work / "proxy-0.json"
    alice, bob = place.phones()
    with alice, bob:
        config.write_text(json.dumps({**place.raw, "routes": []}))
        assert admin(proxy, "POST", "/reload")[0] == 200
        alice.send(request("OPTIONS", f"sip:bob@{DOMAIN}", source=alice.address))
        assert start_line(alice.hear("SIP/2.0")).split()[1] == "404"
        config.write_text(json.dumps({**place.raw, "capacity": 7}))
        status, text = admin(proxy, "POST", "/reload")
        assert (status, "capacity" in text) == (409, True)
        config.write_text(json.dumps({**place.raw, "routes": [{"targets": ["sip:nobody"]}]}))
        status, text = admin(proxy, "POST", "/reload")
        assert (status, "$.routes[0].targets[0]" in text) == (409, True)
        config.write_text("{")
        assert admin(proxy, "POST", "/reload")[0] == 409
        alice.send(request("OPTIONS", f"sip:bob@{DOMAIN}", source=alice.address, branch="2"))
        assert start_line(alice.hear("SIP/2.0")).split()[1] == "404"


def logged(proxy: Sipproxy, event: str) -> list[dict[str, Any]]:
    rows = [json.loads(row) for row in proxy.log.read_text().splitlines() if row.startswith("{")]
    return [row for row in rows if row["event"] == event]


def test_a_file_that_is_replaced_is_loaded_by_itself_and_a_bad_one_is_told_once(
    running: tuple[Place, Sipproxy],
) -> None:
    place, proxy = running
    config = place.work / "proxy-0.json"

    def write(**changes: Any) -> None:
        part = place.work / "part"
        part.write_text(json.dumps({**place.raw, **changes}))
        part.replace(config)

    alice, bob = place.phones()
    with alice, bob:
        write(routes=[])
        wait_for(lambda: len(logged(proxy, "reloaded")) == 1, 3, "it is loaded")
        alice.send(request("OPTIONS", f"sip:bob@{DOMAIN}", source=alice.address))
        assert start_line(alice.hear("SIP/2.0")).split()[1] == "404"
        write(capacity=7)
        wait_for(lambda: bool(logged(proxy, "reload-refused")), 3, "it is refused")
        time.sleep(2.2)
        [refused] = logged(proxy, "reload-refused")
        assert "capacity" in refused["error"]
        write()
        wait_for(lambda: len(logged(proxy, "reloaded")) == 2, 3, "the good one is loaded")
        Line(alice, bob, DOMAIN, "after").up().down()
        assert admin(proxy, "POST", "/reload") == (200, "reloaded\n")
        time.sleep(1.2)
        assert len(logged(proxy, "reloaded")) == 3, "what was asked for is not loaded a second time"


def test_what_differs_between_pods_comes_from_the_environment(place: Place) -> None:
    host, port = place.address
    raw = {
        **place.raw,
        "pod": {"name": "proxy-0", "object_uid": "${POD_UID}", "revision": "${REVISION}"},
        "listeners": [{"address": "${POD_IP}", "port": port}],
        "internal": "[${POD_IP}]:5070",
    }
    uids = []
    for _ in range(2):
        with Sipproxy(place.work, raw, {"POD_UID": "6f1c-11", "POD_IP": host, "REVISION": "r"}) as proxy:
            uids.append(str(status_of(proxy.admin)["uid"]))
            assert admin(proxy, "POST", "/reload")[0] == 200, "the same file is no change of the pod"
            alice, bob = place.phones()
            with alice, bob:
                Line(alice, bob, DOMAIN, f"env{len(uids)}").up().down()
    assert [uid.partition(".")[0] for uid in uids] == ["6f1c-11"] * 2
    assert uids[0] != uids[1], "a container that is restarted in place is another incarnation"


def test_a_dead_target_is_noticed_at_once_by_its_icmp_error(place: Place) -> None:
    dead = f"sip:{place.callee[0]}:5999"
    routes = [{"domain": DOMAIN, "targets": [dead, f"sip:{place.callee[0]}:{BOB_PORT}"]}]
    with place.proxy(routes=routes):
        alice, bob = place.phones()
        with alice, bob:
            began = time.monotonic()
            for i in range(3):
                Line(alice, bob, DOMAIN, f"c{i}").up().down()
            assert time.monotonic() - began < 0.5


def test_sigterm_waits_for_the_calls_and_sigint_does_not(place: Place) -> None:
    with place.proxy() as proxy:
        alice, bob = place.phones()
        with alice, bob:
            line = Line(alice, bob, DOMAIN, "long").up()
            os.kill(proxy.pid, signal.SIGTERM)
            wait_for(lambda: status_of(proxy.admin)["draining"], 2, "it drains")
            time.sleep(0.3)
            assert proxy.running
            line.down()
            assert proxy.wait(3) == 0
    with place.proxy() as proxy:
        alice, bob = place.phones()
        with alice, bob:
            Line(alice, bob, DOMAIN, "cut").up()
        os.kill(proxy.pid, signal.SIGINT)
        assert proxy.wait(3) == 0


def test_a_lone_proxy_that_drains_is_still_there_for_its_calls(running: tuple[Place, Sipproxy]) -> None:
    place, proxy = running
    alice, bob = place.phones()
    with alice, bob:
        line = Line(alice, bob, DOMAIN, "before").up()
        assert admin(proxy, "POST", "/drain")[0] == 200
        alice.send(request("INVITE", f"sip:bob@{DOMAIN}", source=alice.address, branch="new", call_id="new"))
        assert start_line(alice.hear("SIP/2.0")).split()[1] == "503"
        line.down()
        assert admin(proxy, "POST", "/uncordon")[0] == 200
        Line(alice, bob, DOMAIN, "after").up().down()


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"listeners": [{"address": "127.0.0.1", "prot": 1}]}, 2, "prot"),
        ({"listeners": []}, 2, "$.listeners"),
        ({"routes": [{"targets": ["sip:name.example"]}]}, 2, "$.routes[0].targets[0]"),
        ({"store": "http://x"}, 2, "redis://"),
        ({"listeners": [{"address": "192.0.2.1"}]}, 1, "192.0.2.1"),
        ({"pod": {"name": "${NOT_SET_HERE}"}}, 2, "$.pod.name: ${NOT_SET_HERE} given"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told_and_ends_it(
    place: Place, change: dict[str, Any], status: int, says: str
) -> None:
    config = place.work / "bad.json"
    config.write_text(json.dumps({**place.raw, **change}))
    done = subprocess.run(
        [sys.executable, "-m", "sipproxy", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_that_arrives_can_end_it(running: tuple[Place, Sipproxy]) -> None:
    place, proxy = running
    alice, bob = place.phones()
    good = request("INVITE", f"sip:bob@{DOMAIN}", source=alice.address)
    with alice, bob:
        for cut in range(0, len(good), 7):
            alice.send(good[:cut] or b"\r\n\r\n")
        for evil in (b"\0" * 2000, b"\xff" * 65000, b"SIP/2.0 200 OK\r\n\r\n", good.replace(b":", b""), good * 20):
            alice.send(evil)
        options = request("OPTIONS", f"sip:{place.address[0]}", source=alice.address, branch="fine", call_id="fine")
        alice.send(options)
        alice.hear("SIP/2.0 200")
    assert proxy.running
    assert "internal-error" not in proxy.log.read_text()


def test_it_speaks_ipv6(place: Place) -> None:
    listeners = [{"address": "::1", "port": 5066}]
    routes = [{"domain": DOMAIN, "targets": ["sip:[::1]:5086"]}]
    phones = Phone(("::1", 0), ("::1", 5066)), Phone(("::1", 5086))
    with place.proxy(listeners=listeners, routes=routes), phones[0] as alice, phones[1] as bob:
        Line(alice, bob, DOMAIN, "six").up().down()
