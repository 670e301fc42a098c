"""What came of the calls, as data. Moments are seconds since the start of the run (its zero), gaps milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why a call was not kept. The first that applies, in this order, is the reason."""

    NOT_ANSWERED = "not_answered"
    """No final response to the INVITE in time."""
    REJECTED = "rejected"
    """A final response of 300 or more to the INVITE."""
    NO_MEDIA_DESCRIPTION = "no_media_description"
    """The answer or the offer named no address for audio."""
    NOT_ACKNOWLEDGED = "not_acknowledged"
    """The callee's 2xx never got its ACK."""
    FOREIGN_AUDIO = "foreign_audio"
    """A packet of another call was heard."""
    REVERSED_AUDIO = "reversed_audio"
    """A side heard itself."""
    NO_AUDIO = "no_audio"
    """A side never heard the other."""
    AUDIO_STOPPED = "audio_stopped"
    """The audio was gone when the BYE was sent."""
    SILENCE = "silence"
    """A silence longer than the limit."""
    ENDED_EARLY = "ended_early"
    """A BYE came that neither side had sent."""
    BYE_UNANSWERED = "bye_unanswered"
    BYE_REJECTED = "bye_rejected"
    """The BYE was answered with something other than 200."""
    BYE_LOST = "bye_lost"
    """The BYE was answered, but never reached the other side."""
    NO_CDR = "no_cdr"
    SEVERAL_CDRS = "several_cdrs"


@dataclass(slots=True)
class Heard:
    """One direction of the audio of a call, at its receiver."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicates: int = 0
    foreign: int = 0
    reversed: int = 0
    stranger: str = ""
    """What the first packet that was not ours said of itself."""
    first_at: float = 0.0
    """0 when nothing came."""
    last_at: float = 0.0
    gap_ms: float = 0.0
    """Longest time between arrivals, up to the BYE, minus 20 ms."""
    gap_at: float = 0.0
    silences: list[tuple[float, float]] = field(default_factory=list)
    reports: int = 0
    """RTCP packets."""
    foreign_reports: int = 0


@dataclass(slots=True)
class CallResult:
    """One call, from the INVITE to the verdict."""

    number: int
    call_id: str
    started_at: float = 0.0
    answered_at: float = 0.0
    """When the caller got the 2xx, 0 when it never did."""
    acked_at: float = 0.0
    bye_at: float = 0.0
    bye_by: str = ""
    """`caller` or `callee`: who was to end it."""
    bye_status: int = 0
    bye_ms: float = 0.0
    """From the BYE to its final response."""
    bye_arrived: bool = False
    ended_early: bool = False
    setup_status: int = 0
    """Final status when the set-up failed."""
    described: bool = True
    reinvites: int = 0
    retransmissions: int = 0
    to_caller: Heard = field(default_factory=Heard)
    to_callee: Heard = field(default_factory=Heard)
    cdrs: int | None = None
    """CDRs found for it; None: nobody looked."""
    reason: Reason | None = None
    """None: the call was kept."""
    detail: str = ""

    @property
    def kept(self) -> bool:
        return self.reason is None

    @property
    def setup_ms(self) -> float:
        return (self.answered_at - self.started_at) * 1000 if self.answered_at else 0.0

    @property
    def gap_ms(self) -> float:
        return max(self.to_caller.gap_ms, self.to_callee.gap_ms)

    @property
    def lost(self) -> int:
        return self.to_caller.lost + self.to_callee.lost

    def up_at(self, moment: float) -> bool:
        """Whether it was answered before and ended after that moment."""
        return 0 < self.answered_at < moment < self.bye_at


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the cluster."""

    name: str
    at: float
    detail: str = ""


@dataclass(slots=True)
class Status:
    """How the calls stand now."""

    at: float = 0.0
    started: int = 0
    established: int = 0
    """Answered, acknowledged, and not yet being ended."""
    setting_up: int = 0
    leaving: int = 0
    ended: int = 0
    failed: int = 0
    """Calls whose set-up failed or whose BYE was not answered 200."""
    silence_ms: float = 0.0
    """Longest current silence of an established direction, minus 20 ms."""
    more: bool = True
    """Whether calls are still to come."""
    engine_cpu: float = 0.0
    """Seconds of processor time of the engine so far."""


@dataclass(slots=True)
class Report:
    """A whole run."""

    seed: int
    calls: list[CallResult]
    events: list[Event]
    control: Heard
    """A plain UDP stream at the same pace that crosses no relay: the machine's own gaps."""
    began: float
    """Unix time of the zero."""
    seconds: float
    packets_per_second: float = 0.0
    engine_cpu: float = 0.0
    """Processor time of the engine over the run, as a fraction of one core."""

    @property
    def kept(self) -> int:
        return sum(call.kept for call in self.calls)

    @property
    def all_kept(self) -> bool:
        return bool(self.calls) and self.kept == len(self.calls)

    @property
    def max_gap_ms(self) -> float:
        return max((call.gap_ms for call in self.calls), default=0.0)

    def up_at(self, moment: float) -> int:
        """How many calls were up at that moment."""
        return sum(call.up_at(moment) for call in self.calls)

    def reasons(self) -> dict[str, int]:
        """How many calls were not kept, by reason."""
        found: dict[str, int] = {}
        for call in self.calls:
            if call.reason is not None:
                found[call.reason] = found.get(call.reason, 0) + 1
        return found
