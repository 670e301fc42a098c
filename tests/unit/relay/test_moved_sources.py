"""A party whose packets come from another port in mid-call is recognised by its stream (RFC 3550 8.2)."""

from __future__ import annotations

from random import Random

import pytest

from rtprelay.core.events import Source
from sipcore.record import unseal
from sipcore.session import SessionRecord
from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, port, rtcp, rtp

MOVED = (CALLER[0], 40404)
"""Where a node that forgot its entry shows the caller."""

NAT = "198.51.100.99"
HOME = ("192.168.1.10", 7078)


def up(ports: str = "shared:1@30000", **options: bool) -> Bed:
    """A call with both parties heard; the caller's SSRC is 7 and its next packet number 11."""
    bed = Bed(ports, **options)  # type: ignore[arg-type]
    if options.get("store"):
        bed.store_comes()
    to_caller, to_callee = bed.call()
    for sequence in range(1, 11):
        bed.packet(rtp(sequence), to_caller, CALLER)
        bed.packet(rtp(sequence, ssrc=9), to_callee, CALLEE)
        bed.now += 0.02
    return bed


def legs(bed: Bed, call_id: bytes = b"call") -> tuple[int, int]:
    """The ports toward caller and callee."""
    caller, callee = bed.core.sessions[call_id].legs()
    return caller.pair.number, callee.pair.number


@pytest.mark.parametrize("options", [{}, {"speak_first": False}], ids=["default", "behind a Service"])
def test_a_stream_that_goes_on_from_another_port_is_followed_there(options: dict[str, bool]) -> None:
    bed = up(**options)
    assert bed.packet(rtp(11), 30000, MOVED) == (30000, CALLEE)
    assert bed.packet(rtp(11, ssrc=9), 30000, CALLEE) == (30000, MOVED)
    assert bed.core.matcher.moves == 1
    assert bed.logged.count("source_moved") == 1
    totals = bed.ask("query", call_id="call").fields[b"totals"]
    assert totals[b"RTP"][b"packets"] == 22  # type: ignore[index, call-overload]


def test_in_a_range_it_is_followed_when_the_ports_are_not_bound_to_one_source() -> None:
    bed = up("30000-30199", speak_first=False)
    to_caller, to_callee = legs(bed)
    assert bed.packet(rtp(11), to_caller, MOVED) == (to_callee, CALLEE)
    assert bed.packet(rtp(11, ssrc=9), to_callee, CALLEE) == (to_caller, MOVED)
    assert "Couple" not in bed.logged


def test_a_coupled_port_that_hears_nothing_more_listens_to_other_sources_again() -> None:
    bed = up("30000-30199")
    to_caller, to_callee = legs(bed)
    assert bed.logged.count("Uncouple") == 0
    bed.wait(6)
    assert bed.logged[-1] == "Uncouple"
    assert bed.packet(rtp(311), to_caller, MOVED) == (to_callee, CALLEE)


def test_ports_are_coupled_again_when_both_parties_speak_again() -> None:
    bed = up("30000-30199")
    to_caller, to_callee = legs(bed)
    bed.wait(6)
    for sequence in range(300, 600):
        bed.packet(rtp(sequence), to_caller, CALLER)
        bed.packet(rtp(sequence, ssrc=9), to_callee, CALLEE)
        bed.wait(0.02)
    assert [event for event in bed.logged if "ouple" in event] == ["Couple", "Uncouple", "Couple"]


@pytest.mark.parametrize(
    "data",
    [
        rtp(11, ssrc=8),
        rtp(10),
        rtp(9),
        rtp(200),
        rtp(11, timestamp=1_000_000),
        rtp(11, payload_type=96),
        rtcp(),
        bytes(172),
        b"",
    ],
    ids=["SSRC", "repeated", "earlier", "too far on", "timestamp", "payload type", "RTCP", "no RTP", "empty"],
)
def test_what_does_not_continue_the_stream_moves_nothing(data: bytes) -> None:
    bed = up()
    assert bed.packet(data, 30000, MOVED) is None
    assert bed.packet(rtp(11, ssrc=9), 30000, CALLEE) == (30000, CALLER)
    assert bed.core.matcher.moves == 0


def test_an_ip_that_nobody_named_moves_nothing() -> None:
    bed = up()
    assert bed.packet(rtp(11), 30000, ("198.51.100.66", CALLER[1])) is None
    assert bed.packet(rtp(11, ssrc=9), 30000, CALLEE) == (30000, CALLER)


def test_another_port_of_ours_is_not_the_legs() -> None:
    bed = up("shared:2@30000")
    other = ({30000, 30002} - {legs(bed)[0]}).pop()
    assert bed.packet(rtp(11), other, MOVED) is None


def test_a_party_that_has_not_spoken_cannot_be_recognised() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one", (NAT, 4000), ("203.0.113.20", 5000))
    bed.call("two", (NAT, 4002), ("203.0.113.20", 5002))
    assert bed.packet(rtp(1), 30000, (NAT, 9999)) is None
    assert bed.core.matcher.moves == 0


def test_a_leg_moves_no_more_often_than_ten_times_a_second() -> None:
    bed = up()
    assert bed.packet(rtp(11), 30000, MOVED) is not None
    assert bed.packet(rtp(12), 30000, (CALLER[0], 40405)) is None
    bed.now += 0.1
    assert bed.packet(rtp(13), 30000, (CALLER[0], 40405)) is not None
    assert bed.core.matcher.moves == 2


def test_the_signalled_address_counts_again_when_the_stream_goes_on_there() -> None:
    bed = up()
    bed.packet(rtp(11), 30000, MOVED)
    assert bed.packet(rtp(12), 30000, CALLER) == (30000, CALLEE)
    assert bed.packet(rtp(11, ssrc=9), 30000, CALLEE) == (30000, CALLER)


def test_a_late_packet_from_the_signalled_address_does_not_take_the_leg_back() -> None:
    bed = up()
    bed.packet(rtp(12), 30000, MOVED)
    assert bed.packet(rtp(11), 30000, CALLER) is None
    assert bed.core.matcher.dropped["late"] == 1
    assert bed.packet(rtp(13), 30000, MOVED) == (30000, CALLEE)


def test_a_late_packet_of_a_leg_that_moved_is_nobody_elses() -> None:
    bed = Bed("shared:1@30000")
    bed.ask("offer", call_id="one", from_tag="a", sdp=body(HOME), received_from=["IP4", NAT])
    bed.ask("answer", call_id="one", from_tag="a", to_tag="b", sdp=body(CALLEE))
    bed.packet(rtp(1), 30000, (NAT, 61000))
    other = (HOME[0], 9000)
    bed.ask("offer", call_id="two", from_tag="a", sdp=body(other), received_from=["IP4", NAT])
    bed.ask("answer", call_id="two", from_tag="a", to_tag="b", sdp=body((CALLEE[0], 5100)))
    assert bed.packet(rtp(3), 30000, (NAT, 61001)) == (30000, CALLEE)
    assert bed.packet(rtp(2), 30000, (NAT, 61000)) is None
    assert bed.packet(rtp(1, ssrc=8), 30000, (NAT, 61002)) == (30000, (CALLEE[0], 5100))


def test_a_moved_leg_is_not_mistaken_for_one_that_waits_for_a_source_from_this_ip() -> None:
    bed = up()
    bed.call("waits", (CALLER[0], 4600), (CALLEE[0], 5600))
    assert bed.packet(rtp(11), 30000, MOVED) == (30000, CALLEE)
    assert bed.packet(rtp(1, ssrc=8), 30000, (CALLER[0], 4600)) == (30000, (CALLEE[0], 5600))


def test_where_two_legs_could_have_sent_it_neither_moves() -> None:
    bed = Bed("shared:1@30000")
    bed.call("one", (NAT, 4000), ("203.0.113.20", 5000))
    bed.call("two", (NAT, 4002), ("203.0.113.20", 5002))
    bed.packet(rtp(1), 30000, (NAT, 4000))
    bed.packet(rtp(1), 30000, (NAT, 4002))
    assert bed.packet(rtp(2), 30000, (NAT, 9999)) is None
    assert bed.core.matcher.moves == 0


def test_a_phone_behind_nat_whose_mapping_changes_is_followed() -> None:
    bed = Bed()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(HOME), received_from=["IP4", NAT])
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    to_callee, to_caller = port(offer.sdp), port(answer.sdp)
    bed.packet(rtp(1), to_caller, (NAT, 61000))
    assert bed.packet(rtp(2), to_caller, (NAT, 61500)) == (to_callee, CALLEE)
    assert bed.packet(rtp(1), to_callee, CALLEE) == (to_caller, (NAT, 61500))


def test_many_calls_of_one_ip_keep_apart_while_their_ports_change() -> None:
    bed = Bed("shared:1@30000", capacity=1000)
    rng = Random(11)
    sources: dict[int, Source] = {}
    targets: dict[int, Source] = {}
    for number in range(40):
        caller, callee = ("198.51.100.10", 4000 + 2 * number), ("203.0.113.20", 4000 + 2 * number)
        bed.call(f"c{number}", caller, callee)
        for here, there in ((2 * number, 2 * number + 1), (2 * number + 1, 2 * number)):
            sources[here] = targets[there] = caller if here % 2 == 0 else callee
    starts = {side: rng.randrange(1 << 16) for side in sources}
    ssrcs = {side: rng.randrange(1 << 32) for side in sources}
    heard = 0
    for round_number in range(60):
        if round_number == 30:  # the node forgets all of them, and shows some under another port
            for side in rng.sample(sorted(sources), 40):
                sources[side] = targets[side ^ 1] = (sources[side][0], 20_000 + side)
        for side in sorted(sources, key=lambda _: rng.random()):
            number = starts[side] + round_number
            packet = rtp(number, ssrc=ssrcs[side], timestamp=number * 160)
            forward = bed.packet(packet, 30000, sources[side])
            if forward is not None:
                heard += 1
                assert forward[1][1] in (targets[side][1], 4000 + 2 * (side // 2))
                assert forward[1][0] == targets[side][0]
        bed.now += 0.02
    assert heard == 60 * 80
    assert bed.core.matcher.moves == 40


# RTCP


def test_reports_from_another_port_are_told_apart_by_ssrc_and_teach_nothing() -> None:
    bed = up()
    bed.call("other", (CALLER[0], 4600), (CALLEE[0], 5600))
    bed.packet(rtp(1, ssrc=8), 30000, (CALLER[0], 4600))
    elsewhere = (CALLER[0], 40405)
    assert bed.packet(rtcp(ssrc=7), 30001, elsewhere) == (30001, (CALLEE[0], CALLEE[1] + 1))
    assert bed.packet(rtcp(ssrc=8), 30001, elsewhere) == (30001, (CALLEE[0], 5601))
    assert bed.packet(rtcp(ssrc=6), 30001, elsewhere) is None
    assert bed.packet(rtcp(ssrc=9), 30001, (CALLEE[0], CALLEE[1] + 1)) == (30001, (CALLER[0], CALLER[1] + 1))


# over a restart


def test_what_came_is_in_the_record_when_its_source_is() -> None:
    bed = Bed("shared:1@30000", store=True)
    bed.store_comes()
    bed.call()
    bed.packet(rtp(41), 30000, CALLER)
    record = unseal(bed.stored()[b"call"], SessionRecord)[2]
    mark = record.parties[0].legs[0].stream  # type: ignore[union-attr]
    assert mark is not None
    assert (mark.ssrc, mark.sequence, mark.timestamp) == (7, 42, 41 * 160)
    assert mark.at == pytest.approx(1_700_000_000 + bed.now)


def test_another_ssrc_is_written_within_seconds_and_not_with_each_packet() -> None:
    bed = up(store=True)
    before = len(bed.written)
    for number in range(100):
        bed.packet(rtp(1, ssrc=1000 + number), 30000, CALLER)
    assert len(bed.written) == before
    bed.wait(6)
    assert len(bed.written) == before + 1
    mark = unseal(bed.stored()[b"call"], SessionRecord)[2].parties[0].legs[0].stream  # type: ignore[union-attr]
    assert mark is not None
    assert mark.ssrc == 1099
    bed.wait(20)
    assert len(bed.written) == before + 1


@pytest.mark.parametrize("minutes", [0, 1, 50])
def test_a_restored_stream_is_recognised_by_ssrc_and_clock(minutes: int) -> None:
    bed = up(store=True, speak_first=False)
    learnt = bed.now - 0.2  # the record was written then
    bed.now += 60 * minutes
    bed = bed.restart(away=1.0)
    stamp = 160 + int((bed.now - learnt) * 8000)
    late = rtp(stamp // 160, timestamp=stamp - 5 * 8000 - 3600 * 8)
    assert bed.packet(late, 30000, MOVED) is None
    assert bed.packet(rtp(stamp // 160, ssrc=8, timestamp=stamp), 30000, MOVED) is None
    bed.packet(rtp(1, ssrc=9), 30000, CALLEE)
    assert bed.packet(rtp(stamp // 160, timestamp=stamp), 30000, MOVED) == (30000, CALLEE)


def test_a_party_that_moved_while_the_relay_was_away_is_followed_at_once_in_a_range_too() -> None:
    bed = up("30000-30199", store=True)
    to_caller, to_callee = legs(bed)
    bed = bed.restart(away=1.0)
    assert bed.packet(rtp(60), to_caller, MOVED) == (to_callee, CALLEE)
    assert "Couple" not in bed.logged


def test_a_restored_stream_that_says_nothing_is_kept_over_a_second_restart() -> None:
    bed = up(store=True).restart()
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    bed = bed.restart(away=1.0)
    assert bed.packet(rtp(60), 30000, MOVED) == (30000, CALLEE)


def test_a_restored_stream_counts_from_its_first_packet() -> None:
    bed = up(store=True).restart(away=10.0)
    bed.packet(rtp(500), 30000, CALLER)
    assert bed.core.sessions[b"call"].legs()[0].stream.lost == 0
    bed.wait(6)
    assert not [command for command in bed.written if command[0] == b"HSET"]


# another pod in the same slot


@pytest.mark.parametrize("ports", ["shared:2@30000", "30000-30199"])
def test_a_pod_with_another_address_behind_the_same_advertised_one_takes_the_sessions_up(ports: str) -> None:
    bed = Bed(ports, store=True, interfaces=("10.0.0.1!192.0.2.77",), speak_first=False)
    bed.store_comes()
    offer = bed.ask("offer", call_id="call", from_tag="a", sdp=body(CALLER))
    answer = bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE))
    to_callee, to_caller = port(offer.sdp), port(answer.sdp)
    bed.packet(rtp(1), to_caller, CALLER, "10.0.0.1")
    bed.packet(rtp(1, ssrc=9), to_callee, CALLEE, "10.0.0.1")
    assert b"10.0.0.1" not in bed.stored()[b"call"]
    bed = bed.restart(interfaces=("10.9.9.9!192.0.2.77",))
    assert bed.core.counters.restored == 1
    assert bed.packet(rtp(2), to_caller, CALLER, "10.9.9.9") is None
    assert bed.packet(rtp(2, ssrc=9), to_callee, CALLEE, "10.9.9.9") == (to_caller, CALLER)
    assert bed.packet(rtp(3), to_caller, CALLER, "10.9.9.9") == (to_callee, CALLEE)
    again = bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER))
    assert again.sdp == offer.sdp


def test_a_pod_that_is_advertised_otherwise_does_not() -> None:
    bed = Bed("shared:2@30000", store=True, interfaces=("10.0.0.1!192.0.2.77",))
    bed.store_comes()
    bed.call()
    bed = bed.restart(interfaces=("10.0.0.1!192.0.2.78",))
    assert (bed.core.counters.restored, bed.core.counters.not_restored) == (0, 1)
