"""Nothing that arrives on a socket raises, and nothing that it sends grows without a bound."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtprelay.core import match
from rtprelay.core.events import Source
from sipcore import bencode, ng
from sipcore.rtp import RtpPacket
from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, port, rtp

KEYS = st.sampled_from(
    [
        *("command", "call-id", "from-tag", "to-tag", "via-branch", "sdp", "flags", "replace", "direction", "limit"),
        *("address-family", "received-from", "rtcp-mux", "transport-protocol", "ICE", "metadata"),
    ]
)
SDPS = st.sampled_from([body(CALLER), body(CALLEE), body(CALLER, address="0.0.0.0"), "v=0", ""])
WORDS = st.sampled_from(["offer", "answer", "delete", "query", "list", "ping", "a", "b", "call", "IP4", "IP6", "demux"])
VALUES = st.integers() | st.binary(max_size=30) | WORDS | SDPS
FIELDS = st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3), max_size=8)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FIELDS, max_size=6))
def test_any_commands_get_an_answer_and_leave_a_working_relay(commands: list[dict[str, object]]) -> None:
    bed = Bed()
    for number, fields in enumerate(commands):
        answer = bed.raw(ng.request(b"x%d" % number, str(fields.get("command", "offer")), fields))  # type: ignore[arg-type]
        assert answer is not None
        assert ng.parse_reply(answer).result in ("ok", "error", "pong", "load limit")
    bed.wait(400)
    ports = bed.call("fresh", ("198.51.100.88", 4000), ("203.0.113.88", 5000))
    assert bed.packet(rtp(), ports[0], ("198.51.100.88", 4000)) == (ports[1], ("203.0.113.88", 5000))


@given(st.binary(max_size=200))
def test_any_datagram_on_the_ng_port_is_survived(data: bytes) -> None:
    bed = Bed()
    bed.raw(data)
    bed.raw(b"k " + data)
    assert bed.ask("ping").result == "pong"


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.binary(max_size=60), st.sampled_from([CALLER, CALLEE, ("198.51.100.10", 9)])), max_size=20)
)
@pytest.mark.parametrize("ports", ["30000-30199", "shared:1@30000"])
def test_any_packets_on_media_ports_are_survived(ports: str, packets: list[tuple[bytes, tuple[str, int]]]) -> None:
    bed = Bed(ports)
    to_caller, to_callee = bed.call()
    for data, source in packets:
        for number in {to_caller, to_callee, to_caller + 1, to_callee + 1}:
            bed.packet(data, number, source)
    assert bed.packet(rtp(), to_caller, CALLER) == (to_callee, CALLEE)


def test_cut_and_flipped_commands_are_survived() -> None:
    rng = Random(3)
    bed = Bed()
    whole = bencode.encode({"command": "offer", "call-id": "c", "from-tag": "a", "sdp": body(CALLER)})
    for number in range(3000):
        data = bytearray(whole[: rng.randrange(len(whole) + 1)])
        for _ in range(rng.randrange(3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        assert bed.raw(b"%d " % number + bytes(data)) is not None
    assert bed.ask("ping").result == "pong"


def test_the_answers_kept_are_bounded() -> None:
    bed = Bed()
    for number in range(30_000):
        bed.raw(b"%d d7:command4:pinge" % number)
    answers = bed.core._answers
    assert len(answers._young) + len(answers._old) <= 10_000


def test_quiet_sources_of_a_port_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "QUIET_SOURCES", 50)
    bed = Bed("shared:1@30000")
    for number in range(100):
        bed.call("c", ("198.51.100.10", 1024 + number), ("203.0.113.20", 1024 + number))
        bed.ask("delete", call_id="c", from_tag="a")
    assert len(bed.core.port(bed.handle(30000)).quiet) == 50  # type: ignore[union-attr]


def test_random_calls_never_hear_one_another() -> None:
    """Thousands of random steps on three shared ports, late packets of ended calls among them.

    A packet may be lost; it never reaches another call.
    """
    rng = Random(11)
    bed = Bed("shared:3@30000", capacity=60)
    up: dict[int, list[tuple[int, Source, Source]]] = {}
    busy: set[Source] = set()
    spoke: set[tuple[int, Source]] = set()
    ended: list[tuple[float, int, int, Source]] = []
    serial, delivered, late = 0, 0, 0
    for _ in range(6000):
        bed.now += 0.01
        step = rng.random()
        if step < 0.1 and len(up) < 40:
            serial += 1
            caller = (f"198.51.100.{rng.randrange(1, 4)}", rng.randrange(4000, 4060))
            callee = (f"203.0.113.{rng.randrange(1, 4)}", rng.randrange(5000, 5060))
            if caller in busy or callee in busy:
                continue
            offer = bed.ask("offer", call_id=str(serial), from_tag="a", sdp=body(caller))
            if offer.result != "ok":
                continue
            answer = bed.ask("answer", call_id=str(serial), from_tag="a", to_tag="b", sdp=body(callee))
            if answer.result != "ok":
                bed.ask("delete", call_id=str(serial), from_tag="a")
                continue
            up[serial] = [(port(answer.sdp), caller, callee), (port(offer.sdp), callee, caller)]
            busy |= {caller, callee}
        elif step < 0.15 and up:
            number = rng.choice(list(up))
            for our, source, _ in up.pop(number):
                busy.discard(source)
                if (number, source) in spoke:
                    ended.append((bed.now, number, our, source))
            bed.ask("delete", call_id=str(number), from_tag="a")
        elif step < 0.25 and ended:
            at, number, our, source = rng.choice(ended[-20:])
            if bed.now - at < 30:
                late += 1
                assert bed.packet(bytes(RtpPacket(0, rng.randrange(65536), 0, number, b"late")), our, source) is None
        elif up:
            number = rng.choice(list(up))
            our, source, other = rng.choice(up[number])
            forward = bed.packet(bytes(RtpPacket(0, rng.randrange(65536), 0, number, b"live")), our, source)
            if forward is not None:
                delivered += 1
                spoke.add((number, source))
                assert forward[1] == other
        assert bed.released() == []
    assert (delivered > 2000, late > 200, serial > 200) == (True, True, True)
