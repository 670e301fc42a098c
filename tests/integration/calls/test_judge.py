"""The judge is judged: a middle box does something to real calls, and the verdict must say so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sipfleet.calls.generator import CallGenerator
from sipfleet.calls.plan import CallPlan
from sipfleet.calls.results import CallResult, Reason, Report
from tests.integration.calls.middlebox import TO_CALLEE, TO_CALLER, MiddleBox

BOX, CALLEE = "127.102.1.1", ("127.102.1.2", 5080)
T1 = 0.05
Act = Callable[[MiddleBox, CallGenerator], Awaitable[None]]


def plan(calls: int, **settings: object) -> CallPlan:
    usual = {"rate": 40.0, "duration": (2.5, 3.0), "ring": (0.0, 0.05), "seed": 7, "t1": T1}
    return CallPlan("sip:callee@example.test", (BOX, 5060), CALLEE, calls, **{**usual, **settings})  # type: ignore[arg-type]


def run(planned: CallPlan, prepare: Callable[[MiddleBox], None], act: Act) -> Report:
    async def inner(box: MiddleBox) -> Report:
        async with CallGenerator(planned) as calls:
            await act(box, calls)
            return await calls.finish(30)

    with MiddleBox(BOX, CALLEE) as box:
        prepare(box)
        return asyncio.run(inner(box))


async def nothing(box: MiddleBox, calls: CallGenerator) -> None:
    """Let the calls be."""


@pytest.fixture(scope="module")
def calls() -> dict[int, CallResult]:
    """Thirty calls through one box; the odd ones are ended by the callee. Nothing is done to the last ten."""

    def prepare(box: MiddleBox) -> None:
        faults = box.faults
        faults.refuse_invite |= {1}
        faults.eat_invite |= {2}
        faults.eat_ack |= {3}
        faults.drop[TO_CALLEE] |= {4}
        faults.duplicate |= {5}
        faults.eat_bye |= {6, 7}
        faults.forge_bye_answer |= {8, 9}
        faults.refuse_bye |= {10}

    async def act(box: MiddleBox, calls: CallGenerator) -> None:
        await calls.until_established(27, timeout=5)
        await asyncio.sleep(0.3)
        faults = box.faults
        faults.drop[TO_CALLER] |= {11, 13}
        faults.drop[TO_CALLEE] |= {12}
        faults.cross = (14, 15)
        faults.reverse |= {16}
        await asyncio.sleep(0.5)
        faults.drop[TO_CALLER] -= {13}
        faults.cross = None
        faults.reverse.clear()

    report = run(plan(30), prepare, act)
    return {call.number: call for call in report.calls}


def test_every_fault_is_reported_and_nothing_else(calls: dict[int, CallResult]) -> None:
    details = {number: call.detail for number, call in calls.items()}
    assert {number: call.reason for number, call in calls.items() if call.reason is not None} == {
        1: Reason.REJECTED,
        2: Reason.NOT_ANSWERED,
        3: Reason.NOT_ACKNOWLEDGED,
        4: Reason.NO_AUDIO,
        6: Reason.BYE_UNANSWERED,
        7: Reason.BYE_UNANSWERED,
        8: Reason.BYE_LOST,
        9: Reason.BYE_LOST,
        10: Reason.BYE_REJECTED,
        11: Reason.AUDIO_STOPPED,
        12: Reason.AUDIO_STOPPED,
        14: Reason.FOREIGN_AUDIO,
        15: Reason.FOREIGN_AUDIO,
        16: Reason.REVERSED_AUDIO,
    }, details


def test_half_of_the_calls_are_ended_by_each_side(calls: dict[int, CallResult]) -> None:
    assert [call.number for call in calls.values() if call.bye_by == "callee"] == list(range(1, 31, 2))


def test_untouched_calls_lose_nothing(calls: dict[int, CallResult]) -> None:
    for number in range(17, 31):
        call = calls[number]
        assert (call.lost, call.to_caller.duplicates, call.to_callee.duplicates) == (0, 0, 0)
        assert call.to_caller.received > 100
        assert call.to_callee.received > 100
        assert call.bye_arrived


def test_the_verdict_says_who_heard_nothing(calls: dict[int, CallResult]) -> None:
    assert calls[4].detail == "the callee heard nothing"
    assert calls[11].detail.startswith("the caller heard nothing for the last ")
    assert calls[12].detail.startswith("the callee heard nothing for the last ")


def test_a_silence_is_measured_and_its_packets_are_lost(calls: dict[int, CallResult]) -> None:
    heard = calls[13].to_caller
    assert heard.gap_ms == pytest.approx(500, abs=150)
    assert heard.lost == pytest.approx(25, abs=7)
    assert len([silence for silence in heard.silences if silence[1] - silence[0] > 0.3]) == 1
    assert calls[13].to_callee.lost == 0


def test_the_verdict_names_the_call_whose_audio_was_heard(calls: dict[int, CallResult]) -> None:
    assert "call 15 direction 1" in calls[14].detail
    assert "call 14 direction 1" in calls[15].detail
    assert calls[14].to_callee.foreign == 0


def test_duplicates_are_counted_beside_what_was_received(calls: dict[int, CallResult]) -> None:
    heard = calls[5].to_caller
    assert heard.duplicates > 100
    assert heard.received <= heard.sent


def test_what_is_not_answered_is_retransmitted_as_long_as_the_rfc_says(calls: dict[int, CallResult]) -> None:
    assert calls[1].setup_status == 503
    assert calls[2].retransmissions == 6  # RFC 3261 17.1.1.2: timer A fires six times within timer B
    for number in (6, 7):
        assert calls[number].bye_status == 408
        assert calls[number].bye_ms == pytest.approx(64 * T1 * 1000, abs=150)


def test_delayed_audio_shows_as_gaps_and_not_as_loss() -> None:
    async def act(box: MiddleBox, calls: CallGenerator) -> None:
        await calls.until_established(timeout=5)
        box.faults.hold = 0.2
        calls.mark("held")
        await asyncio.sleep(1)
        box.faults.hold = 0.0

    report = run(plan(4), lambda box: None, act)
    assert report.all_kept
    assert report.up_at(report.events[0].at) == 4
    for call in report.calls:
        assert call.gap_ms > 100
        assert call.lost == 0


def test_keepalives_come_from_every_sip_socket_and_their_answers_are_not_taken_for_messages() -> None:
    boxes: list[MiddleBox] = []

    async def act(box: MiddleBox, calls: CallGenerator) -> None:
        boxes.append(box)

    report = run(plan(4, keepalive=0.3, duration=(2.0, 2.0)), lambda box: None, act)
    assert report.reasons() == {}
    (box,) = boxes
    assert next(iter(box.keepalives)) == CALLEE, "it begins before anybody has called"
    assert len(box.keepalives[CALLEE]) >= 2.0 / 0.3
    callers = {source: times for source, times in box.keepalives.items() if source != CALLEE}
    assert len(callers) == 4
    for call, times in zip(report.calls, callers.values(), strict=True):
        life = call.bye_at - call.started_at
        assert times[-1] - times[0] > life - 0.8, "from the opening of the socket to its closing"
        assert (times[-1] - times[0]) / (len(times) - 1) == pytest.approx(0.3, abs=0.1)


def test_without_an_interval_there_are_no_keepalives() -> None:
    boxes: list[MiddleBox] = []

    async def act(box: MiddleBox, calls: CallGenerator) -> None:
        boxes.append(box)

    assert run(plan(2, duration=(1.0, 1.0)), lambda box: None, act).all_kept
    assert boxes[0].keepalives == {}


def test_audio_may_come_from_another_address_than_the_description_named() -> None:
    def prepare(box: MiddleBox) -> None:
        box.faults.send_from = "127.102.1.3"

    report = run(plan(4, duration=(1.0, 1.5)), prepare, nothing)
    assert report.reasons() == {}
    assert min(heard.received for call in report.calls for heard in (call.to_caller, call.to_callee)) > 20


def test_lost_sip_messages_cost_no_call() -> None:
    def prepare(box: MiddleBox) -> None:
        box.faults.lose = 0.1

    report = run(plan(24, duration=(1.5, 2.5)), prepare, nothing)
    assert report.reasons() == {}
    assert len(report.calls) == 24
    assert sum(call.retransmissions for call in report.calls) > 5
