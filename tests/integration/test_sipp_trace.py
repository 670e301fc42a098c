"""The judge of SIPp traces, on small traces: one that SIPp wrote, and the same with messages taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.peers.sipp_trace import (
    TracedCall,
    TraceError,
    judge_trace_files,
    judge_traces,
    parse_trace,
    traced_calls,
)

RULE = "-" * 47
TRACES = Path(__file__).parent / "data" / "sipp"
ANSWERED = TracedCall(answered=True)
KEPT = TracedCall(answered=True, ended=True)


def record(call_id: str, start_line: str, cseq: str, direction: str = "received [100] bytes ") -> str:
    return (
        f"{RULE} 2026-01-01 00:00:00.000000\nUDP message {direction}:\n\n{start_line}\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\r\n\n"
    )


def test_every_message_of_a_real_trace_is_read() -> None:
    messages = list(parse_trace((TRACES / "two-calls.uac.msg").read_text()))
    seen = [
        (m.direction, m.start_line.split()[0] if m.status is None else str(m.status), m.cseq_method) for m in messages
    ]
    one_call = [
        ("sent", "INVITE", "INVITE"),
        ("received", "100", "INVITE"),
        ("received", "180", "INVITE"),
        ("received", "200", "INVITE"),
        ("sent", "ACK", "ACK"),
        ("sent", "BYE", "BYE"),
        ("received", "200", "BYE"),
    ]
    assert sorted(seen) == sorted(one_call * 2)


def test_calls_that_both_sides_saw_answered_and_ended_are_kept() -> None:
    verdict = judge_trace_files(TRACES / "two-calls.uac.msg", TRACES / "two-calls.uas.msg")
    assert (verdict.answered, verdict.kept, verdict.lost, verdict.never_answered) == (2, 2, {}, {})


def test_a_call_whose_bye_was_never_answered_is_lost_and_listed() -> None:
    trace = record("a", "SIP/2.0 200 OK", "1 INVITE") + record("a", "BYE sip:x SIP/2.0", "2 BYE")
    verdict = judge_traces(traced_calls(parse_trace(trace)), {"a": ANSWERED})
    assert (verdict.answered, verdict.kept) == (1, 0)
    assert verdict.lost == {"a": "no 200 to a BYE at the caller and the callee (nothing else)"}


def test_a_call_that_one_side_alone_saw_end_is_lost() -> None:
    assert judge_traces({"a": KEPT}, {"a": ANSWERED}).lost
    assert judge_traces({"a": ANSWERED}, {"a": KEPT}).lost


def test_an_answer_that_never_reached_the_caller_is_a_lost_call() -> None:
    verdict = judge_traces({"a": TracedCall()}, {"a": ANSWERED})
    assert (verdict.answered, len(verdict.lost)) == (1, 1)


def test_a_bye_refused_with_481_does_not_count_as_an_end() -> None:
    trace = record("a", "SIP/2.0 200 OK", "1 INVITE") + record("a", "SIP/2.0 481 Gone", "2 BYE")
    verdict = judge_traces(traced_calls(parse_trace(trace)), {"a": KEPT})
    assert verdict.lost == {"a": "no 200 to a BYE at the caller (caller saw BYE: SIP/2.0 481 Gone)"}


def test_a_200_to_cancel_does_not_count_as_an_answer_or_an_end() -> None:
    calls = traced_calls(parse_trace(record("a", "SIP/2.0 200 OK", "1 CANCEL")))
    assert not calls["a"].answered
    assert not calls["a"].ended


def test_calls_without_an_answer_are_listed_apart_with_what_they_got() -> None:
    trace = record("a", "SIP/2.0 503 Full", "1 INVITE") + record(
        "b", "INVITE sip:x SIP/2.0", "1 INVITE", "sent (9 bytes)"
    )
    verdict = judge_traces(traced_calls(parse_trace(trace)), {})
    assert verdict.answered == 0
    assert verdict.never_answered == {"a": "caller saw INVITE: SIP/2.0 503 Full", "b": "no final response"}


def test_remarks_and_failed_sends_are_not_messages() -> None:
    remark = RULE + "\nUnexpected UDP message received:\n\nBYE sip:x SIP/2.0\n\n"
    unsent = record("a", "BYE sip:x SIP/2.0", "2 BYE").replace(
        "UDP message received [100] bytes :", "Error sending UDP message:"
    )
    assert list(parse_trace(remark + unsent)) == []


@pytest.mark.parametrize(
    "text",
    [
        "not a trace\n",
        RULE + " 2026-01-01 00:00:00.0\nsomething else\n\n",
        RULE + " 2026-01-01 00:00:00.0\nUDP message sent (3 bytes):\n\nabc\n\n",
    ],
)
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(TraceError):
        list(parse_trace(text))


def test_the_lost_are_told_by_reason_and_not_one_by_one() -> None:
    caller = {f"call-{number:03}": TracedCall(answered=True) for number in range(500)}
    text = str(judge_traces(caller, {}))
    assert text.splitlines()[0] == "0 of 500 answered calls kept, 0 never answered"
    assert "lost, 500: no 200 to a BYE at the caller" in text
    assert "and 490 more" in text
    assert len(text.splitlines()) == 2
