"""Shared ports: all calls on a few pairs, told apart by their source and by nothing else (DESIGN 3.2)."""

from __future__ import annotations

from random import Random

from rtprelay.core.events import Source
from rtprelay.core.match import HOLD_SECONDS
from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, port, rtcp, rtp

NAT = "198.51.100.99"


def test_many_calls_on_one_port_do_not_cross() -> None:
    bed = Bed("shared:1@30000", capacity=1000)
    calls: list[tuple[Source, Source]] = []
    for number in range(50):
        caller, callee = ("198.51.100.10", 4000 + 2 * number), ("203.0.113.20", 4000 + 2 * number)
        assert bed.call(f"c{number}", caller, callee) == (30000, 30000)
        calls.append((caller, callee))
    order = [(source, target) for a, b in calls for source, target in ((a, b), (b, a))] * 3
    Random(5).shuffle(order)
    for sequence, (source, target) in enumerate(order):
        assert bed.packet(rtp(sequence), 30000, source) == (30000, target)


def test_two_legs_with_the_same_signalled_address_are_put_on_different_ports() -> None:
    bed = Bed("shared:4@30000")
    ports = [bed.call(f"c{n}", CALLER, ("203.0.113.20", 5000 + 2 * n))[0] for n in range(4)]
    assert len(set(ports)) == 4


def test_a_caller_that_cannot_be_told_apart_anywhere_gets_load_limit() -> None:
    bed = Bed("shared:2@30000")
    for number in range(2):
        bed.call(f"c{number}", CALLER, ("203.0.113.20", 5000 + 2 * number))
    assert bed.ask("offer", call_id="c3", from_tag="a", sdp=body(CALLER)).result == "load limit"
    assert b"c3" not in bed.core.sessions


def test_an_answer_that_collides_gets_load_limit_and_the_other_call_goes_on() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one")
    bed.ask("offer", call_id="two", from_tag="a", sdp=body(("198.51.100.10", 4100)))
    reply = bed.ask("answer", call_id="two", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert reply.result == "load limit"
    assert bed.packet(rtp(), 30000, CALLEE) == (30000, CALLER)


def test_the_media_lines_of_one_party_are_on_different_ports() -> None:
    bed = Bed("shared:3@30000")
    media = "m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 31\r\n"
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media))
    assert port(offer.sdp) != port(offer.sdp, "video")


def test_more_media_lines_than_ports_get_load_limit() -> None:
    bed = Bed("shared:1@30000")
    media = "m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 31\r\n"
    assert bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media)).result == "load limit"
    assert not bed.core.sessions
    assert not bed.core.port(bed.handle(30000)).legs  # type: ignore[union-attr]


def home_call(bed: Bed, number: int) -> int:
    """A call of a phone behind the one NAT, every phone with the same private address; the port toward it."""
    call = f"home-{number}"
    sdp = body(("192.168.1.10", 7078))
    offer = bed.ask("offer", call_id=call, from_tag="a", sdp=sdp, received_from=["IP4", NAT])
    if offer.result != "ok":
        return 0
    sdp = body(("203.0.113.20", 6000 + 2 * number))
    return port(bed.ask("answer", call_id=call, from_tag="a", to_tag="b", sdp=sdp).sdp)


def test_two_phones_behind_one_nat_wait_on_different_ports() -> None:
    bed = Bed("shared:2@30000")
    first, second = home_call(bed, 1), home_call(bed, 2)
    assert first != second
    forward = bed.packet(rtp(), first, (NAT, 1001))
    assert forward is not None
    assert forward[1] == ("203.0.113.20", 6002)
    forward = bed.packet(rtp(), second, (NAT, 1001))
    assert forward is not None
    assert forward[1] == ("203.0.113.20", 6004)


def test_once_the_first_phone_is_learnt_the_next_behind_the_nat_may_wait_there() -> None:
    bed = Bed("shared:1@30000")
    assert home_call(bed, 1)
    assert home_call(bed, 2) == 0
    assert bed.packet(rtp(), 30000, (NAT, 1001)) == (30000, ("203.0.113.20", 6002))
    assert home_call(bed, 3)
    assert bed.packet(rtp(), 30000, (NAT, 1003)) == (30000, ("203.0.113.20", 6006))
    assert bed.packet(rtp(2), 30000, (NAT, 1001)) == (30000, ("203.0.113.20", 6002))


def test_a_packet_that_two_waiting_legs_could_claim_goes_to_neither() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one", (NAT, 4000), ("203.0.113.20", 5000))
    bed.call("two", (NAT, 4002), ("203.0.113.20", 5002))
    assert bed.packet(rtp(1), 30000, (NAT, 9999)) is None
    assert bed.packet(rtp(1), 30000, (NAT, 4000)) == (30000, ("203.0.113.20", 5000))
    assert bed.released() == []


def test_a_held_packet_goes_on_when_the_other_claimant_has_its_source() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one", (NAT, 4000), ("203.0.113.20", 5000))
    bed.call("two", (NAT, 4002), ("203.0.113.20", 5002))
    assert bed.packet(rtp(1, ssrc=8), 30000, (NAT, 9999)) is None
    bed.packet(rtp(1), 30000, (NAT, 4000))
    assert bed.packet(rtp(2, ssrc=8), 30000, (NAT, 9999)) == (30000, ("203.0.113.20", 5002))


def test_another_port_of_an_ip_is_not_the_leg_that_signalled_its_own_while_an_answer_may_still_name_it() -> None:
    """A callee that speaks before the relay has its answer is not taken for another one at the same IP that is late."""
    bed = Bed("shared:1@30000")
    gateway = CALLEE[0]
    bed.call("one", CALLER, (gateway, 5000))
    bed.ask("offer", call_id="two", from_tag="a", sdp=body((CALLER[0], 4100)))
    assert bed.packet(rtp(1, ssrc=8), 30000, (gateway, 5100)) is None
    bed.now += HOLD_SECONDS / 2
    assert bed.packet(rtp(2, ssrc=8), 30000, (gateway, 5100)) is None
    bed.ask("answer", call_id="two", from_tag="a", to_tag="b", sdp=body((gateway, 5100)))
    assert bed.packet(rtp(3, ssrc=8), 30000, (gateway, 5100)) == (30000, (CALLER[0], 4100))
    assert bed.packet(rtp(1, ssrc=9), 30000, (gateway, 5000)) == (30000, CALLER)


def test_another_port_of_an_ip_is_learnt_when_no_answer_came_that_names_it() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one")
    bed.ask("offer", call_id="two", from_tag="a", sdp=body((CALLER[0], 4100)))
    other = (CALLEE[0], 5998)
    assert bed.packet(rtp(1), 30000, other) is None
    bed.now += HOLD_SECONDS
    assert bed.packet(rtp(11), 30000, other) == (30000, CALLER)


def test_rtcp_is_told_apart_by_what_was_signalled_and_by_the_learnt_rtp_beside_it() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one", CALLER, CALLEE)
    bed.call("two", ("198.51.100.10", 4100), ("203.0.113.20", 5100))
    assert bed.packet(rtcp(), 30001, (CALLER[0], 4101)) == (30001, ("203.0.113.20", 5101))
    assert bed.packet(rtcp(), 30001, (CALLEE[0], 5001)) == (30001, (CALLER[0], 4001))
    assert bed.packet(rtcp(), 30001, (CALLER[0], 9999)) is None


def test_a_dead_call_leaves_nothing_behind_on_the_port() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one")
    bed.packet(rtp(), 30000, CALLER)
    bed.ask("delete", call_id="one", from_tag="a")
    for number in (30000, 30001):
        table = bed.core.port(bed.handle(number))
        assert table is not None
        assert [*table.legs, *table.exact, *table.by_ip, *table.learnt, *table.routes] == []
        assert table.unnamed == 0


def test_shared_ports_are_never_bound_to_one_source() -> None:
    bed = Bed("shared:1@30000")
    bed.call()
    bed.packet(rtp(), 30000, CALLER)
    bed.packet(rtp(), 30000, CALLEE)
    assert "Couple" not in bed.logged


def test_a_source_that_was_heard_long_before_a_call_is_not_taken_for_the_only_one_that_waits() -> None:
    """A relay that came back without a session hears that session's phones go on. A new call behind their IP is not
    theirs."""
    bed = Bed("shared:1@30000")
    lost = ("198.51.100.10", 9000)
    bed.call("other", ("198.51.100.77", 4000), ("203.0.113.77", 5000))
    for sequence in range(100):
        assert bed.packet(rtp(sequence), 30000, lost) is None
        bed.now += 0.02
    bed.call("new", ("198.51.100.10", 4100), CALLEE)
    assert bed.packet(rtp(100), 30000, lost) is None
    assert bed.packet(rtp(), 30000, ("198.51.100.10", 4200)) == (30000, CALLEE)


def test_a_report_of_a_call_that_is_over_does_not_reach_the_only_call_of_its_ip() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one")
    assert bed.packet(rtp(), 30000, CALLER) == (30000, CALLEE)
    assert bed.packet(rtcp(ssrc=0x5EED), 30001, (CALLER[0], 9001)) is None
