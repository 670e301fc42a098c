"""The verdict: pure functions from what was observed of a call to kept, or the reason why not.

*Kept* (DESIGN, the number that we publish): audio both ways until the BYE, the BYE answered 200 and received by the
other side, no packet of another call, one CDR where CDRs are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from .audio import PERIOD
from .results import CallResult, Heard, Reason

Finding = str | None
"""What is wrong, in words; None: nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a kept call may show. Seconds."""

    until_bye: float = 1.0
    """Audio must have arrived within this time before the BYE."""
    silence: float = 20.0
    """The longest silence inside a kept call."""


def judge(call: CallResult, limits: Limits) -> CallResult:
    """The call with its verdict."""
    for reason, check in CHECKS:
        detail = check(call, limits)
        if detail is not None:
            return replace(call, reason=reason, detail=detail)
    return replace(call, reason=None, detail="")


def silence_ms(silence: tuple[float, float]) -> float:
    """The gap of a time between two arrivals: milliseconds beyond the 20 ms between two packets."""
    return (silence[1] - silence[0] - PERIOD) * 1000


def overlap_ms(silence: tuple[float, float], control: list[tuple[float, float]]) -> float:
    """How much of a silence the machine itself explains: milliseconds of it that the control stream was silent too,
    beyond the 20 ms between two of its packets. `control` is in the order of time."""
    low, high = silence
    first = bisect_right(control, low, key=lambda other: other[1])
    meanwhile = takewhile(lambda other: other[0] < high, islice(control, first, None))
    return sum(max(min(high, end) - max(low, start) - PERIOD, 0.0) for start, end in meanwhile) * 1000


def _directions(call: CallResult) -> tuple[tuple[str, Heard], ...]:
    return ("caller", call.to_caller), ("callee", call.to_callee)


def _each(test: Callable[[str, Heard], Finding]) -> Callable[[CallResult, Limits], Finding]:
    def check(call: CallResult, limits: Limits) -> Finding:
        return next((found for side, heard in _directions(call) if (found := test(side, heard)) is not None), None)

    return check


def _not_answered(call: CallResult, limits: Limits) -> Finding:
    if call.answered_at or call.setup_status not in (0, 408):
        return None
    return "no final response to the INVITE"


def _rejected(call: CallResult, limits: Limits) -> Finding:
    return None if call.answered_at else f"INVITE answered {call.setup_status}"


def _no_media_description(call: CallResult, limits: Limits) -> Finding:
    return None if call.described else "no address for audio in the offer or the answer"


def _not_acknowledged(call: CallResult, limits: Limits) -> Finding:
    return None if call.acked_at else "the callee got no ACK"


def _foreign(side: str, heard: Heard) -> Finding:
    if heard.foreign:
        return f"the {side} heard {heard.foreign} packets of others, first {heard.stranger}"
    return f"the {side} got {heard.foreign_reports} RTCP packets of others" if heard.foreign_reports else None


def _reversed(side: str, heard: Heard) -> Finding:
    return f"the {side} heard itself in {heard.reversed} packets" if heard.reversed else None


def _no_audio(side: str, heard: Heard) -> Finding:
    return None if heard.received else f"the {side} heard nothing"


def _audio_stopped(call: CallResult, limits: Limits) -> Finding:
    for side, heard in _directions(call):
        if call.bye_at - heard.last_at > limits.until_bye:
            return f"the {side} heard nothing for the last {call.bye_at - heard.last_at:.1f} s"
    return None


def _silence(call: CallResult, limits: Limits) -> Finding:
    for side, heard in _directions(call):
        if heard.gap_ms > limits.silence * 1000:
            return f"the {side} heard nothing for {heard.gap_ms / 1000:.1f} s"
    return None


def _ended_early(call: CallResult, limits: Limits) -> Finding:
    return "a BYE came that neither side had sent" if call.ended_early else None


def _bye_unanswered(call: CallResult, limits: Limits) -> Finding:
    return f"BYE of the {call.bye_by} not answered" if call.bye_status in (0, 408) else None


def _bye_rejected(call: CallResult, limits: Limits) -> Finding:
    return None if call.bye_status == 200 else f"BYE of the {call.bye_by} answered {call.bye_status}"


def _bye_lost(call: CallResult, limits: Limits) -> Finding:
    return None if call.bye_arrived else f"BYE of the {call.bye_by} answered 200 but never received"


def _no_cdr(call: CallResult, limits: Limits) -> Finding:
    return "no CDR" if call.cdrs == 0 else None


def _several_cdrs(call: CallResult, limits: Limits) -> Finding:
    return f"{call.cdrs} CDRs" if (call.cdrs or 0) > 1 else None


CHECKS: tuple[tuple[Reason, Callable[[CallResult, Limits], Finding]], ...] = (
    (Reason.NOT_ANSWERED, _not_answered),
    (Reason.REJECTED, _rejected),
    (Reason.NO_MEDIA_DESCRIPTION, _no_media_description),
    (Reason.NOT_ACKNOWLEDGED, _not_acknowledged),
    (Reason.FOREIGN_AUDIO, _each(_foreign)),
    (Reason.REVERSED_AUDIO, _each(_reversed)),
    (Reason.NO_AUDIO, _each(_no_audio)),
    (Reason.AUDIO_STOPPED, _audio_stopped),
    (Reason.SILENCE, _silence),
    (Reason.ENDED_EARLY, _ended_early),
    (Reason.BYE_UNANSWERED, _bye_unanswered),
    (Reason.BYE_REJECTED, _bye_rejected),
    (Reason.BYE_LOST, _bye_lost),
    (Reason.NO_CDR, _no_cdr),
    (Reason.SEVERAL_CDRS, _several_cdrs),
)
"""In the order in which they explain: the first that applies is the reason."""
