"""Whose packet is this: learning, the order of matching, the hold buffer, quiet time (DESIGN 3.2, 3.6)."""

from __future__ import annotations

import pytest

from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, port, rtcp, rtp

NAT = "198.51.100.99"
"""The address of a router with phones behind it."""
HOME = ("192.168.1.10", 7078)
"""What such a phone writes into its SDP."""


def dropped(bed: Bed, reason: str) -> int:
    return bed.core.matcher.dropped[reason]


def test_packets_go_to_the_other_side_from_the_port_that_it_knows() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    assert bed.packet(rtp(), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(), to_callee, CALLEE) == (to_caller, CALLER)


def test_a_phone_behind_nat_is_learnt_at_the_address_that_its_sip_came_from() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(HOME), received_from=["IP4", NAT])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    to_callee, to_caller = port(offer.sdp), port(answer.sdp)
    assert bed.packet(rtp(), to_callee, CALLEE) == (to_caller, HOME)
    assert bed.packet(rtp(), to_caller, (NAT, 61234)) == (to_callee, CALLEE)
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, (NAT, 61234))


def test_an_address_that_nobody_named_is_not_learnt() -> None:
    bed = Bed()
    to_caller, _ = bed.call()
    assert bed.packet(rtp(), to_caller, ("198.51.100.66", CALLER[1])) is None
    bed.wait(1)
    assert bed.packet(rtp(2), to_caller, ("198.51.100.66", CALLER[1])) is None


def test_a_payload_type_that_was_not_negotiated_is_not_learnt() -> None:
    bed = Bed()
    to_caller, _ = bed.call()
    assert bed.packet(rtp(payload_type=96), to_caller, CALLER) is None
    assert dropped(bed, "payload") == 1
    assert bed.packet(rtp(), to_caller, CALLER) is not None
    assert bed.packet(rtp(2, payload_type=96), to_caller, CALLER) is not None


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\x80" * 11, rtcp(), b"\r\n\r\n", bytes(172)])
def test_what_is_no_rtp_teaches_nothing(data: bytes) -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    assert bed.packet(data, to_caller, (CALLER[0], 4444)) is None
    assert bed.packet(rtp(), to_callee, CALLEE) == (to_caller, CALLER)


def test_a_second_source_is_refused_once_the_first_is_learnt() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(HOME), received_from=["IP4", NAT])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    to_caller = port(answer.sdp)
    assert bed.packet(rtp(), to_caller, (NAT, 61234)) is not None
    assert bed.packet(rtp(), to_caller, (NAT, 61236)) is None
    bed.wait(3)
    assert bed.packet(rtp(2), port(offer.sdp), CALLEE) == (to_caller, (NAT, 61234))


def test_the_exact_signalled_address_comes_before_another_port_of_that_ip() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    assert bed.packet(rtp(), to_caller, (CALLER[0], 4001)) == (to_callee, CALLEE)
    assert bed.packet(rtp(5), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(), to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(rtp(2), to_caller, (CALLER[0], 4001)) is None


def test_a_party_that_moves_by_sdp_is_learnt_anew_and_its_late_packets_are_not() -> None:
    bed = Bed()
    home, moved = ("192.168.1.10", 7078), ("192.168.1.10", 7100)
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(home), received_from=["IP4", NAT])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    to_caller = port(answer.sdp)
    bed.packet(rtp(), to_caller, (NAT, 1111))
    offer = bed.ask("offer", call_id="c", from_tag="a", to_tag="b", sdp=body(moved), received_from=["IP4", NAT])
    to_callee = port(offer.sdp)
    assert bed.packet(rtp(2), to_caller, (NAT, 1111)) is None
    assert bed.packet(rtp(3), to_caller, (NAT, 2222)) is not None
    assert bed.packet(rtp(1), to_callee, CALLEE) == (to_caller, (NAT, 2222))


def test_a_re_offer_that_changes_nothing_interrupts_nothing() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)


def test_early_packets_of_the_callee_wait_for_the_answer_and_then_go_on_in_order() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    to_callee = port(offer.sdp)
    packets = [rtp(n) for n in range(3)]
    for data in packets:
        assert bed.packet(data, to_callee, CALLEE) is None
        bed.now += 0.02
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.released() == [(data, port(answer.sdp), CALLER) for data in packets]


def test_held_packets_of_a_source_that_the_answer_does_not_name_go_nowhere() -> None:
    bed = Bed()
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    bed.packet(rtp(), to_callee, ("203.0.113.99", 5000))
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.released() == []


def test_packets_are_held_for_200_ms() -> None:
    bed = Bed()
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    bed.packet(rtp(1), to_callee, CALLEE)
    bed.now += 0.15
    bed.packet(rtp(2), to_callee, CALLEE)
    bed.now += 0.1
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert [data for data, _, _ in bed.released()] == [rtp(2)]


def test_ten_packets_of_a_source_are_held_the_latest() -> None:
    bed = Bed()
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    for sequence in range(15):
        bed.packet(rtp(sequence), to_callee, CALLEE)
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert [data for data, _, _ in bed.released()] == [rtp(n) for n in range(5, 15)]


def test_the_hold_buffer_is_bounded_however_many_sources_send() -> None:
    bed = Bed()
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    for number in range(1000):
        bed.packet(rtp(), to_callee, ("203.0.113.77", 10_000 + number))
    held = bed.core.port(bed.handle(to_callee)).held  # type: ignore[union-attr]
    assert len(held) == 64
    assert dropped(bed, "held") == 1000 - 64


def test_rtcp_goes_from_the_odd_port_to_the_odd_port() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    assert bed.packet(rtcp(), to_caller + 1, (CALLER[0], CALLER[1] + 1)) == (to_callee + 1, (CALLEE[0], CALLEE[1] + 1))


def test_rtcp_goes_where_a_rtcp_says() -> None:
    bed = Bed()
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, extra="a=rtcp:9009\r\n"))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    to_callee = port(
        bed.ask("offer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLER, extra="a=rtcp:9009\r\n")).sdp
    )
    forward = bed.packet(rtcp(), to_callee + 1, (CALLEE[0], CALLEE[1] + 1))
    assert forward == (port(answer.sdp) + 1, (CALLER[0], 9009))


def test_rtcp_to_a_phone_behind_nat_goes_beside_its_learnt_rtp() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(HOME), received_from=["IP4", NAT])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    bed.packet(rtp(), port(answer.sdp), (NAT, 61234))
    forward = bed.packet(rtcp(), port(offer.sdp) + 1, (CALLEE[0], CALLEE[1] + 1))
    assert forward == (port(answer.sdp) + 1, (NAT, 61235))


def test_rtcp_of_a_stranger_goes_nowhere() -> None:
    bed = Bed()
    to_caller, _ = bed.call()
    assert bed.packet(rtcp(), to_caller + 1, ("203.0.113.99", 1)) is None
    assert dropped(bed, "rtcp") == 1


def test_with_rtcp_mux_both_go_through_the_one_port() -> None:
    bed = Bed()
    mux = "a=rtcp-mux\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, extra=mux))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, extra=mux))
    to_callee, to_caller = port(offer.sdp), port(answer.sdp)
    bed.packet(rtp(), to_caller, CALLER)
    assert bed.packet(rtcp(), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)


def test_rtcp_on_the_rtp_port_without_mux_goes_nowhere() -> None:
    bed = Bed()
    to_caller, _ = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    assert bed.packet(rtcp(), to_caller, CALLER) is None


def test_a_side_without_mux_gets_rtcp_on_its_own_port() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, extra="a=rtcp-mux\r\n"), rtcp_mux=["demux"])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE), rtcp_mux=["accept"])
    assert b"a=rtcp-mux" not in offer.sdp
    assert b"a=rtcp-mux" in answer.sdp
    bed.packet(rtp(), port(answer.sdp), CALLER)
    assert bed.packet(rtcp(), port(answer.sdp), CALLER) == (port(offer.sdp) + 1, (CALLEE[0], CALLEE[1] + 1))


def test_after_a_call_its_source_does_not_reach_the_next_call_on_that_port_for_30_seconds() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one")
    for source in (CALLER, CALLEE):
        bed.packet(rtp(1, ssrc=111), 30000, source)
    bed.ask("delete", call_id="one", from_tag="a")
    bed.call("two", CALLER, ("203.0.113.21", 5000))
    assert bed.packet(rtp(2, ssrc=111), 30000, CALLER) is None
    assert bed.packet(rtp(2, ssrc=111), 30000, CALLEE) is None
    assert dropped(bed, "quiet") == 2
    bed.wait(31)
    assert bed.packet(rtp(3, ssrc=111), 30000, CALLER) == (30000, ("203.0.113.21", 5000))


def test_a_phone_that_calls_again_from_the_same_port_is_heard_by_its_new_ssrc() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one")
    bed.packet(rtp(1, ssrc=111), 30000, CALLER)
    bed.ask("delete", call_id="one", from_tag="a")
    bed.call("two")
    assert bed.packet(rtp(2, ssrc=111), 30000, CALLER) is None
    assert bed.packet(rtp(1, ssrc=222), 30000, CALLER) == (30000, CALLEE)


def test_the_quiet_time_outlives_the_closing_of_the_port() -> None:
    bed = Bed("30000-30003")
    ports = dict(zip(bed.call("one"), (CALLER, CALLEE), strict=True))
    for number, source in ports.items():
        bed.packet(rtp(1, ssrc=111), number, source)
    bed.ask("delete", call_id="one", from_tag="a")
    to_caller, _ = bed.call("two", caller=CALLER, callee=CALLEE)
    old = ports[to_caller]
    assert bed.packet(rtp(2, ssrc=111), to_caller, old) is None
    assert dropped(bed, "quiet") == 1


def test_a_port_rests_after_its_call_while_there_are_others() -> None:
    bed = Bed("30000-30199")
    used = set(bed.call("one"))
    bed.ask("delete", call_id="one", from_tag="a")
    for number in range(20):
        ports = bed.call(f"c{number}", ("198.51.100.10", 6000 + 2 * number), ("203.0.113.20", 8000 + 2 * number))
        assert not used & set(ports)


def test_t38_passes_without_being_rtp() -> None:
    bed = Bed()
    fax = "m=image {} udptl t38\r\na=sendrecv\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=fax.format(4000)))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, media=fax.format(5000)))
    to_callee, to_caller = port(offer.sdp, "image"), port(answer.sdp, "image")
    assert b"a=rtcp" not in offer.sdp
    assert bed.packet(b"\0\1fax", to_caller, CALLER) == (to_callee, CALLEE)


def test_dtls_of_the_signalled_address_passes_and_teaches_nothing() -> None:
    bed = Bed()
    srtp = "m=audio {} UDP/TLS/RTP/SAVP 0\r\na=setup:actpass\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=srtp.format(4000)))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, media=srtp.format(5000)))
    hello = b"\x16\xfe\xff" + bytes(40)
    assert bed.packet(hello, port(answer.sdp), CALLER) == (port(offer.sdp), CALLEE)
    assert bed.packet(hello, port(answer.sdp), ("203.0.113.99", 9)) is None
    assert bed.core.sessions[b"c"].parties[0].legs[0].learnt is None  # type: ignore[union-attr]


def test_two_ports_with_one_source_each_are_coupled_and_uncoupled_before_anything_changes() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    assert bed.logged.count("Couple") == 0
    bed.packet(rtp(), to_callee, CALLEE)
    assert [event for event in bed.logged if "ouple" in event] == ["Couple"]
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, address="0.0.0.0"))
    assert [event for event in bed.logged if "ouple" in event] == ["Couple", "Uncouple"]
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    assert [event for event in bed.logged if "ouple" in event] == ["Couple", "Uncouple", "Couple"]
    bed.ask("delete", call_id="call", from_tag="a")
    assert bed.logged.count("Uncouple") == 2


def test_a_source_that_the_signalled_one_may_replace_is_not_coupled() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, (CALLER[0], 4001))
    bed.packet(rtp(), to_callee, CALLEE)
    assert "Couple" not in bed.logged
    bed.packet(rtp(2), to_caller, CALLER)
    assert "Couple" in bed.logged
