"""ng commands: the answers, their shape, and what bad ones get."""

from __future__ import annotations

import pytest

from rtprelay.core.events import Cordon, Drain, Uncordon
from sipcore import bencode, ng
from tests.unit.relay.harness import CALLEE, CALLER, Bed, body, lines, port, rtp


def test_ping_is_answered_with_pong() -> None:
    assert Bed().ask("ping").result == "pong"


def test_an_offer_gets_the_relays_address_an_even_port_and_rtcp_on_the_next() -> None:
    offer = Bed().ask("offer", call_id="c", from_tag="a", sdp=body(CALLER))
    number = port(offer.sdp)
    assert number % 2 == 0
    assert lines(offer.sdp, "c=") == ["c=IN IP4 192.0.2.1"]
    assert lines(offer.sdp, "a=rtcp:") == [f"a=rtcp:{number + 1}"]


def test_caller_and_callee_get_different_ports() -> None:
    to_caller, to_callee = Bed().call()
    assert to_caller != to_callee


def test_the_same_cookie_from_the_same_peer_gets_the_same_answer_and_changes_nothing() -> None:
    bed = Bed()
    offer = ng.request(b"cookie", "offer", {"call-id": "c", "from-tag": "a", "sdp": body(CALLER)})
    first = bed.raw(offer)
    ended = ng.request(b"other", "delete", {"call-id": "c", "from-tag": "a"})
    bed.raw(ended)
    assert bed.raw(offer) == first
    assert not bed.core.sessions


def test_the_same_cookie_from_another_peer_is_another_command() -> None:
    bed = Bed()
    assert bed.raw(ng.request(b"1", "ping", {})) != bed.raw(ng.request(b"1", "list", {}), ("192.0.2.10", 1))


def test_answers_are_forgotten_in_the_end() -> None:
    bed = Bed()
    offer = ng.request(b"cookie", "offer", {"call-id": "c", "from-tag": "a", "sdp": body(CALLER)})
    bed.raw(offer)
    bed.ask("delete", call_id="c", from_tag="a")
    for _ in range(2):
        bed.now += 31
        bed.ask("ping")
    bed.raw(offer)
    assert b"c" in bed.core.sessions


@pytest.mark.parametrize(
    ("command", "fields", "reason"),
    [
        ("offer", {"from-tag": "a", "sdp": body(CALLER)}, "No call-id in message"),
        ("offer", {"call-id": "c", "sdp": body(CALLER)}, "No from-tag in message"),
        ("offer", {"call-id": "c", "from-tag": "a"}, "No SDP body in message"),
        ("offer", {"call-id": "c", "from-tag": "a", "sdp": "hello"}, "Failed to parse SDP"),
        ("answer", {"call-id": "c", "from-tag": "a", "sdp": body(CALLER)}, "No to-tag in message"),
        ("answer", {"call-id": "c", "from-tag": "a", "to-tag": "b", "sdp": body(CALLER)}, "Unknown call-id"),
        ("query", {"call-id": "c"}, "Unknown call-id"),
        ("delete", {}, "No call-id in message"),
        ("dance", {}, "Unrecognized command"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_its_reason(command: str, fields: dict[str, str], reason: str) -> None:
    bed = Bed()
    answer = bed.raw(ng.request(b"k", command, fields))
    assert answer is not None
    reply = ng.parse_reply(answer)
    assert reply.result == "error"
    assert reply.reason.startswith(reason)
    assert not bed.core.sessions


@pytest.mark.parametrize(
    "datagram",
    [b"", b"nocookie", b" d7:command4:pinge", b"x" * 200 + b" d7:command4:pinge"],
)
def test_a_datagram_without_a_cookie_gets_no_answer(datagram: bytes) -> None:
    assert Bed().raw(datagram) is None


@pytest.mark.parametrize("content", [b"foo", b"le", b"i5e", b"d7:command", b"d1:a1:be"])
def test_a_cookie_with_rubbish_gets_an_error(content: bytes) -> None:
    answer = Bed().raw(b"k " + content)
    assert answer is not None
    assert ng.parse_reply(answer).result == "error"


def test_a_full_relay_answers_load_limit_and_keeps_the_calls_it_has() -> None:
    bed = Bed(capacity=1)
    to_caller, to_callee = bed.call("one")
    assert bed.ask("offer", call_id="two", from_tag="a", sdp=body(CALLER)).result == "load limit"
    bed.packet(rtp(), to_callee, CALLEE)
    assert bed.packet(rtp(), to_caller, CALLER) == (to_callee, CALLEE)


@pytest.mark.parametrize("event", [Cordon(), Drain()])
def test_a_cordoned_or_draining_relay_takes_no_new_call_but_serves_re_offers(event: Cordon | Drain) -> None:
    bed = Bed()
    bed.call("old")
    bed.feed(event)
    assert bed.ask("offer", call_id="new", from_tag="a", sdp=body(CALLER)).result == "load limit"
    assert bed.ask("offer", call_id="old", from_tag="a", to_tag="b", sdp=body(CALLER)).result == "ok"


def test_an_uncordoned_relay_takes_calls_again() -> None:
    bed = Bed()
    bed.feed(Cordon())
    bed.feed(Uncordon())
    assert bed.ask("offer", call_id="new", from_tag="a", sdp=body(CALLER)).result == "ok"


def test_no_ports_left_is_load_limit_and_takes_nothing() -> None:
    bed = Bed("30000-30003")
    bed.call("one")
    assert bed.ask("offer", call_id="two", from_tag="a", sdp=body(CALLER)).result == "load limit"
    assert list(bed.core.sessions) == [b"one"]
    bed.ask("delete", call_id="one", from_tag="a")
    assert bed.ask("offer", call_id="two", from_tag="a", sdp=body(CALLER)).result == "ok"


def test_list_names_the_calls_up_to_the_limit() -> None:
    bed = Bed()
    for number in range(5):
        bed.call(f"call-{number}", ("198.51.100.10", 4000 + 2 * number), ("203.0.113.20", 5000 + 2 * number))
    assert sorted(bed.ask("list").fields[b"calls"]) == [b"call-%d" % n for n in range(5)]  # type: ignore[arg-type]
    assert len(bed.ask("list", limit=2).fields[b"calls"]) == 2  # type: ignore[arg-type]


def test_query_counts_the_packets_of_each_side() -> None:
    bed = Bed()
    to_caller, to_callee = bed.call()
    for sequence in range(1, 4):
        bed.packet(rtp(sequence), to_caller, CALLER)
    bed.packet(rtp(1, ssrc=8), to_callee, CALLEE)
    bed.packet(rtp(4, ssrc=8), to_callee, CALLEE)
    fields = bed.ask("query", call_id="call").fields
    streams = {tag: fields[b"tags"][tag][b"medias"][0][b"streams"][0] for tag in (b"a", b"b")}  # type: ignore[index, call-overload]
    assert streams[b"a"][b"stats"][b"packets"] == 3  # type: ignore[index, call-overload]
    assert streams[b"a"][b"stats"][b"bytes"] == 3 * 172  # type: ignore[index, call-overload]
    assert streams[b"b"][b"stats"][b"packets lost"] == 2  # type: ignore[index, call-overload]
    assert fields[b"totals"][b"RTP"][b"packets"] == 5  # type: ignore[index, call-overload]


def test_delete_gives_the_last_counts_and_frees_the_ports() -> None:
    bed = Bed()
    before = set(bed.opened.values())
    to_caller, _ = bed.call()
    bed.packet(rtp(), to_caller, CALLER)
    reply = bed.ask("delete", call_id="call", from_tag="a", to_tag="b")
    assert reply.result == "ok"
    assert reply.fields[b"totals"][b"RTP"][b"packets"] == 1  # type: ignore[index, call-overload]
    assert not bed.core.sessions
    assert len(bed.opened) == len(before)
    assert (to_caller) not in {number for _, number in bed.opened.values()}


@pytest.mark.parametrize("tags", [{"from_tag": "x"}, {"from_tag": "x", "to_tag": "y"}])
def test_delete_with_foreign_tags_is_ok_with_a_warning_and_ends_nothing(tags: dict[str, str]) -> None:
    bed = Bed()
    bed.call()
    reply = bed.ask("delete", call_id="call", **tags)
    assert reply.result == "ok"
    assert b"warning" in reply.fields
    assert b"call" in bed.core.sessions


def test_delete_by_the_callees_bye_ends_the_call() -> None:
    bed = Bed()
    bed.call()
    bed.ask("delete", call_id="call", from_tag="b", to_tag="a")
    assert not bed.core.sessions


def test_metadata_rides_along_and_is_given_back() -> None:
    bed = Bed()
    bed.ask("offer", call_id="c", from_tag="a", sdp=body(CALLER), metadata="opaque")
    bed.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.ask("query", call_id="c").fields[b"metadata"] == b"opaque"


def test_keys_may_have_blanks_for_hyphens() -> None:
    bed = Bed(interfaces=("192.0.2.1", "2001:db8::1"))
    data = ng.request(b"k", "offer", {"call-id": "c", "from-tag": "a", "sdp": body(CALLER), "address family": "IP6"})
    answer = bed.raw(data)
    assert answer is not None
    assert lines(ng.parse_reply(answer).sdp, "c=") == ["c=IN IP6 2001:db8::1"]


def test_a_port_that_another_program_holds_is_not_offered() -> None:
    bed = Bed("30000-30011", taken=[("192.0.2.1", number) for number in (30001, *range(30004, 30010))])
    assert set(bed.call()) == {30002, 30010}


def test_an_answer_is_bencode_with_sorted_keys() -> None:
    answer = Bed().raw(b"k d7:command4:pinge")
    assert answer == b"k " + bencode.encode({"result": "pong"})
