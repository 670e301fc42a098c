"""How a run is shown to people and to programs: progress lines, a table, one JSON document."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .judge import overlap_ms, silence_ms
from .results import CallResult, Heard, Report, Status

_MOST_LISTED = 20


def progress(status: Status, wanted: int | None) -> str:
    """One line of how the calls stand; `wanted` is how many there will be, None when they keep arriving."""
    of = f"/{wanted}" if wanted is not None else ""
    failed = f"  {status.failed} failed" if status.failed else ""
    return (
        f"{status.at:6.1f} s  {status.started}{of} started  {status.established} up  {status.ended} ended{failed}"
        f"  silence now {max(status.silence_ms, 0):.0f} ms"
    )


def document(report: Report) -> dict[str, Any]:
    """The report as what `--json` prints."""
    return {
        "calls": len(report.calls),
        "kept": report.kept,
        "max_gap_ms": round(report.max_gap_ms, 1),
        "max_gap_beyond_control_ms": round(max((beyond_control_ms(c, report) for c in report.calls), default=0.0), 1),
        "lost_packets": sum(call.lost for call in report.calls),
        "control_gap_ms": round(report.control.gap_ms, 1),
        "seed": report.seed,
        "reasons": report.reasons(),
        "began": report.began,
        "seconds": round(report.seconds, 3),
        "packets_per_second": round(report.packets_per_second),
        "engine_cpu": round(report.engine_cpu, 3),
        "events": [
            {"name": event.name, "at": event.at, "detail": event.detail, "calls_up": report.up_at(event.at)}
            for event in report.events
        ],
        "control": dataclasses.asdict(report.control),
        "results": [_call(call) for call in report.calls],
    }


def _call(call: CallResult) -> dict[str, Any]:
    fields = dataclasses.asdict(call)
    return {**fields, "kept": call.kept, "setup_ms": round(call.setup_ms, 3), "gap_ms": call.gap_ms}


def beyond_control_ms(call: CallResult, report: Report) -> float:
    """The longest silence of a call without the part in which the control stream was silent too."""
    left = 0.0
    for heard in (call.to_caller, call.to_callee):
        if not heard.silences:
            left = max(left, heard.gap_ms)
        for silence in heard.silences:
            if silence_ms(silence) > left:  # else it cannot be the longest
                left = max(left, silence_ms(silence) - overlap_ms(silence, report.control.silences))
    return left


def to_json(report: Report) -> str:
    return json.dumps(document(report), separators=(",", ":"))


def show(report: Report, console: Console) -> None:
    """The tables at the end of a run."""
    console.print(_verdict(report))
    if report.calls:
        console.print(_measures(report))
    if report.events:
        console.print(_events(report))
    broken = [call for call in report.calls if not call.kept]
    if broken:
        console.print(_broken(broken))
    if len(broken) > _MOST_LISTED:
        console.print(f"... and {len(broken) - _MOST_LISTED} more; --json lists all")


def _verdict(report: Report) -> Text:
    colour = "green" if report.all_kept else "red"
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons().items())
    text = Text.assemble(("calls kept ", "bold"), (f"{report.kept} of {len(report.calls)}", f"bold {colour}"))
    text.append(f", longest gap {report.max_gap_ms:.0f} ms (control stream {report.control.gap_ms:.0f} ms)")
    if reasons:
        text.append(f"; not kept: {reasons}", "red")
    return text


def _measures(report: Report) -> Table:
    table = Table("", "median", "95 %", "worst", title="Measured", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    answered = [call for call in report.calls if call.answered_at]
    rows: list[tuple[str, list[float]]] = [
        ("set-up, ms", [call.setup_ms for call in answered]),
        ("gap to the caller, ms", [call.to_caller.gap_ms for call in answered]),
        ("gap to the callee, ms", [call.to_callee.gap_ms for call in answered]),
        ("lost packets a call", [call.lost for call in answered]),
        ("BYE answered, ms", [call.bye_ms for call in answered]),
    ]
    for name, values in rows:
        if values:
            table.add_row(name, *(f"{value:.1f}" for value in _spread(values)))
    return table


def _spread(values: list[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)], ordered[-1]


def _events(report: Report) -> Table:
    table = Table("at, s", "event", "", "calls up", title="Events", title_justify="left")
    for event in report.events:
        table.add_row(f"{event.at:.2f}", event.name, event.detail, str(report.up_at(event.at)))
    return table


def _broken(calls: list[CallResult]) -> Table:
    table = Table("call", "Call-ID", "reason", "", "gap, ms", "lost", title="Not kept", title_justify="left")
    for call in calls[:_MOST_LISTED]:
        reason = str(call.reason) if call.reason else ""
        table.add_row(str(call.number), call.call_id, reason, call.detail, f"{call.gap_ms:.0f}", _loss(call))
    return table


def _loss(call: CallResult) -> str:
    def part(heard: Heard) -> str:
        return f"{heard.lost}/{heard.sent}"

    return f"{part(call.to_caller)} {part(call.to_callee)}"
