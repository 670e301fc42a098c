"""What `sipfleet up` prints: plain lines, JSON lines, or a table that lives."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from sipfleet.local.events import Event
from sipfleet.local.supervisor import Supervisor


def plain_line(event: Event) -> str:
    """`12:34:56.789 Died pod/demo-0: killed by SIGKILL; started again`."""
    clock = datetime.fromtimestamp(event.time).strftime("%H:%M:%S.%f")[:-3]
    mark = "!" if event.type == "Warning" else " "
    return f"{clock} {mark} {event.reason:<12} {event.object}: {event.message}"


def json_line(event: Event) -> str:
    return json.dumps(asdict(event))


@contextmanager
def reporter(style: str, supervisor: Supervisor) -> Iterator[None]:
    """Print what happens, as `plain`, `json` or `live`, while the block runs."""
    if style == "live":
        from sipfleet.local.live import live

        with live(supervisor):
            yield
        return
    form = json_line if style == "json" else plain_line

    def show(event: Event) -> None:
        sys.stdout.write(form(event) + "\n")
        sys.stdout.flush()

    supervisor.events.listeners.append(show)
    yield
