"""The table that lives: pods, calls, conditions and the last events on a terminal (rich)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sipfleet.local.report import plain_line
from sipfleet.local.supervisor import Supervisor
from sipfleet.local.tables import age, state
from sipfleet.local.view import pod_row, resource_row
from sipfleet.store import StoreError

EVENTS = 8
CALLS = 6
"""So many calls are shown, the oldest of those that were found."""
CALLS_INTERVAL = 2.0
COLOURS = {
    "Serving": "green",
    "Starting": "yellow",
    "Draining": "cyan",
    "Cordoned": "cyan",
    "Empty": "cyan",
    "Failed": "bold red",
    "Lost": "bold red",
    "Dead": "bold red",
}


def _table(*titles: str, numbers: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", no_wrap=True, overflow="ellipsis")
    return table


def _sets(up: Supervisor) -> Table:
    table = _table("SET", "READY", "CALLS", "FREE", "VERSION", "ADDRESS", "STATE", numbers=("CALLS", "FREE"))
    for one in up.sets:
        row = resource_row(one)
        status = row["status"]
        table.add_row(
            str(one.key),
            f"{status.get('readyReplicas', 0)}/{status.get('desiredReplicas') or 0}",
            _text(status.get("activeDialogs", status.get("activeSessions"))),
            _text(status.get("freeCapacity")),
            _text(status.get("version")),
            _text(status.get("address")),
            state(row),
        )
    return table


def _pods(up: Supervisor) -> Table:
    titles = ("POD", "PHASE", "CALLS", "CAPACITY", "VERSION", "ADDRESS", "RESTARTS", "FOR")
    table = _table(*titles, numbers=("CALLS", "CAPACITY", "RESTARTS"))
    for one in up.sets:
        for slot in up.pods.of(one.key):
            pod = pod_row(up, slot)
            table.add_row(
                pod["name"],
                Text(pod["phase"], style=COLOURS.get(pod["phase"], "")),
                _text(pod["active"]),
                _text(pod["capacity"]),
                _text(pod["version"]),
                pod["address"],
                str(pod["restarts"]),
                age(pod["since"]),
            )
    return table


def _calls(rows: list[dict[str, Any]]) -> Table:
    table = _table("CALL", "FROM", "TO", "FOR", "PROXY", "RELAY")
    for row in rows[:CALLS]:
        table.add_row(
            row["callId"],
            _text(row.get("from")),
            _text(row.get("to")),
            age(row.get("answered")),
            _text(row.get("owner")),
            _text(row.get("relay")),
        )
    return table


def picture(up: Supervisor, calls: list[dict[str, Any]]) -> Group:
    """What is shown now."""
    store = {None: "starts", True: "answers", False: "does not answer"}[up.store.available]
    where = f"SIP {up.address}  " if up.sets.clusters() else ""
    head = Text.assemble(
        ("sipfleet ", "bold"),
        f"{up.state.cluster}  {where}store {store}  up {age(up.started)}  ",
        ("Ctrl-C ends it", "dim"),
    )
    parts: list[RenderableType] = [head, Text(), _sets(up), Text(), _pods(up), Text()]
    if calls:
        parts += [_calls(calls), Text()]
    for event in list(up.events.kept)[-EVENTS:]:
        style = "yellow" if event.type == "Warning" else "dim"
        parts.append(Text(plain_line(event), style=style, no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


async def _read_calls(up: Supervisor, calls: list[dict[str, Any]]) -> None:
    """Keep `calls` at what the store has, without reading more of it than is shown."""
    while not up.stopped.is_set():
        found: list[dict[str, Any]] = []
        for one in up.sets.clusters():
            try:
                found += await up.store.calls(one.namespace, one.name, CALLS, keys=1000)
            except StoreError:
                break
        calls[:] = found
        await asyncio.sleep(CALLS_INTERVAL)


@contextmanager
def live(up: Supervisor) -> Iterator[None]:
    """Keep the table on the terminal while the block runs; it is drawn after each turn of the supervisor."""
    calls: list[dict[str, Any]] = []
    console = Console()
    with Live(picture(up, calls), console=console, auto_refresh=False, transient=False) as screen:
        up.on_look.append(lambda: screen.update(picture(up, calls), refresh=True))
        up.pods.spawn(_read_calls(up, calls))
        yield
    console.print(f"{up.state.cluster} has ended, with everything that was started")
