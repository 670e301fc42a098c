"""A command for a call that another relay of the pool has (DESIGN 3.1)."""

from __future__ import annotations

from rtprelay.core.events import Ng, Peers, StoreReply
from sipcore import ng
from sipcore.record import Lease
from tests.unit.relay.harness import CALLEE, CALLER, PROXY, Bed, body

OTHER = ("192.0.2.2", 2223)


def pool() -> Bed:
    """A relay with its store and one other relay."""
    bed = Bed(store=True)
    bed.store_comes()
    bed.feed(StoreReply(bed.reads.pop().tag, [[]]))
    lease = Lease(kind="relay", pod="relay-1", uid="u", set="pool", ordinal=1, address=OTHER)
    own = Lease(kind="relay", pod="relay-0", uid="u", set="pool", ordinal=0, address=("192.0.2.1", 2223))
    bed.feed(Peers([own, lease]))
    return bed


def request(command: str, **fields: str) -> bytes:
    return ng.request(b"k", command, {name.replace("_", "-"): value for name, value in fields.items()})


def test_the_other_relay_is_asked_and_its_answer_given_back() -> None:
    bed = pool()
    assert bed.raw(request("delete", call_id="c", from_tag="a")) is None
    (read,) = bed.reads
    assert list(read.commands) == [(b"HGET", b"sf:default/pool:place", b"c")]
    bed.feed(StoreReply(read.tag, [b"relay-1"]))
    asked = bed._answers.pop()
    assert asked.target == OTHER
    passed = ng.parse_request(asked.data)
    assert (passed.command, passed.text(b"call-id")) == ("delete", b"c")
    bed.feed(Ng(ng.reply(passed.cookie, {"result": "ok", "warning": "from there"}), OTHER))
    answer = bed._answers.pop()
    assert answer.target == PROXY
    assert ng.parse_reply(answer.data) == ng.Reply(b"k", "ok", {b"result": b"ok", b"warning": b"from there"})
    assert bed.raw(request("delete", call_id="c", from_tag="a")) == answer.data


def test_a_command_that_is_asked_again_meanwhile_is_not_forwarded_twice() -> None:
    bed = pool()
    for _ in range(3):
        assert bed.raw(request("query", call_id="c")) is None
    assert len(bed.reads) == 1


def test_a_call_that_is_nowhere_is_unknown() -> None:
    bed = pool()
    bed.raw(request("query", call_id="c"))
    bed.feed(StoreReply(bed.reads[0].tag, [None]))
    assert ng.parse_reply(bed._answers.pop().data).reason == "Unknown call-id"


def test_a_call_at_a_dead_relay_is_offered_anew_here() -> None:
    bed = pool()
    bed.raw(request("offer", call_id="c", from_tag="a", to_tag="b", sdp=body(CALLER)))
    bed.feed(StoreReply(bed.reads[0].tag, [b"relay-7"]))
    assert ng.parse_reply(bed._answers.pop().data).result == "ok"
    assert b"c" in bed.core.sessions


def test_the_store_going_away_in_between_leaves_no_question_open() -> None:
    bed = pool()
    bed.raw(request("query", call_id="c"))
    bed.feed(StoreReply(bed.reads[0].tag, None))
    assert ng.parse_reply(bed._answers.pop().data).result == "error"


def test_new_calls_and_own_calls_ask_nobody() -> None:
    bed = pool()
    bed.call("mine")
    bed.ask("query", call_id="mine")
    bed.ask("offer", call_id="mine", from_tag="a", to_tag="b", sdp=body(CALLEE))
    assert bed.reads == []


def test_a_command_that_was_forwarded_already_is_answered_here() -> None:
    bed = pool()
    answer = bed.raw(ng.request(b"k", "query", {"call-id": "c", "forwarded": 1}))
    assert answer is not None
    assert ng.parse_reply(answer).reason == "Unknown call-id"


def test_an_errand_that_nobody_answers_is_forgotten() -> None:
    bed = pool()
    bed.raw(request("query", call_id="c"))
    bed.feed(StoreReply(bed.reads.pop().tag, [b"relay-1"]))
    bed._answers.clear()
    bed.wait(10)
    assert bed.raw(request("query", call_id="c")) is None
    assert len(bed.reads) == 1
