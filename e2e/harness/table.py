"""What came of the scenarios, as a table for people: `python -m e2e.harness.table [--markdown]`.

Read from the file that the tests write one JSON line a scenario into.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from e2e.harness.results import RESULTS

COLUMNS = ("scenario", "calls", "kept", "gap ms", "beyond control", "no core", "limit", "seconds", "")


def read(path: Path) -> list[dict[str, Any]]:
    """The outcomes; none where nothing was played."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cells(outcome: Mapping[str, Any]) -> list[str]:
    """One row; a scenario that measures no audio has no gap."""

    def number(name: str) -> str:
        return f"{outcome[name]:.0f}" if name in outcome else "-"

    gaps = [number(name) for name in ("calls", "kept", "max_gap_ms", "gap_beyond_control_ms")]
    # What relay and callers waited for a core during that gap, one after the other.
    waited = f"{sum(outcome['waited_ms'].values()):.0f}" if "waited_ms" in outcome else "-"
    rest = [waited, number("gap_limit_ms"), number("seconds")]
    return [str(outcome["scenario"]), *gaps, *rest, "passed" if outcome["passed"] else "failed"]


def table(outcomes: list[dict[str, Any]]) -> Table:
    columns = [Column(name, justify="right", no_wrap=True) for name in COLUMNS[1:-1]]
    made = Table(Column(COLUMNS[0], no_wrap=True), *columns, COLUMNS[-1], box=SIMPLE)
    for outcome in outcomes:
        *row, verdict = cells(outcome)
        made.add_row(*row, f"[{'green' if outcome['passed'] else 'red'}]{verdict}[/]")
    return made


def markdown(outcomes: list[dict[str, Any]]) -> str:
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(cells(outcome) for outcome in outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.harness.table", description=__doc__.split("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="for a page")
    arguments = parser.parse_args()
    outcomes = read(RESULTS)
    if arguments.markdown:
        print(markdown(outcomes))
        return
    console = Console(highlight=False, soft_wrap=True, width=120)
    console.print(table(outcomes))
    for outcome in outcomes:
        for problem in outcome.get("problems", []):
            console.print(f"{outcome['scenario']}: {problem}", style="red", markup=False)


if __name__ == "__main__":
    main()
