"""Reads SIPp's message traces and judges from them: each call answered with 200 was also ended with 200.

SIPp's own count says how a scenario ended for one side. A kept call is seen in the messages of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# A record begins with a rule and, where a socket was used, the time. Rules without a time head SIPp's remarks
# ("Unexpected UDP message received", "Dead call ..."), which repeat a message that has its own record.
_RULE = re.compile(r"^-{47}(?: (?P<time>\S.*))?$", re.MULTILINE)
_KIND = re.compile(r"\w+ message (?P<direction>sent|received) (?:\(\d+ bytes\)|\[\d+\] bytes )?:")
_NOT_SENT = re.compile(r"(?:Error|Truncation) sending \w+ message")


SHOWN = 10
"""Call-IDs that are shown for each reason; all of them stand in the verdict."""


class TraceError(Exception):
    """The file is not a message trace of SIPp."""


@dataclass(frozen=True)
class TracedMessage:
    """One message of a trace: which way it went, its first line, and what tells its call and transaction."""

    direction: Literal["sent", "received"]
    start_line: str
    call_id: str
    cseq_method: str

    @property
    def status(self) -> int | None:
        """Status code of a response, None of a request."""
        return int(self.start_line.split()[1]) if self.start_line.startswith("SIP/2.0 ") else None


def parse_trace(text: str) -> Iterator[TracedMessage]:
    """The messages of a trace in order. Raises `TraceError` where a record is not what SIPp writes."""
    rules = list(_RULE.finditer(text))
    head = text[: rules[0].start()] if rules else text
    if head.strip():
        raise TraceError(f"a trace begins with a rule of 47 dashes, this one with {head.strip()[:60]!r}")
    for number, rule in enumerate(rules):
        if rule["time"] is None:
            continue
        end = rules[number + 1].start() if number + 1 < len(rules) else len(text)
        title, _, rest = text[rule.end() : end].lstrip("\n").partition("\n")
        kind = _KIND.match(title)
        if kind is not None:
            yield _parse_message("sent" if kind["direction"] == "sent" else "received", rest, rule["time"])
        elif not _NOT_SENT.match(title):
            raise TraceError(f"record of {rule['time']}: '<transport> message sent|received' expected, got {title!r}")


def _parse_message(direction: Literal["sent", "received"], text: str, time: str) -> TracedMessage:
    lines = [line.rstrip("\r") for line in text.lstrip("\n").split("\n")]
    headers = dict(_headers(lines[1:]))
    if "call-id" not in headers or "cseq" not in headers:
        raise TraceError(f"record of {time}: a message with Call-ID and CSeq expected, got {lines[:3]}")
    return TracedMessage(direction, lines[0], headers["call-id"], headers["cseq"].split()[-1])


_COMPACT = {"i": "call-id"}


def _headers(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if not line:
            return
        name, colon, value = line.partition(":")
        if colon:
            name = name.strip().lower()
            yield _COMPACT.get(name, name), value.strip()


@dataclass
class TracedCall:
    """What one side saw of one call."""

    answered: bool = False
    """A 200 to the INVITE went past."""
    ended: bool = False
    """A 200 to a BYE went past."""
    finals: list[str] = field(default_factory=list)
    """Final responses other than 200, as they came."""


def traced_calls(messages: Iterable[TracedMessage]) -> dict[str, TracedCall]:
    """Every Call-ID of a trace with what was seen of it. A request alone makes a call too, unanswered."""
    calls: dict[str, TracedCall] = {}
    for message in messages:
        call = calls.setdefault(message.call_id, TracedCall())
        status = message.status
        if status is None or status < 200:
            continue
        if status != 200:
            call.finals.append(f"{message.cseq_method}: {message.start_line}")
        elif message.cseq_method == "INVITE":
            call.answered = True
        elif message.cseq_method == "BYE":
            call.ended = True
    return calls


@dataclass
class TraceVerdict:
    """Both sides' traces taken together."""

    answered: int = 0
    """Call-IDs that at least one side saw answered."""
    kept: int = 0
    """Of these, those that each side which saw the answer saw ended too."""
    lost: dict[str, str] = field(default_factory=dict)
    """The rest of `answered`: Call-ID -> what was missing and what came instead."""
    never_answered: dict[str, str] = field(default_factory=dict)
    """Call-IDs without any 200 to the INVITE -> what they got."""

    def __str__(self) -> str:
        lines = [f"{self.kept} of {self.answered} answered calls kept, {len(self.never_answered)} never answered"]
        for title, calls in (("lost", self.lost), ("never answered", self.never_answered)):
            by_reason: dict[str, list[str]] = {}
            for call_id, reason in calls.items():
                by_reason.setdefault(reason, []).append(call_id)
            for reason, ids in by_reason.items():
                more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
                lines.append(f"  {title}, {len(ids)}: {reason}: {', '.join(ids[:SHOWN])}{more}")
        return "\n".join(lines)


def judge_traces(caller: dict[str, TracedCall], callee: dict[str, TracedCall]) -> TraceVerdict:
    """In both sides' traces each Call-ID with a 200 to its INVITE must have a 200 to its BYE."""
    verdict = TraceVerdict()
    for call_id in sorted(caller.keys() | callee.keys()):
        sides = {"caller": caller.get(call_id, TracedCall()), "callee": callee.get(call_id, TracedCall())}
        finals = [f"{name} saw {final}" for name, side in sides.items() for final in side.finals]
        if not any(side.answered for side in sides.values()):
            verdict.never_answered[call_id] = "; ".join(finals) or "no final response"
            continue
        verdict.answered += 1
        missing = [name for name, side in sides.items() if side.answered and not side.ended]
        if missing:
            told = "; ".join(finals) or "nothing else"
            verdict.lost[call_id] = f"no 200 to a BYE at the {' and the '.join(missing)} ({told})"
        else:
            verdict.kept += 1
    return verdict


def judge_trace_files(caller: Path, callee: Path) -> TraceVerdict:
    """`judge_traces` of two trace files."""
    return judge_traces(
        traced_calls(parse_trace(caller.read_text(errors="replace"))),
        traced_calls(parse_trace(callee.read_text(errors="replace"))),
    )
