"""The timeline picture of a run: a line a call, its silences, the events, and the control stream below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CallsError
from .results import CallResult, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT, BROKEN, SETUP, SILENCE, EVENT, CONTROL = "#3b7dd8", "#d1495b", "#c9d3df", "#f4a300", "#444444", "#6a4c93"
_LEAST_WIDTH = 0.12
"""Seconds: a silence shorter than this is drawn this wide, or nobody would see it."""


def draw(report: Report, path: str, title: str = "") -> None:
    """Write the picture to `path`; its suffix (png, svg, pdf) is the format.

    Raises `CallsError` when matplotlib is not installed or the file cannot be written.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise CallsError("--plot needs matplotlib: pip install 'sipfleet[plot]'") from None
    rows = max(len(report.calls), 1)
    figure, (axes, below) = pyplot.subplots(
        2,
        1,
        sharex=True,
        figsize=(12, min(4 + rows * 0.055, 11)),
        height_ratios=(6, 1),
        constrained_layout=True,
    )
    try:
        _calls(axes, report)
        _gaps(below, report)
        _events(axes, below, report)
        headline = f"{report.kept} of {len(report.calls)} calls kept, longest gap {report.max_gap_ms:.0f} ms"
        axes.set_title(f"{title}: {headline}" if title else headline, loc="left", fontweight="bold", pad=46)
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise CallsError(f"--plot {path}: {error}") from None
    finally:
        pyplot.close(figure)


def _calls(axes: Axes, report: Report) -> None:
    order = sorted(report.calls, key=lambda call: call.started_at)
    for row, call in enumerate(order):
        ended = call.bye_at or call.answered_at or call.started_at
        answered = call.answered_at or ended
        axes.hlines(row, call.started_at, answered, color=SETUP, linewidth=2)
        axes.hlines(row, answered, ended, color=KEPT if call.kept else BROKEN, linewidth=2)
        for start, end in _silences(call):
            axes.hlines(row, start, max(end, start + _LEAST_WIDTH), color=SILENCE, linewidth=2.6)
        if not call.kept:
            axes.plot(max(ended, call.started_at), row, marker="x", color=BROKEN, markersize=5)
    handles = [
        axes.hlines([], 0, 0, color=color, linewidth=3, label=label)
        for color, label in ((KEPT, "kept"), (BROKEN, "not kept"), (SILENCE, "silence above 60 ms"), (SETUP, "set-up"))
    ]
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(handles=handles, loc="outside lower right", ncols=4, frameon=False, fontsize=8)
    axes.set_ylabel("call")
    axes.set_ylim(-1, max(len(order), 1))
    axes.margins(x=0.01)
    _plain(axes)


def _gaps(axes: Axes, report: Report) -> None:
    worst = [(heard.gap_at, heard.gap_ms) for call in report.calls for heard in (call.to_caller, call.to_callee)]
    seen = [(at, gap) for at, gap in worst if at]
    axes.plot([at for at, _ in seen], [gap for _, gap in seen], ".", color=KEPT, markersize=4)
    axes.axhline(60, color=SILENCE, linewidth=0.8, linestyle="--")
    control = report.control
    axes.plot(
        [control.gap_at], [control.gap_ms], "D", color=CONTROL, markersize=5, label="longest of the control stream"
    )
    axes.set_yscale("symlog", linthresh=100)
    axes.set_ylim(0, max([100.0, control.gap_ms, *(gap for _, gap in seen)]) * 1.3)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("gap, ms")
    axes.set_xlabel("seconds")
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    _plain(axes)


def _events(axes: Axes, below: Axes, report: Report) -> None:
    for event in report.events:
        for part in (axes, below):
            part.axvline(event.at, color=EVENT, linewidth=1, linestyle=(0, (4, 3)))
        label = f"{event.name} {event.detail}".strip()
        axes.annotate(
            label,
            (event.at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            rotation=20,
            fontsize=8,
            color=EVENT,
        )


def _silences(call: CallResult) -> list[tuple[float, float]]:
    return [*call.to_caller.silences, *call.to_callee.silences]


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
