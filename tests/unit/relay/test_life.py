"""The life of a session: timeouts, what is stored, and what the next incarnation makes of it."""

from __future__ import annotations

import gc
import weakref

import pytest

from rtprelay.core.events import Ng, SendNg, Store, StoreReply, StoreState
from sipcore import ng
from sipcore.record import unseal
from sipcore.session import SessionRecord
from tests.unit.relay.harness import CALLEE, CALLER, RELAY, Bed, body, lines, port, rtp


def speak(bed: Bed, ports: tuple[int, int], seconds: float, step: float = 20.0) -> None:
    end, sequence = bed.now + seconds, 0
    while bed.now < end and bed.core.sessions:
        sequence += 1
        bed.packet(rtp(sequence), ports[0], CALLER)
        bed.wait(min(step, end - bed.now))


def test_60_seconds_without_rtp_end_a_call() -> None:
    bed = Bed()
    bed.call()
    bed.wait(59)
    assert bed.core.sessions
    bed.wait(2)
    assert not bed.core.sessions
    assert bed.core.counters.timeouts == 1


def test_rtp_of_one_side_keeps_a_call() -> None:
    bed = Bed()
    speak(bed, bed.call(), 300)
    assert bed.core.sessions


def test_a_call_on_hold_lasts_3600_seconds_without_rtp() -> None:
    bed = Bed()
    bed.call()
    bed.ask("offer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLER, direction="inactive"))
    bed.ask("answer", call_id="call", from_tag="a", to_tag="b", sdp=body(CALLEE, direction="inactive"))
    bed.wait(3599)
    assert bed.core.sessions
    bed.wait(2)
    assert not bed.core.sessions


def test_a_rejected_video_line_does_not_make_a_dead_call_live_longer() -> None:
    bed = Bed()
    media = "m=audio {} RTP/AVP 0\r\nm=video {} RTP/AVP 31\r\n"
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER, media=media.format(4000, 4002)))
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE, media=media.format(5000, 0)))
    bed.wait(61)
    assert not bed.core.sessions


def test_no_call_lasts_longer_than_10800_seconds() -> None:
    bed = Bed()
    ports = bed.call()
    speak(bed, ports, 10_790, step=50)
    assert bed.core.sessions
    speak(bed, ports, 20, step=5)
    assert not bed.core.sessions


def test_an_offer_waits_300_seconds_for_its_answer() -> None:
    bed = Bed()
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    bed.wait(299)
    assert bed.core.sessions
    bed.wait(2)
    assert not bed.core.sessions


def test_without_a_store_nothing_is_written() -> None:
    bed = Bed()
    ports = bed.call()
    bed.packet(rtp(), ports[0], CALLER)
    assert bed.written == []
    assert bed.core.ready


def test_the_record_is_written_before_the_answer_goes_out() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    data = ng.request(b"k", "offer", {"call-id": "c", "from-tag": "a", "sdp": body(CALLER)})
    kinds = [type(action) for action in bed.core.feed(Ng(data, ("192.0.2.9", 1)), bed.now)]
    assert kinds.index(Store) < kinds.index(SendNg)


def test_a_learnt_source_is_written_at_once() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    ports = bed.call()
    before = len(bed.written)
    bed.packet(rtp(), ports[0], CALLER)
    assert len(bed.written) == before + 1
    bed.packet(rtp(2), ports[0], CALLER)
    assert len(bed.written) == before + 1
    _, _, record = unseal(bed.stored()[b"call"], SessionRecord)
    assert record.parties[0].legs[0].learnt == CALLER  # type: ignore[union-attr]


def test_the_end_of_a_call_takes_its_record_and_its_place_away() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    bed.call()
    assert (b"HSET", b"sf:default/pool:place", b"call", "relay-0") in bed.written
    bed.ask("delete", call_id="call", from_tag="a")
    assert not bed.stored()
    assert bed.written[-1] == (b"HDEL", b"sf:default/pool:place", b"call")


def test_a_restarted_relay_forwards_the_first_packet_on_the_same_ports() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    bed.packet(rtp(), to_callee, CALLEE)
    bed = bed.restart()
    assert bed.core.ready
    assert bed.core.counters.restored == 1
    assert bed.packet(rtp(2), to_callee, CALLEE) == (to_caller, CALLER)
    assert bed.packet(rtp(2), to_caller, CALLER) == (to_callee, CALLEE)


def test_restored_ports_are_coupled_when_both_parties_have_spoken_again() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    bed.packet(rtp(), to_callee, CALLEE)
    bed = bed.restart()
    bed.wait(4.5)
    bed.packet(rtp(2), to_callee, CALLEE)
    bed.wait(1)
    assert "Couple" not in bed.logged
    bed.wait(4)
    bed.packet(rtp(3), to_callee, CALLEE)
    bed.packet(rtp(3), to_caller, CALLER)
    bed.wait(1)
    assert "Couple" in bed.logged


def test_a_restarted_relay_remembers_a_source_behind_nat() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    received = ["IP4", "198.51.100.99"]
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(("192.168.1.10", 7078)), received_from=received)
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    offer_port = next(leg.pair.number for leg in bed.core.sessions[b"c"].legs() if leg.party.tag == b"b")
    bed.packet(rtp(), port(answer.sdp), ("198.51.100.99", 61234))
    bed = bed.restart()
    assert bed.packet(rtp(), offer_port, CALLEE) == (port(answer.sdp), ("198.51.100.99", 61234))


def test_a_restarted_relay_owns_the_o_line_as_before() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    offer = bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    bed = bed.restart()
    again = bed.ask("offer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLER))
    assert again.sdp == offer.sdp
    hold = bed.ask("offer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLER, direction="sendonly"))
    first, changed = (lines(sdp, "o=")[0].split() for sdp in (offer.sdp, hold.sdp))
    assert (changed[1], int(changed[2])) == (first[1], int(first[2]) + 1)


def test_a_session_that_was_ringing_is_answered_after_the_restart() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", via_branch="z9hG4bKx", sdp=body(CALLER)).sdp)
    bed = bed.restart()
    answer = bed.ask("answer", call_id="c", from_tag="a", to_tag="b", via_branch="z9hG4bKx", sdp=body(CALLEE))
    assert bed.packet(rtp(), port(answer.sdp), CALLER) == (to_callee, CALLEE)


def test_forks_and_their_shared_ports_are_restored() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    other = ("203.0.113.30", 7000)
    to_callee = port(bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER)).sdp)
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b1", sdp=body(CALLEE))
    to_caller = port(bed.ask("answer", call_id="c", from_tag="a", to_tag="b2", sdp=body(other)).sdp)
    bed = bed.restart()
    assert bed.packet(rtp(), to_caller, CALLER) == (to_callee, other)
    assert bed.packet(rtp(), to_callee, CALLEE) is None
    bed.ask("delete", call_id="c", from_tag="a")
    assert not bed.core.sessions


def test_shared_ports_are_restored_too() -> None:
    bed = Bed("shared:2@30000", store=True)
    bed.store_comes()
    to_caller, to_callee = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    bed = bed.restart()
    assert bed.packet(rtp(), to_callee, CALLEE) == (to_caller, CALLER)


def test_a_port_that_is_taken_at_the_restart_costs_that_call_only() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    lost, kept = bed.call("lost"), bed.call("kept", ("198.51.100.10", 4100), ("203.0.113.20", 5100))
    bed = bed.restart(taken=((RELAY, lost[0]),))
    assert list(bed.core.sessions) == [b"kept"]
    assert bed.core.counters.not_restored == 1
    assert (b"HDEL", b"sf:default/pool:sessions:relay-0", b"lost") in bed.written
    assert bed.packet(rtp(), kept[0], ("198.51.100.10", 4100)) is not None


def test_sessions_of_ports_that_are_no_longer_ours_are_not_restored() -> None:
    bed = Bed(store=True)
    bed.store_comes()
    bed.call()
    bed = bed.restart(ports="40000-40199")
    assert not bed.core.sessions
    assert bed.core.counters.not_restored == 1
    assert bed.core.ready


@pytest.mark.parametrize("rubbish", [b"", b"x", b"S\x01\0\0\0\0\0\0garbage", b"S\x02\0\0\0\0\0\0\x91\x02"])
def test_a_record_that_cannot_be_read_is_counted_and_the_rest_restored(rubbish: bytes) -> None:
    bed = Bed(store=True)
    bed.store_comes()
    bed.call()
    fresh = Bed(store=True, seed=3)
    fresh.feed(StoreState(True, "run"))
    fresh.feed(StoreReply(fresh.reads[0].tag, [[b"bad", rubbish, b"call", bed.stored()[b"call"]]]))
    assert list(fresh.core.sessions) == [b"call"]
    assert fresh.core.counters.not_restored == 1


def test_a_relay_is_ready_after_two_seconds_without_its_store_and_serves_before() -> None:
    bed = Bed(store=True)
    assert not bed.core.ready
    bed.call()
    bed.wait(2.1)
    assert bed.core.ready


def test_a_store_that_comes_late_is_still_restored_from() -> None:
    old = Bed(store=True)
    old.store_comes()
    old.call("old")
    bed = Bed(store=True, seed=8)
    bed.wait(5)
    bed.call("new", ("198.51.100.10", 4100), ("203.0.113.20", 5100))
    bed.feed(StoreState(True, "run"))
    bed.feed(StoreReply(bed.reads[0].tag, [[b"old", old.stored()[b"old"]]]))
    assert set(bed.core.sessions) == {b"old", b"new"}


def test_a_command_for_a_call_that_may_be_being_restored_is_answered_when_it_is() -> None:
    old = Bed(store=True)
    old.store_comes()
    old.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    bed = Bed(store=True, seed=8)
    bed.feed(StoreState(True, "run"))
    answer = ng.request(b"k", "answer", {"call-id": "c", "from-tag": "a", "to-tag": "b", "sdp": body(CALLEE)})
    assert bed.raw(answer) is None
    bed.feed(StoreReply(bed.reads[0].tag, [[b"c", old.stored()[b"c"]]]))
    reply = bed.raw(answer)
    assert reply is not None
    assert ng.parse_reply(reply).result == "ok"


def test_a_connection_that_breaks_during_the_read_is_asked_again() -> None:
    bed = Bed(store=True)
    bed.feed(StoreState(True, "run"))
    bed.feed(StoreReply(bed.reads[0].tag, None))
    bed.feed(StoreState(False))
    bed.feed(StoreState(True, "run"))
    assert len(bed.reads) == 2
    bed.feed(StoreReply(bed.reads[1].tag, [[]]))
    assert bed.core.ready


def test_another_empty_store_gets_all_sessions_again() -> None:
    bed = Bed(store=True)
    bed.feed(StoreState(True, "one"))
    bed.feed(StoreReply(bed.reads[0].tag, [[]]))
    bed.call("a")
    bed.call("b", ("198.51.100.10", 4100), ("203.0.113.20", 5100))
    bed.written.clear()
    bed.feed(StoreState(False))
    bed.feed(StoreState(True, "two"))
    assert set(bed.stored()) == {b"a", b"b"}
    assert sum(command[1] == b"sf:default/pool:place" for command in bed.written) == 2


def test_the_same_store_that_comes_back_gets_nothing_twice() -> None:
    bed = Bed(store=True)
    bed.feed(StoreState(True, "one"))
    bed.feed(StoreReply(bed.reads[0].tag, [[]]))
    bed.call()
    bed.written.clear()
    bed.feed(StoreState(False))
    bed.feed(StoreState(True, "one"))
    assert bed.written == []


def test_with_restore_off_stored_sessions_are_left_alone() -> None:
    bed = Bed(store=True, restore=False)
    assert bed.core.ready
    bed.feed(StoreState(True, "run"))
    assert bed.reads == []


def test_a_session_that_ended_leaves_no_garbage_for_the_collector() -> None:
    bed = Bed()
    ports = bed.call()
    bed.packet(rtp(), ports[0], CALLER)
    bed.packet(rtp(), ports[1], CALLEE)
    gone = weakref.ref(bed.core.sessions[b"call"].parties[0])
    gc.disable()
    try:
        bed.ask("delete", call_id="call", from_tag="a")
        assert gone() is None
    finally:
        gc.enable()
