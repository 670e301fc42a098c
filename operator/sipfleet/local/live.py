"""The table that lives: pods, calls, conditions and the last events on a terminal (rich)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sipfleet.local.report import plain_line
from sipfleet.local.supervisor import Supervisor
from sipfleet.local.tables import age, state
from sipfleet.local.view import pod_row, resource_row

EVENTS = 8
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


def picture(up: Supervisor) -> Group:
    """What is shown now."""
    sets = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("SET", "READY", "CALLS", "FREE", "VERSION", "ADDRESS", "STATE"):
        sets.add_column(title, justify="right" if title in ("CALLS", "FREE") else "left")
    pods = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("POD", "PHASE", "CALLS", "CAPACITY", "VERSION", "ADDRESS", "RESTARTS", "FOR"):
        pods.add_column(title, justify="right" if title in ("CALLS", "CAPACITY", "RESTARTS") else "left")
    for one in up.sets:
        row = resource_row(one)
        status = row["status"]
        calls = status.get("activeDialogs", status.get("activeSessions"))
        sets.add_row(
            str(one.key),
            f"{status.get('readyReplicas', 0)}/{status.get('desiredReplicas') or 0}",
            _text(calls),
            _text(status.get("freeCapacity")),
            _text(status.get("version")),
            _text(status.get("address")),
            state(row),
        )
        for slot in up.pods.of(one.key):
            pod = pod_row(up, slot)
            phase = Text(pod["phase"], style=COLOURS.get(pod["phase"], ""))
            pods.add_row(
                pod["name"],
                phase,
                _text(pod["active"]),
                _text(pod["capacity"]),
                _text(pod["version"]),
                pod["address"],
                str(pod["restarts"]),
                age(pod["since"]),
            )
    store = "answers" if up.store.available else "does not answer"
    head = Text.assemble(
        ("sipfleet ", "bold"),
        f"{up.state.cluster}  SIP {up.address}  store {store}  up {age(up.started)}  ",
        ("Ctrl-C ends it", "dim"),
    )
    lines = [
        Text(plain_line(event), style="yellow" if event.type == "Warning" else "dim", no_wrap=True, overflow="ellipsis")
        for event in list(up.events.kept)[-EVENTS:]
    ]
    return Group(head, Text(), sets, Text(), pods, Text(), *lines)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


@contextmanager
def live(up: Supervisor) -> Iterator[None]:
    """Keep the table on the terminal while the block runs; it is drawn after each turn of the supervisor."""
    with Live(picture(up), console=Console(), auto_refresh=False, transient=False) as screen:
        up.on_look.append(lambda: screen.update(picture(up), refresh=True))
        yield
        screen.update(picture(up), refresh=True)
