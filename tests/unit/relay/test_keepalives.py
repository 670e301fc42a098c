"""A party in silence gets an empty datagram before nodes and NATs forget it (RFC 6263, DESIGN 6)."""

from __future__ import annotations

import pytest

from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, rtp

TR = 15.0
"""Seconds, RFC 6263 7."""

PORTS = ["shared:4@30000", "30000-30199"]
SPEAK_FIRST = {"default": True, "behind a Service": False}


def up(ports: str = PORTS[0], *, speak_first: bool = False, store: bool = False) -> tuple[Bed, int, int]:
    """A call in which both were heard."""
    bed = Bed(ports, speak_first=speak_first, store=store)
    if store:
        bed.store_comes()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.released()
    return bed, to_caller, to_callee


@pytest.mark.parametrize("ports", PORTS)
@pytest.mark.parametrize("speak_first", SPEAK_FIRST.values(), ids=SPEAK_FIRST)
def test_both_parties_of_a_silent_call_get_one_at_least_every_15_seconds(ports: str, speak_first: bool) -> None:
    bed, to_caller, to_callee = up(ports, speak_first=speak_first)
    for _ in range(3):  # after 60 s the call is over
        bed.wait(TR)
        sent = bed.released()
        assert {packet[1:] for packet in sent} == {(to_caller, CALLER), (to_callee, CALLEE)}
        assert all(packet[0] == b"" for packet in sent)
        assert len(sent) <= 4
    assert bed.core.matcher.keepalives >= 6


def test_who_speaks_or_is_spoken_to_gets_none() -> None:
    bed, to_caller, _ = up()
    for sequence in range(2, 3002):
        bed.packet(rtp(sequence), to_caller, CALLER)
        bed.wait(0.02)
    assert bed.core.matcher.keepalives == 0


def test_a_party_on_hold_gets_them_while_the_other_speaks() -> None:
    bed, to_caller, to_callee = up()
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, address="0.0.0.0"))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    for sequence in range(2, 1002):
        bed.packet(rtp(sequence), to_callee, CALLEE)
        bed.wait(0.02)
    assert {packet[1:] for packet in bed.released()} == {(to_caller, CALLER)}


def test_nobody_is_spoken_to_first() -> None:
    bed = Bed(PORTS[0], speak_first=False)
    to_caller, _ = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.wait(TR)
    assert [packet[1:] for packet in bed.released()] == [(to_caller, CALLER)]


def test_a_restored_party_is_not_either() -> None:
    bed, *_ = up(store=True)
    bed = bed.restart()
    bed.wait(4 * TR)
    assert bed.core.matcher.keepalives == 0


def test_a_call_that_is_over_gets_none() -> None:
    bed, *_ = up()
    bed.ask("delete", call_id="call", from_tag="a", to_tag="b")
    bed.wait(4 * TR)
    assert bed.core.matcher.keepalives == 0


def test_after_a_long_silence_both_are_spoken_to_at_once() -> None:
    bed, to_caller, to_callee = up()
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, direction="inactive"))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE, direction="inactive"))
    bed.wait(300)
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)
