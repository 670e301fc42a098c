"""Offer and answer: what the relay writes into SDP, which ports it gives, and who is connected to whom."""

from __future__ import annotations

import re

import pytest

from tests.unit.relay.harness import CALLEE, CALLER, RELAY, RELAY6, Bed, body, lines, port, rtp

TWO = ("192.0.2.1", "2001:db8::1")


def origin(sdp: bytes) -> tuple[str, int, int, str]:
    (line,) = lines(sdp, "o=")
    match = re.fullmatch(r"o=(\S+) (\d+) (\d+) (IN \S+ \S+)", line)
    assert match
    return match[1], int(match[2]), int(match[3]), match[4]


def test_the_relay_owns_the_o_line_toward_each_side() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, origin="alice 77 3"))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, origin="bob 88 4"))
    assert origin(offer.sdp)[0] == "-"
    assert origin(offer.sdp)[3] == f"IN IP4 {RELAY}"
    assert origin(offer.sdp)[1] not in (77, 88)
    assert origin(answer.sdp)[1] != origin(offer.sdp)[1]


def test_the_version_goes_up_only_when_the_description_changes() -> None:
    bed = Bed()
    first = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, origin="alice 77 3"))
    again = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, origin="alice 77 9"))
    assert again.sdp == first.sdp
    hold = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, direction="sendonly", origin="alice 77 10"))
    assert origin(hold.sdp)[1] == origin(first.sdp)[1]
    assert origin(hold.sdp)[2] == origin(first.sdp)[2] + 1


def test_the_o_line_stays_ours_when_another_phone_answers_for_the_same_side() -> None:
    bed = Bed()
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    first = bed.ask("answer", call_id="c", from_tag="a", to_tag="b1", sdp=body(CALLEE, origin="x 1 1"))
    second = bed.ask("answer", call_id="c", from_tag="a", to_tag="b2", sdp=body(CALLEE, payloads="8", origin="y 2 900"))
    assert origin(second.sdp)[:3] == (*origin(first.sdp)[:2], origin(first.sdp)[2] + 1)


def test_re_offers_keep_the_ports_from_either_side() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    by_caller = bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, payloads="8"))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE, payloads="8"))
    by_callee = bed.ask("offer", call_id="call", from_tag="b", to_tag="a", sdp=body(CALLEE, payloads="0"))
    answered = bed.ask("answer", call_id="call", from_tag="b", to_tag="a", sdp=body(CALLER, payloads="0"))
    assert [port(by_caller.sdp), port(by_callee.sdp), port(answered.sdp)] == [to_callee, to_caller, to_callee]


def test_ice_and_bundle_are_taken_out() -> None:
    ice = "a=ice-ufrag:x\r\na=ice-pwd:y\r\na=candidate:1 1 UDP 1 198.51.100.10 4000 typ host\r\na=end-of-candidates\r\n"
    sdp = body(CALLER, extra=ice).replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0\r\na=ice-lite\r\na=tool:x\r\n")
    offer = Bed().ask("offer", call_id="c", from_tag="a", sdp=sdp, ICE="remove")
    assert b"ice" not in offer.sdp
    assert b"candidate" not in offer.sdp
    assert b"BUNDLE" not in offer.sdp
    assert b"a=tool:x" in offer.sdp


def test_each_media_line_has_its_ports_and_c_lines_are_replaced_at_both_levels() -> None:
    media = (
        "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 198.51.100.11\r\na=mid:1\r\n"
        "m=video 4002 RTP/AVP 31\r\na=sendrecv\r\nm=audio 4004 RTP/AVP 8\r\n"
    )
    offer = Bed().ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media))
    ports = [port(offer.sdp), port(offer.sdp, "video"), port(offer.sdp, nth=1)]
    assert len(set(ports)) == 3
    assert lines(offer.sdp, "c=") == [f"c=IN IP4 {RELAY}"] * 2
    assert [line.split(":")[1] for line in lines(offer.sdp, "a=rtcp:")] == [str(number + 1) for number in ports]
    assert b"a=mid:1" in offer.sdp


def test_a_media_line_of_port_0_stays_rejected_and_the_others_flow() -> None:
    bed = Bed()
    media = "m=audio {} RTP/AVP 0\r\nm=video {} RTP/AVP 31\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media.format(4000, 4002)))
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, media=media.format(5000, 0)))
    assert port(offer.sdp, "video") > 0
    assert port(answer.sdp, "video") == 0
    assert bed.packet(rtp(), port(answer.sdp), CALLER) == (port(offer.sdp), CALLEE)
    assert bed.packet(rtp(payload_type=31), port(offer.sdp, "video"), (CALLEE[0], 5002)) is None


def test_media_that_was_offered_with_port_0_stays_0() -> None:
    media = "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\n"
    offer = Bed().ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media))
    assert port(offer.sdp, "video") == 0


def test_media_added_later_gets_ports_of_its_own() -> None:
    bed = Bed()
    _, to_callee = bed.call()
    media = "m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 31\r\n"
    offer = bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, media=media))
    assert port(offer.sdp) == to_callee
    assert port(offer.sdp, "video") not in (0, to_callee)


def test_tcp_media_is_left_alone() -> None:
    media = "m=audio 4000 RTP/AVP 0\r\nm=message 7394 TCP/MSRP *\r\na=path:msrp://x\r\n"
    offer = Bed().ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media))
    assert b"m=message 7394 TCP/MSRP *\r\n" in offer.sdp


@pytest.mark.parametrize("direction", ["sendonly", "recvonly", "inactive"])
def test_the_direction_passes(direction: str) -> None:
    offer = Bed().ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, direction=direction))
    assert f"a={direction}".encode() in offer.sdp


def test_hold_by_0_0_0_0_shows_on_the_other_side_and_stops_what_went_there() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    bed.packet(rtp(), to_callee, CALLEE)
    hold = bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, address="0.0.0.0"))
    assert lines(hold.sdp, "c=") == ["c=IN IP4 0.0.0.0"]
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE, direction="recvonly"))
    assert bed.packet(rtp(2), to_callee, CALLEE) is None
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)


def test_after_hold_audio_flows_at_once_both_ways() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    for address in ("0.0.0.0", ""):
        bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, address=address))
        bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)


def test_ipv6_on_both_sides() -> None:
    bed = Bed(interfaces=TWO)
    caller, callee = ("2001:db8:1::10", 4000), ("2001:db8:2::20", 5000)
    to_caller, to_callee = bed.call("c", caller, callee)
    forward = bed.packet(rtp(), to_caller, caller, RELAY6)
    assert forward == (to_callee, callee)


def test_an_ipv6_caller_reaches_an_ipv4_callee() -> None:
    bed = Bed(interfaces=TWO)
    caller = ("2001:db8:1::10", 4000)
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(caller), address_family="IP4")
    assert lines(offer.sdp, "c=") == [f"c=IN IP4 {RELAY}"]
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE), address_family="IP6")
    assert lines(answer.sdp, "c=") == [f"c=IN IP6 {RELAY6}"]
    assert lines(answer.sdp, "o=")[0].endswith(f"IN IP6 {RELAY6}")
    assert bed.packet(rtp(), port(answer.sdp), caller, RELAY6) == (port(offer.sdp), CALLEE)
    assert bed.packet(rtp(), port(offer.sdp), CALLEE) == (port(answer.sdp), caller)


def test_hold_of_an_ipv6_caller_is_shown_in_the_other_family() -> None:
    bed = Bed(interfaces=TWO)
    sdp = body(("2001:db8:1::10", 4000), address="::")
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=sdp, address_family="IP4")
    assert lines(offer.sdp, "c=") == ["c=IN IP4 0.0.0.0"]


def test_the_advertised_address_stands_in_sdp_and_the_bound_one_is_opened() -> None:
    bed = Bed(interfaces=("10.0.0.5!203.0.113.1",))
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    assert lines(offer.sdp, "c=") == ["c=IN IP4 203.0.113.1"]
    assert {address for address, _ in bed.opened.values()} == {"10.0.0.5"}


def test_direction_names_the_interfaces_of_the_two_sides() -> None:
    bed = Bed(interfaces=("inside/10.0.0.5", "outside/203.0.113.1"))
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER), direction=["outside", "inside"])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert lines(offer.sdp, "c=") == ["c=IN IP4 10.0.0.5"]
    assert lines(answer.sdp, "c=") == ["c=IN IP4 203.0.113.1"]


def test_transport_protocol_changes_the_profile_one_way_and_back() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER), transport_protocol="RTP/AVPF")
    answered = body(CALLEE).replace("RTP/AVP ", "RTP/AVPF ")
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=answered)
    assert b" RTP/AVPF " in offer.sdp
    assert b" RTP/AVP " in answer.sdp


def test_making_srtp_of_rtp_is_refused() -> None:
    bed = Bed()
    reply = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER), transport_protocol="RTP/SAVP")
    assert reply.result == "error"
    assert "SRTP" in reply.reason
    assert not bed.core.sessions


def test_forked_answers_share_the_port_and_the_last_that_answered_is_connected() -> None:
    bed = Bed()
    other = ("203.0.113.30", 7000)
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    to_callee = port(offer.sdp)
    first = bed.ask("answer", call_id="c", from_tag="a", to_tag="b1", sdp=body(CALLEE))
    to_caller = port(first.sdp)
    assert bed.packet(rtp(), to_callee, CALLEE) == (to_caller, CALLER)
    second = bed.ask("answer", call_id="c", from_tag="a", to_tag="b2", sdp=body(other))
    assert port(second.sdp) == to_caller
    assert bed.packet(rtp(), to_callee, other) == (to_caller, CALLER)
    assert bed.packet(rtp(), to_caller, CALLER) == (to_callee, other)
    assert bed.packet(rtp(2), to_callee, CALLEE) is None
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b1", sdp=body(CALLEE))
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)
    assert bed.packet(rtp(3), to_callee, CALLEE) == (to_caller, CALLER)


def test_each_via_branch_has_ports_of_its_own_and_a_deleted_one_leaves_the_others() -> None:
    bed = Bed()
    other = ("203.0.113.30", 7000)
    ports = {}
    for branch in ("z9hG4bK1", "z9hG4bK2"):
        ports[branch] = port(bed.ask("offer", call_id="c", from_tag="a", via_branch=branch, sdp=body(CALLER)).sdp)
    assert ports["z9hG4bK1"] != ports["z9hG4bK2"]
    answers = [
        bed.ask("answer", call_id="c", from_tag="a", to_tag=tag, via_branch=branch, sdp=body(source))
        for tag, branch, source in (("b1", "z9hG4bK1", CALLEE), ("b2", "z9hG4bK2", other))
    ]
    to_caller = port(answers[0].sdp)
    assert port(answers[1].sdp) == to_caller
    assert bed.packet(rtp(), to_caller, CALLER) == (ports["z9hG4bK2"], other)
    bed.ask("delete", call_id="c", from_tag="a", via_branch="z9hG4bK1")
    assert list(bed.core.sessions) == [b"c"]
    assert ports["z9hG4bK1"] not in {number for _, number in bed.opened.values()}
    assert bed.packet(rtp(2), to_caller, CALLER) == (ports["z9hG4bK2"], other)
    bed.ask("delete", call_id="c", from_tag="a", to_tag="b2", via_branch="z9hG4bK2")
    assert not bed.core.sessions


def test_ending_the_connected_branch_ends_the_call_when_no_other_was_answered() -> None:
    bed = Bed()
    for branch in ("z9hG4bK1", "z9hG4bK2"):
        bed.ask("offer", call_id="c", from_tag="a", via_branch=branch, sdp=body(CALLER))
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b2", via_branch="z9hG4bK2", sdp=body(CALLEE))
    bed.ask("delete", call_id="c", from_tag="a", to_tag="b2")
    assert not bed.core.sessions


def test_an_offer_again_without_a_to_tag_keeps_the_ports() -> None:
    bed = Bed()
    first = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    again = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, payloads="8")).sdp)
    assert again == first


def test_an_offer_in_the_2xx_and_its_answer_in_the_ack() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="b", to_tag="a", sdp=body(CALLEE))
    answer = bed.ask("answer", call_id="c", from_tag="b", to_tag="a", sdp=body(CALLER))
    assert bed.packet(rtp(), port(answer.sdp), CALLEE) == (port(offer.sdp), CALLER)


def test_more_media_lines_than_allowed_are_refused() -> None:
    media = "".join(f"m=audio {4000 + 2 * n} RTP/AVP 0\r\n" for n in range(9))
    bed = Bed()
    assert bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media)).result == "error"
    assert not bed.core.sessions


def test_sip_source_address_takes_the_ip_of_the_sip_message() -> None:
    bed = Bed()
    flags = {"flags": ["SIP-source-address"], "received_from": ["IP4", "198.51.100.50"]}
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER), **flags)
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.packet(rtp(), port(answer.sdp), CALLER) is None
    assert bed.packet(rtp(), port(answer.sdp), ("198.51.100.50", CALLER[1])) is not None


@pytest.mark.parametrize(
    ("formats", "extra", "rate"),
    [
        ("0", "", 8000),
        ("96 0", "a=rtpmap:0 PCMU/8000\r\na=rtpmap:96 opus/48000/2\r\n", 48_000),
        ("9", "a=rtpmap:9 G722/8000\r\n", 8000),
        ("10", "", 44_100),
        ("96", "", 8000),
        ("96", "a=rtpmap:96 opus\r\n", 8000),
        ("96", "a=rtpmap:96 x/0\r\n", 1),
        ("96", "a=rtpmap:96 x/99999999999\r\n", 1_000_000),
    ],
)
def test_the_clock_of_a_stream_is_that_of_its_first_payload_type(formats: str, extra: str, rate: int) -> None:
    bed = Bed()
    media = f"m=audio 4000 RTP/AVP {formats}\r\n{extra}"
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media))
    assert bed.core.sessions[b"c"].legs()[0].stream.rate == rate
