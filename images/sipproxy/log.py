"""JSON lines on standard error: one object a line, with pod and Call-ID."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import time
from typing import TextIO

import msgspec

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class JsonLog:
    """Writes what is at least of `level`; the lines of one turn of the loop in one piece."""

    def __init__(self, pod: str, level: str = "info", out: TextIO | None = None) -> None:
        self._pod = pod
        self.level = level
        self._out = out or sys.stderr
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []

    def add(self, level: str, event: str, call_id: bytes = b"", fields: Mapping[str, object] | None = None) -> None:
        """One line, written with the next `flush`."""
        if LEVELS[level] < LEVELS[self.level]:
            return
        row: dict[str, object] = {"ts": round(time(), 3), "level": level, "pod": self._pod, "event": event}
        if call_id:
            row["call_id"] = call_id.decode("utf-8", "replace")
        if fields:
            row.update(fields)
        self._lines.append(self._encode(row))

    def flush(self) -> None:
        """Write what was added."""
        if not self._lines:
            return
        text = b"\n".join((*self._lines, b"")).decode()
        self._lines.clear()
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            pass  # nobody reads the log any more; calls go on

    def line(self, level: str, event: str, call_id: bytes = b"", fields: Mapping[str, object] | None = None) -> None:
        """One line, now."""
        self.add(level, event, call_id, fields)
        self.flush()
