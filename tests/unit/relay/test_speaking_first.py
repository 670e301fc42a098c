"""Behind a Service nothing goes to a leg that was not heard yet, for two seconds (docs/decisions/0007)."""

from __future__ import annotations

import pytest

from rtprelay.core.gate import WAIT_SECONDS, Gate
from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, port, rtcp, rtp

RTCP_CALLER = (CALLER[0], CALLER[1] + 1)
RTCP_CALLEE = (CALLEE[0], CALLEE[1] + 1)
MUX = "a=rtcp-mux\r\n"


def patient(ports: str = "shared:4@30000", *, store: bool = False) -> Bed:
    bed = Bed(ports, speak_first=False, store=store)
    if store:
        bed.store_comes()
    return bed


def unheard(bed: Bed) -> int:
    return bed.core.matcher.dropped["unheard"]


# the gate alone


def test_a_gate_opens_to_where_the_leg_was_heard_and_to_nowhere_else() -> None:
    gate = Gate()
    gate.heard = CALLEE
    assert gate.ask(CALLEE, 0.0)
    assert not gate.ask(CALLER, 0.0)


def test_a_gate_opens_two_seconds_after_the_first_packet_that_wanted_through() -> None:
    gate = Gate()
    assert not gate.ask(CALLEE, 100.0)
    assert not gate.is_open(CALLEE)
    assert not gate.ask(CALLEE, 100.0 + WAIT_SECONDS - 0.01)
    assert gate.ask(CALLEE, 100.0 + WAIT_SECONDS)
    assert gate.is_open(CALLEE)
    assert gate.ask(CALLEE, 100.0)


def test_the_wait_begins_anew_for_another_address() -> None:
    gate = Gate()
    gate.ask(CALLEE, 0.0)
    assert not gate.ask(CALLER, 10.0)
    assert not gate.ask(CALLER, 11.0)
    assert gate.ask(CALLER, 12.0)
    assert not gate.is_open(CALLEE)


# a call


@pytest.mark.parametrize("ports", ["shared:4@30000", "30000-30199"])
def test_nothing_goes_to_a_party_before_it_has_spoken(ports: str) -> None:
    bed = patient(ports)
    to_caller, to_callee = bed.call()
    for sequence in range(1, 20):
        assert bed.packet(rtp(sequence), to_caller, CALLER) is None
        bed.now += 0.02
    assert unheard(bed) == 19
    assert bed.packet(rtp(1), to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(rtp(20), to_caller, CALLER) == (to_callee, CALLEE)
    assert "Couple" not in bed.logged


def test_by_default_the_relay_speaks_first() -> None:
    bed = Bed("shared:4@30000")
    to_caller, to_callee = bed.call()
    assert bed.packet(rtp(), to_caller, CALLER) == (to_callee, CALLEE)


def test_who_only_listens_is_sent_to_after_two_seconds() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    assert bed.packet(rtp(1), to_callee, CALLEE) is None
    bed.now += 1.9
    assert bed.packet(rtp(2), to_callee, CALLEE) is None
    bed.now += 0.1
    assert bed.packet(rtp(3), to_callee, CALLEE) == (bed.beside(to_caller), CALLER)
    assert bed.packet(rtp(4), to_callee, CALLEE) == (bed.beside(to_caller), CALLER)
    assert CALLEE in bed.core.port(bed.handle(to_callee)).routes  # type: ignore[union-attr]


def test_a_listener_that_speaks_at_last_is_sent_to_from_the_port() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.now += 2.0
    assert bed.packet(rtp(2), to_callee, CALLEE) == (bed.beside(to_caller), CALLER)
    assert bed.packet(rtp(1), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(3), to_callee, CALLEE) == (to_caller, CALLER)


def test_a_listener_that_speaks_to_where_it_was_spoken_to_from_goes_on_there() -> None:
    """A peer with symmetric RTP (RFC 4961) that takes the sender for the place to send to."""
    bed = patient()
    to_caller, to_callee = bed.call()
    beside = bed.beside(to_caller)
    assert bed.packet(rtp(1), beside, CALLER) is None, "nobody was spoken to from here yet"
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.now += 2.0
    assert bed.packet(rtp(2), to_callee, CALLEE) == (beside, CALLER)
    assert bed.packet(rtp(2), beside, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(3), to_callee, CALLEE) == (beside, CALLER)
    assert bed.packet(rtp(3), beside, (CALLER[0], 55555)) is None


def test_without_a_service_there_is_no_socket_beside() -> None:
    bed = Bed("shared:4@30000")
    assert sorted(number for _, number in bed.opened.values()) == list(range(30000, 30008))


def test_what_a_range_gives_back_it_closes_with_the_sockets_beside() -> None:
    bed = patient("30000-30199")
    before = len(bed.opened)
    assert before == 4 * 16
    bed.call()
    bed.ask("delete", call_id="call", from_tag="a", to_tag="b")
    assert len(bed.opened) == before
    assert {port.handle for port in map(bed.core.port, bed.opened) if port is not None} < set(bed.opened)


def test_a_listener_that_speaks_at_last_from_another_port_is_sent_to_there() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.now += 2.0
    assert bed.packet(rtp(2), to_callee, CALLEE) == (bed.beside(to_caller), CALLER)
    assert bed.packet(rtp(1), to_caller, (CALLER[0], 55555)) == (to_callee, CALLEE)
    assert bed.packet(rtp(3), to_callee, CALLEE) == (to_caller, (CALLER[0], 55555))


def test_packets_that_waited_for_the_answer_wait_for_the_other_party_too() -> None:
    bed = patient()
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    bed.packet(rtp(1), to_callee, CALLEE)
    to_caller = port(bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE)).sdp)
    assert bed.released() == []
    assert bed.packet(rtp(1), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)


def test_a_packet_from_nobody_opens_nothing() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_callee, ("203.0.113.66", CALLEE[1]))
    assert bed.packet(rtp(), to_caller, CALLER) is None


def test_a_party_that_moves_by_sdp_has_to_speak_from_its_new_address() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    assert bed.packet(rtp(1), to_callee, CALLEE) is not None
    moved = ("198.51.100.11", 4600)
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(moved))
    assert bed.packet(rtp(2), to_callee, CALLEE) is None
    assert bed.packet(rtp(2), to_caller, moved) == (to_callee, CALLEE)
    assert bed.packet(rtp(3), to_callee, CALLEE) == (to_caller, moved)


def test_dtls_of_a_party_opens_the_way_back_to_it() -> None:
    bed = patient()
    media = "m=audio {} UDP/TLS/RTP/SAVPF 0\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media.format(CALLER[1])))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, media=media.format(CALLEE[1])))
    hello = bytes((22, 254, 253)) + bytes(60)
    assert bed.packet(hello, port(answer.sdp), CALLER) is None
    assert bed.packet(hello, port(offer.sdp), CALLEE) == (port(answer.sdp), CALLER)
    assert bed.packet(hello, port(answer.sdp), CALLER) == (port(offer.sdp), CALLEE)


def test_fax_waits_as_audio_does() -> None:
    bed = patient()
    media = "m=image {} udptl t38\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media.format(CALLER[1])))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, media=media.format(CALLEE[1])))
    to_callee, to_caller = port(offer.sdp, "image"), port(answer.sdp, "image")
    assert bed.packet(b"\0\1fax", to_caller, CALLER) is None
    assert bed.packet(b"\0\1fax", to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(b"\0\2fax", to_caller, CALLER) == (to_callee, CALLEE)


def test_a_call_that_resumes_after_a_silent_hold_is_not_spoken_to_first() -> None:
    """Connection tracking forgets within such a hold, when a relay was stalled and sent no keepalives."""
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, direction="inactive"))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE, direction="inactive"))
    bed.now += 31
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.packet(rtp(2), to_caller, CALLER) is None
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(rtp(3), to_caller, CALLER) == (to_callee, CALLEE)


def test_a_re_invite_in_mid_call_interrupts_nothing() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.wait(29)
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)


# RTCP has an entry of its own


def test_rtcp_waits_for_the_partys_own_rtcp() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    assert bed.packet(rtcp(), to_caller + 1, RTCP_CALLER) is None
    assert bed.packet(rtcp(), to_callee + 1, RTCP_CALLEE) == (to_caller + 1, RTCP_CALLER)
    assert bed.packet(rtcp(), to_caller + 1, RTCP_CALLER) == (to_callee + 1, RTCP_CALLEE)


def test_rtcp_to_a_party_without_rtcp_goes_after_two_seconds() -> None:
    bed = patient()
    to_caller, to_callee = bed.call()
    assert bed.packet(rtcp(), to_caller + 1, RTCP_CALLER) is None
    bed.now += 5
    assert bed.packet(rtcp(), to_caller + 1, RTCP_CALLER) == (bed.beside(to_callee + 1), RTCP_CALLEE)
    assert bed.packet(rtcp(), bed.beside(to_callee + 1), RTCP_CALLEE) is not None
    assert bed.packet(rtcp(), to_caller + 1, RTCP_CALLER) == (bed.beside(to_callee + 1), RTCP_CALLEE)


def test_multiplexed_rtcp_goes_where_rtp_was_heard() -> None:
    bed = patient()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, extra=MUX))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, extra=MUX))
    to_callee, to_caller = port(offer.sdp), port(answer.sdp)
    bed.packet(rtp(1), to_caller, CALLER)
    assert bed.packet(rtcp(), to_caller, CALLER) is None
    bed.packet(rtp(1), to_callee, CALLEE)
    assert bed.packet(rtcp(), to_caller, CALLER) == (to_callee, CALLEE)


def test_multiplexed_rtcp_alone_opens_the_way_back() -> None:
    bed = patient()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, extra=MUX))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, extra=MUX))
    assert bed.packet(rtcp(), port(answer.sdp), CALLER) is None
    assert bed.packet(rtp(1), port(offer.sdp), CALLEE) == (port(answer.sdp), CALLER)


# after a restart


@pytest.mark.parametrize("ports", ["shared:4@30000", "30000-30199"])
def test_a_restored_leg_has_to_speak_again(ports: str) -> None:
    bed = patient(ports, store=True)
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed = bed.restart(interfaces=("192.0.2.1",))
    assert bed.packet(rtp(2), to_caller, CALLER) is None
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(rtp(3), to_caller, CALLER) == (to_callee, CALLEE)
    assert unheard(bed) == 1


def test_the_two_seconds_begin_anew_after_a_restart() -> None:
    bed = patient(store=True)
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.now += 2
    bed.packet(rtp(2), to_caller, CALLER)
    bed = bed.restart(away=1.0)
    assert bed.packet(rtp(3), to_caller, CALLER) is None
    bed.now += 1.9
    assert bed.packet(rtp(4), to_caller, CALLER) is None
    bed.now += 0.1
    assert bed.packet(rtp(5), to_caller, CALLER) == (bed.beside(to_callee), CALLEE)


def test_a_party_on_hold_at_the_restart_is_heard_all_the_same() -> None:
    bed = patient(store=True)
    to_caller, to_callee = bed.call()
    bed.packet(rtp(1), to_caller, CALLER)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, address="0.0.0.0"))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    bed = bed.restart()
    bed.packet(rtp(2), to_callee, CALLEE)
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)
