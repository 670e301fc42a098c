"""A phone behind a port-restricted NAT calls a trunk on a public address, through a proxy and a relay between them.
between.

home 192.168.77.2 --- nat 192.168.77.1 | 198.51.100.2 --- core 198.51.100.1 | 203.0.113.1 --- world 203.0.113.2
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.peers.process import Peer

from sipfleet.calls import CallGenerator, CallPlan, EngineError, Report

PROXY, PUBLIC, TRUNK = "198.51.100.1", "198.51.100.2", ("203.0.113.2", 5080)
NG = "127.0.0.1:2223"
FORGETS_AFTER = 2
"""Seconds of silence after which the NAT forgets a flow."""


class Places:
    """The four network namespaces; each name is this process's own."""

    NAMES = ("home", "nat", "core", "world")

    def __enter__(self) -> Places:
        try:
            for place in self.NAMES:
                _run("ip", "netns", "add", self.name(place))
                self.ip(place, "link set lo up")
            self._plug("home", "192.168.77.2", "nat", "192.168.77.1", "lan")
            self._plug("nat", PUBLIC, "core", PROXY, "front")
            self._plug("world", TRUNK[0], "core", "203.0.113.1", "back")
            self.ip("home", "route add default via 192.168.77.1")
            self.ip("nat", f"route add default via {PROXY}")
            self.ip("world", "route add default via 203.0.113.1")
            for place in ("nat", "core"):
                self.run(place, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self.run("nat", "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
            self.run(
                "nat", "iptables", "-A", "FORWARD", "-i", "eth0", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"
            )
            # As a router at home: what nobody behind it asked for is dropped without a word.
            self.run("nat", "iptables", "-A", "INPUT", "-i", "eth0", "-p", "udp", "-j", "DROP")
            for name in ("udp_timeout", "udp_timeout_stream"):
                self.run("nat", "sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}={FORGETS_AFTER}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for place in self.NAMES:
            subprocess.run(["ip", "netns", "delete", self.name(place)], stderr=subprocess.DEVNULL, check=False)

    def _plug(self, near: str, near_address: str, far: str, far_address: str, port: str) -> None:
        """A cable from `eth0` of one place to `port` of another."""
        self.ip(near, f"link add eth0 type veth peer name {port} netns {self.name(far)}")
        for place, address, device in ((near, near_address, "eth0"), (far, far_address, port)):
            self.ip(place, f"address add {address}/24 dev {device}")
            self.ip(place, f"link set {device} up")

    def name(self, place: str) -> str:
        return f"sf{os.getpid()}-{place}"

    def path(self, place: str) -> str:
        return f"/run/netns/{self.name(place)}"

    def ip(self, place: str, command: str) -> None:
        _run("ip", "-n", self.name(place), *command.split())

    def run(self, place: str, *argv: str) -> None:
        _run(*self.inside(place), *argv)

    def inside(self, place: str) -> list[str]:
        return ["nsenter", f"--net={self.path(place)}", "--"]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with Places() as made:
        yield made


@pytest.fixture(scope="module", params=["20000-20999", "shared:4@20000"])
def cluster(request: pytest.FixtureRequest, places: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Proxy and relay in `core`; the relay's ports are of both kinds, one after the other."""
    work: Path = tmp_path_factory.mktemp("core")
    config = {
        "domains": ["example.test"],
        "listeners": [{"address": PROXY}],
        "routes": [{"domain": "example.test", "targets": [f"sip:{TRUNK[0]}:{TRUNK[1]}"]}],
        "media": {"relays": [NG]},
    }
    path = work / "proxy.json"
    path.write_text(json.dumps(config))
    flags = ["--ng", NG, "--interface", PROXY, "--ports", request.param]
    programs = (("rtprelay", flags), ("sipproxy", ["--config", str(path)]))
    with ExitStack() as stack:
        for name, arguments in programs:
            argv = [*places.inside("core"), sys.executable, "-m", name, *arguments]
            log = work / f"{name}.log"

            def started(log: Path = log) -> bool:
                return log.exists() and "started" in log.read_text()

            stack.enter_context(Peer(argv, log, started))
        yield


def plan(places: Places, calls: int, duration: tuple[float, float], **settings: object) -> CallPlan:
    """Calls from `home` to the trunk in `world`."""
    usual: dict[str, object] = {
        "target": "sip:trunk@example.test",
        "proxy": (PROXY, 5060),
        "listen": TRUNK,
        "rate": 20.0,
    }
    there = {"caller_netns": places.path("home"), "callee_netns": places.path("world"), "ring": (0.0, 0.1), "t1": 0.1}
    return CallPlan(**{**usual, **there, "calls": calls, "duration": duration, **settings})  # type: ignore[arg-type]


def judged(planned: CallPlan) -> Report:
    async def run() -> Report:
        async with CallGenerator(planned) as calls:
            return await calls.finish(60)

    return asyncio.run(run())


def details(report: Report) -> list[str]:
    return [call.detail for call in report.calls if not call.kept][:5]


@pytest.mark.usefixtures("cluster")
def test_the_calls_of_a_phone_behind_a_nat_are_kept(places: Places) -> None:
    report = judged(plan(places, 20, (3.0, 5.0), keepalive=1.0))
    assert report.reasons() == {}, details(report)
    assert len(report.calls) == 20
    assert max(call.lost for call in report.calls) <= 5
    assert report.control.received > 100


@pytest.mark.usefixtures("cluster")
def test_without_keepalives_the_nat_forgets_the_phone_and_the_judge_says_so(places: Places) -> None:
    report = judged(plan(places, 4, (4.0, 4.5)))
    assert {call.bye_by for call in report.calls if not call.kept} == {"callee"}
    assert report.reasons() == {"bye_unanswered": 2}, details(report)


@pytest.mark.usefixtures("cluster")
def test_the_command_of_the_documentation_runs_as_it_stands(places: Places) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "calls.md").read_text()
    [block] = re.findall(r"^sipfleet (call .*\\\n.*)$", page, re.MULTILINE)
    words = shlex.split(block.replace("\\\n", "").replace("/run/netns/", "/run/netns/" + places.name("")))
    program = str(Path(sys.executable).with_name("sipfleet"))
    done = subprocess.run(
        [program, *words, "--calls", "2", "--duration", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_relay_nobody_reaches_the_phone(places: Places) -> None:
    target = f"sip:trunk@{TRUNK[0]}:{TRUNK[1]}"
    report = judged(plan(places, 2, (1.0, 1.0), target=target, proxy=TRUNK))
    assert report.reasons() == {"no_audio": 2}
    assert {call.detail for call in report.calls} == {"the caller heard nothing"}


def test_a_namespace_that_is_not_there_is_said(places: Places) -> None:
    with pytest.raises(EngineError, match="network namespace /run/netns/nowhere: No such file"):
        judged(plan(places, 1, (1.0, 1.0), callee_netns="/run/netns/nowhere"))


def test_a_namespace_without_loopback_is_refused(places: Places) -> None:
    places.ip("home", "link set lo down")
    try:
        with pytest.raises(EngineError, match=r"192\.168\.77\.2 to itself does not arrive"):
            judged(plan(places, 1, (1.0, 1.0)))
    finally:
        places.ip("home", "link set lo up")
