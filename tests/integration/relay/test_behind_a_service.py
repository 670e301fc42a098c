"""A relay behind a Service: a real node with DNAT and connection tracking between it and the phones.

Rules as kube-proxy makes them (DNAT to the pod) and as a network plugin does (what pods send by themselves leaves from
the node's address); phones with connected sockets, which hear nobody but the Service's address.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.peers.netns import Namespace
from tests.integration.peers.process import wait_for
from tests.integration.peers.redis_server import RedisServer
from tests.integration.relay.conftest import Asker, Phone, Relay

SERVICE = "192.0.2.77"
PORTS = "shared:1@30000"
HOME, OFFICE = "198.51.100.10", "203.0.113.20"
"""Where callers and callees are; all callees have one address, as those of a trunk do."""
NODE = "10.244.0.1"
PACKET_SECONDS = 0.02
FORGOTTEN = 16
"""Seconds of silence after which the node forgets: more than the 15 that keepalives are apart at most (RFC 6263 7)."""
MOST_LOST = 5
"""Packets, 100 ms."""


class Node:
    """A node with pods, a Service, and the two networks where the phones are."""

    def __init__(self) -> None:
        self.node, self.home, self.office = Namespace(), Namespace(), Namespace()
        self.pods: dict[str, Namespace] = {}
        self._rules: list[list[str]] = []
        self.node.forward()
        self.node.plug(self.home, "home", "198.51.100.1", HOME)
        self.node.plug(self.office, "office", "203.0.113.1", OFFICE)
        self.node.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.244.0.0/16", "!", "-d", "10.244.0.0/16",
                      "-j", "MASQUERADE")  # fmt: skip

    def pod(self, number: int) -> str:
        """A new pod; its address."""
        address = f"10.244.{number}.5"
        self.pods[address] = Namespace()
        self.node.plug(self.pods[address], f"pod{number}", f"10.244.{number}.1", address)
        return address

    def serve(self, pod: str) -> None:
        """The Service's only endpoint is this pod; entries of an earlier one go, as kube-proxy has it for UDP."""
        for rule in self._rules:
            self.node.run("iptables", "-t", "nat", "-D", *rule)
        self._rules = [
            ["PREROUTING", "-d", SERVICE, "-p", "udp", "--dport", str(port), "-j", "DNAT", "--to", f"{pod}:{port}"]
            for port in (30000, 30001)
        ]
        for rule in self._rules:
            self.node.run("iptables", "-t", "nat", "-A", *rule)
        self.flush()

    def flush(self) -> None:
        self.node.run("conntrack", "-F")

    def forget_soon(self) -> None:
        """Entries go after `FORGOTTEN` seconds without a packet, not after 30 or 120."""
        for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
            self.node.run("sysctl", "-q", "-w", f"net.netfilter.{name}={FORGOTTEN}")

    def opened_by(self, pod: str) -> list[str]:
        """Entries that the pod's own packets opened."""
        entries = self.node.run("conntrack", "-L", "-p", "udp").splitlines()
        return [entry for entry in entries if f" src={pod} " in entry.partition(" sport=")[0] + " "]

    def close(self) -> None:
        for namespace in (self.node, self.home, self.office, *self.pods.values()):
            namespace.close()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


class Call:
    """Two phones behind the node, and their call."""

    def __init__(self, node: Node, asker: Asker, call_id: str) -> None:
        self.asker, self.call_id = asker, call_id
        with node.home.inside():
            self.caller = Phone(HOME)
        with node.office.inside():
            self.callee = Phone(OFFICE)
        self.callee.faces(asker.ask("offer", call_id=call_id, from_tag="a", sdp=self.caller.sdp()).sdp)
        answer = asker.ask("answer", call_id=call_id, from_tag="a", to_tag="b", sdp=self.callee.sdp())
        self.caller.faces(answer.sdp)
        for phone in (self.caller, self.callee):
            assert phone.relay == (SERVICE, 30000)
            phone.rtp.connect(phone.relay)
            phone.rtcp.connect((phone.relay[0], phone.relay[1] + 1))

    def caller_reaches_callee(self, limit: float = 1.0) -> bool:
        return self.caller.speak() == self.callee.hears(limit)

    def callee_reaches_caller(self, limit: float = 1.0) -> bool:
        return self.callee.speak() == self.caller.hears(limit)

    def begin(self) -> bool:
        """Both speak; the relay has nothing to wait for any more."""
        self.callee_reaches_caller(0.1)
        return self.caller_reaches_callee() and self.audio()

    def audio(self) -> bool:
        return self.callee_reaches_caller() and self.caller_reaches_callee() and self.callee_reaches_caller()

    def close(self) -> None:
        self.caller.close()
        self.callee.close()


Start = Callable[..., tuple[Relay, Asker]]


@pytest.fixture
def relay(node: Node, tmp_path: Path) -> Iterator[Start]:
    """Starts a relay in a new pod behind the Service."""
    with ExitStack() as stack:
        numbers = itertools.count()

        def start(*flags: str, speak_first: bool = False) -> tuple[Relay, Asker]:
            pod = node.pod(next(numbers))
            file = tmp_path / f"{pod}.json"
            file.write_text(json.dumps({"interfaces": [f"{pod}!{SERVICE}"], "speak_first": speak_first}))
            started = Relay(
                tmp_path, "--interface", f"{pod}!{SERVICE}", "--config", str(file), *flags, ports=PORTS, host=pod
            )
            stack.callback(started.kill)
            node.serve(pod)
            with node.pods[pod].inside():
                started.start()
                asker = Asker(started.ng)
            stack.callback(asker.close)
            return started, asker

        yield start


@pytest.fixture
def calls(node: Node) -> Iterator[Callable[[Asker, int], list[Call]]]:
    made: list[Call] = []

    def make(asker: Asker, count: int) -> list[Call]:
        made.extend(Call(node, asker, f"c{len(made)}") for _ in range(count))
        return made[-count:]

    yield make
    for call in made:
        call.close()


MakeCalls = Callable[[Asker, int], list[Call]]
REPORT = bytes((0x81, 201, 0, 7)) + bytes(28)


def test_callees_that_the_relay_has_media_for_before_they_speak_are_heard(
    node: Node, relay: Start, calls: MakeCalls
) -> None:
    started, asker = relay()
    both = calls(asker, 2)
    for call in both:
        for _ in range(5):
            assert not call.caller_reaches_callee(0.02)
    assert node.opened_by(started.host) == []
    for call in both:
        assert call.audio()
        call.caller.rtcp.send(REPORT)
        time.sleep(0.05)
        call.callee.rtcp.send(REPORT)
        assert call.caller.rtcp.recv(2048) == REPORT
        call.caller.rtcp.send(REPORT)
        assert call.callee.rtcp.recv(2048) == REPORT
    assert node.opened_by(started.host) == []


def test_where_the_relay_speaks_first_such_callees_are_lost(node: Node, relay: Start, calls: MakeCalls) -> None:
    """The control: a relay that is not told that it is behind a Service."""
    started, asker = relay(speak_first=True)
    both = calls(asker, 2)
    for call in both:
        assert not call.caller_reaches_callee(0.1)
    assert len(node.opened_by(started.host)) == 2
    for call in both:
        assert not any(call.callee_reaches_caller(0.05) for _ in range(10))
        assert not any(call.caller_reaches_callee(0.05) for _ in range(10))


def test_listeners_that_never_speak_are_sent_to_after_two_seconds_and_heard_when_they_do(
    node: Node, relay: Start, calls: MakeCalls
) -> None:
    """All callees have one IP and wait on one port: only theirs tells them apart, so it has to stay what it is."""
    started, asker = relay()
    both = calls(asker, 2)
    end = time.monotonic() + 2.2
    while time.monotonic() < end:
        for call in both:
            call.caller.speak()
        time.sleep(PACKET_SECONDS)
    assert len(node.opened_by(started.host)) == 2
    for call in both:
        call.callee.speak()
        assert call.caller.hears() is not None
        assert call.audio()
    assert [event for event in started.events() if event["event"] == "source_moved"] == []


def stream(call: Call, seconds: float, then: Callable[[], None]) -> tuple[int, int]:
    """Both phones speak for so long, half-way something happens; packets lost on the way to caller and to callee."""
    phones = (call.caller, call.callee)
    sent, heard = [0, 0], [0, 0]
    began = due = time.monotonic()
    happened = False
    while due < began + seconds:
        for side, phone in enumerate(phones):
            phone.speak()
            sent[1 - side] += 1
        due += PACKET_SECONDS
        if not happened and due > began + seconds / 2:
            happened = True
            then()
        while (left := due - time.monotonic()) > 0:
            for side, phone in enumerate(phones):
                heard[side] += phone.hears(left / 4) is not None
    for side, phone in enumerate(phones):
        while phone.hears(0.2) is not None:
            heard[side] += 1
    return sent[0] - heard[0], sent[1] - heard[1]


def test_a_flush_of_connection_tracking_in_mid_call_costs_less_than_100_ms(
    node: Node, relay: Start, calls: MakeCalls
) -> None:
    _, asker = relay()
    (call,) = calls(asker, 1)
    assert call.begin()
    for _ in range(4):
        lost = stream(call, 1.6, node.flush)
        print(f"packets lost to the caller: {lost[0]}, to the callee: {lost[1]}")
        assert max(lost) <= MOST_LOST
    assert call.audio()


def test_a_call_in_silence_is_not_forgotten_by_the_node(node: Node, relay: Start, calls: MakeCalls) -> None:
    """Nobody speaks for longer than the node remembers; then the relay's packet to the callee comes first."""
    node.forget_soon()
    started, asker = relay()
    (call,) = calls(asker, 1)
    assert call.begin()
    time.sleep(FORGOTTEN + 2)  # that silence is what is tested: the kernel counts it, so no clock can be turned
    while call.caller.hears(0.01) is not None or call.callee.hears(0.01) is not None:
        pass  # keepalives
    assert call.caller_reaches_callee()
    assert call.callee_reaches_caller()
    assert node.opened_by(started.host) == []


def wrong_way(node: Node, relay: Relay, call: Call) -> None:
    """The node forgets the call, and the relay's packet to the callee is there before the callee's own."""
    node.flush()
    assert not call.caller_reaches_callee(0.1)
    assert len(node.opened_by(relay.host)) == 1


def test_a_callee_that_the_node_shows_under_another_port_after_a_flush_is_recognised(
    node: Node, relay: Start, calls: MakeCalls
) -> None:
    started, asker = relay()
    call, other, _ringing = calls(asker, 3)
    assert call.begin()
    assert other.begin()
    wrong_way(node, started, call)
    assert call.callee_reaches_caller()
    assert call.caller_reaches_callee()
    assert other.begin()
    moved = [[OFFICE, call.callee.port], [HOME, other.caller.port]]
    wait_for(
        lambda: [event["was"] for event in started.events() if event["event"] == "source_moved"] == moved,
        2,
        "both moves are logged",
    )


def test_without_the_stream_to_know_it_by_such_a_callee_is_lost(node: Node, relay: Start, calls: MakeCalls) -> None:
    """The control: the same, and the callee's stream has another SSRC from there on."""
    started, asker = relay()
    (call,) = calls(asker, 1)
    assert call.begin()
    wrong_way(node, started, call)
    call.callee.ssrc += 1
    assert not any(call.callee_reaches_caller(0.05) for _ in range(10))
    assert not any(call.caller_reaches_callee(0.05) for _ in range(10))


def test_a_pod_that_takes_the_place_of_a_killed_one_goes_on_with_its_calls(
    node: Node, relay: Start, calls: MakeCalls, tmp_path: Path
) -> None:
    with node.node.inside():
        redis = RedisServer(tmp_path, "0.0.0.0", 6379).start()
    try:
        flags = ("--store", f"redis://{NODE}:6379", "--pod-set", "pool", "--pod-name", "relay-0")
        old, asker = relay(*flags, "--pod-uid", "one")
        both = calls(asker, 2)
        assert all(call.begin() for call in both)
        time.sleep(0.1)
        old.kill()
        new, asker = relay(*flags, "--pod-uid", "two")
        assert new.host != old.host
        assert old.host not in new.log.read_text()
        with node.pods[new.host].inside():
            assert new.status()["restored"] == 2
        for call in both:
            assert not call.caller_reaches_callee(0.05)
            assert call.audio()
            assert asker.ask("delete", call_id=call.call_id, from_tag="a", to_tag="b").result == "ok"
        assert node.opened_by(new.host) == []
    finally:
        redis.kill()
