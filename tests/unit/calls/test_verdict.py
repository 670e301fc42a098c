"""The verdict as a pure function, the plan's checks, and session descriptions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sipfleet.calls.errors import PlanError
from sipfleet.calls.judge import CHECKS, Limits, judge, overlap_ms
from sipfleet.calls.plan import CallPlan, address, proxy_of, span
from sipfleet.calls.report import beyond_control_ms, document, to_json
from sipfleet.calls.results import CallResult, Event, Heard, Reason, Report
from sipfleet.calls.sdp import describe, remote


def heard(**changes: Any) -> Heard:
    return replace(Heard(sent=1000, received=1000, first_at=1.0, last_at=20.98, gap_ms=2.0), **changes)


def kept(**changes: Any) -> CallResult:
    call = CallResult(
        number=1,
        call_id="id",
        started_at=0.5,
        answered_at=1.0,
        acked_at=1.0,
        bye_at=21.0,
        bye_by="caller",
        bye_status=200,
        bye_ms=1.0,
        bye_arrived=True,
        to_caller=heard(),
        to_callee=heard(),
        cdrs=1,
    )
    return replace(call, **changes)


WRONG: dict[Reason, dict[str, Any]] = {
    Reason.NOT_ANSWERED: {"answered_at": 0.0, "setup_status": 408},
    Reason.REJECTED: {"answered_at": 0.0, "setup_status": 503},
    Reason.NO_MEDIA_DESCRIPTION: {"described": False},
    Reason.NOT_ACKNOWLEDGED: {"acked_at": 0.0},
    Reason.FOREIGN_AUDIO: {"to_callee": heard(foreign=1, stranger="call 2 direction 1")},
    Reason.REVERSED_AUDIO: {"to_caller": heard(reversed=1)},
    Reason.NO_AUDIO: {"to_caller": Heard(sent=1000)},
    Reason.AUDIO_STOPPED: {"to_callee": heard(last_at=19.9)},
    Reason.SILENCE: {"to_callee": heard(gap_ms=20_001.0)},
    Reason.ENDED_EARLY: {"ended_early": True},
    Reason.BYE_UNANSWERED: {"bye_status": 408},
    Reason.BYE_REJECTED: {"bye_status": 481},
    Reason.BYE_LOST: {"bye_arrived": False},
    Reason.NO_CDR: {"cdrs": 0},
    Reason.SEVERAL_CDRS: {"cdrs": 2},
}


def test_every_reason_has_a_check_and_a_case_here() -> None:
    assert [reason for reason, _ in CHECKS] == list(Reason)
    assert set(WRONG) == set(Reason)


def test_a_call_with_nothing_wrong_is_kept() -> None:
    assert judge(kept(), Limits()).kept
    assert judge(kept(cdrs=None), Limits()).kept, "nobody looked for CDRs"


@pytest.mark.parametrize("reason", list(Reason))
def test_one_thing_wrong_is_the_reason(reason: Reason) -> None:
    verdict = judge(kept(**WRONG[reason]), Limits())
    assert verdict.reason is reason
    assert verdict.detail


def test_the_first_cause_is_named_when_several_things_are_wrong() -> None:
    assert judge(kept(**WRONG[Reason.NO_CDR], **WRONG[Reason.BYE_UNANSWERED]), Limits()).reason is Reason.BYE_UNANSWERED


def report(*calls: CallResult, **changes: Any) -> Report:
    whole = Report(seed=1, calls=list(calls), events=[], control=Heard(), began=0.0, seconds=30.0)
    return replace(whole, **changes)


def test_a_run_without_calls_is_no_success() -> None:
    assert not report().all_kept


def test_a_run_with_one_lost_call_is_no_success() -> None:
    lost = judge(kept(bye_arrived=False), Limits())
    whole = report(kept(), lost)
    assert (whole.kept, whole.all_kept, whole.reasons()) == (1, False, {"bye_lost": 1})


def test_calls_that_met_an_event_are_counted() -> None:
    whole = report(kept(), kept(answered_at=10.0), events=[Event("kill", 5.0, "proxy-1")])
    assert document(whole)["events"] == [{"name": "kill", "at": 5.0, "detail": "proxy-1", "calls_up": 1}]


def test_the_document_is_json_with_every_call() -> None:
    told = json.loads(to_json(report(kept(), judge(kept(cdrs=0), Limits()))))
    assert (told["calls"], told["kept"], told["reasons"]) == (2, 1, {"no_cdr": 1})
    assert told["results"][1]["reason"] == "no_cdr"
    assert told["results"][0]["to_caller"]["received"] == 1000


def test_a_silence_that_the_machine_explains_is_shown_apart() -> None:
    call = kept(to_caller=heard(gap_ms=480.0, silences=[(5.0, 5.5)]))
    whole = report(call, control=Heard(silences=[(5.1, 5.3)]))
    assert overlap_ms((5.0, 5.5), [(5.1, 5.3)]) == pytest.approx(180)
    assert beyond_control_ms(call, whole) == pytest.approx(300)
    assert overlap_ms((5.0, 5.5), [(6.0, 6.5)]) == 0


GOOD: dict[str, Any] = {
    "target": "sip:a@example.test",
    "proxy": ("127.0.0.1", 5060),
    "listen": ("127.0.0.1", 5080),
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "tel:1"),
        ("calls", 0),
        ("rate", 0.0),
        ("duration", (5.0, 4.0)),
        ("ring", (1.0, 500.0)),
        ("listen", ("::1", 5080)),
        ("t1", 0.0),
        ("keepalive", -1.0),
        ("keepalive", 0.01),
        ("keepalive", 4000.0),
    ],
)
def test_a_plan_that_cannot_be_carried_out_names_the_setting(field: str, value: Any) -> None:
    CallPlan(**GOOD)
    with pytest.raises(PlanError, match=field):
        CallPlan(**{**GOOD, field: value})


def test_all_errors_of_a_plan_are_told_at_once() -> None:
    with pytest.raises(PlanError, match=r"target: .*; calls: .*; rate: "):
        CallPlan(**{**GOOD, "target": "x", "calls": 0, "rate": -1.0})


def test_addresses_and_spans_are_read() -> None:
    assert address("127.0.0.1:99") == ("127.0.0.1", 99)
    assert address("[::1]:99") == ("::1", 99)
    assert address("::1") == ("::1", 5060)
    assert proxy_of("sip:x@192.0.2.1:5070") == ("192.0.2.1", 5070)
    assert (span("15-30"), span("20")) == ((15.0, 30.0), (20.0, 20.0))


@pytest.mark.parametrize("text", ["host:5060", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="address"):
        address(text)


def test_a_target_by_name_needs_a_proxy() -> None:
    with pytest.raises(PlanError, match="--proxy"):
        proxy_of("sip:x@example.test")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_description_reads_back(host: str) -> None:
    found = remote(describe((host, 4000), 1, 1))
    assert found is not None
    assert (found.rtp, found.rtcp) == ((host, 4000), (host, 4001))


def test_the_address_of_the_media_line_wins() -> None:
    video = b"c=IN IP4 192.0.2.1\r\nm=video 1 RTP/AVP 9\r\nc=IN IP4 192.0.2.2\r\n"
    body = video + b"m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.3\r\n"
    found = remote(body)
    assert found is not None
    assert found.rtp == ("192.0.2.3", 4000)


BAD_HOST = b"c=IN IP4 abc\r\nm=audio 9 RTP/AVP 0\r\n"
BAD_PORT = b"c=IN IP4 192.0.2.1\r\nm=audio 99999 RTP/AVP 0\r\n"


@pytest.mark.parametrize(
    "body", [b"", b"m=audio 0 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n", b"m=audio 9 RTP/AVP 0\r\n", BAD_HOST, BAD_PORT]
)
def test_a_description_without_audio_is_none(body: bytes) -> None:
    assert remote(body) is None
