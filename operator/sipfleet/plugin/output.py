"""How the plugin prints: tables without lines as kubectl has them, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sipfleet.local.tables import Column, age

output_option = click.option(
    "-o", "--output", "form", type=click.Choice(["json"]), help="JSON instead of a table, with all that is known."
)


def console() -> Console:
    """As wide as the terminal is; where there is none lines are not broken."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=100_000, color_system=None)


def to_json(what: Any) -> None:
    click.echo(json.dumps(what, indent=2))


def ago(stamp: str | None) -> str:
    """`3m5s` since an RFC 3339 time."""
    try:
        return age(datetime.fromisoformat(stamp).timestamp()) if stamp else "-"
    except ValueError:
        return str(stamp)


def table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> Table:
    """What is unknown is `-`."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column.title, no_wrap=column.title != "MESSAGE", overflow="fold")
    for row in rows:
        cells = (column.cell(row) for column in columns)
        made.add_row(*(Text("-" if value in (None, "") else str(value)) for value in cells))
    return made


def show(to: Console, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    """Print a table; without a terminal no line ends in blanks."""
    if to.is_terminal:
        to.print(table(columns, rows))
        return
    with to.capture() as captured:
        to.print(table(columns, rows))
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
