"""JSON lines on standard error (docs/decisions/0003). A reader that does not read costs lines, never time."""

from __future__ import annotations

import contextlib
import os
import stat
import time

import msgspec

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Logger:
    """Writes lines of at least `level`."""

    def __init__(self, pod: str, level: str, fd: int = 2) -> None:
        self.level = level
        self.dropped = 0
        """Lines that found the pipe full."""
        self._pod = pod
        self._fd = fd
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.set_blocking(fd, False)

    def __call__(self, level: str, event: str, call_id: str = "", **fields: object) -> None:
        if LEVELS[level] < LEVELS[self.level]:
            return
        line: dict[str, object] = {"ts": round(time.time(), 3), "level": level, "pod": self._pod, "event": event}
        if call_id:
            line["call_id"] = call_id
        try:
            os.write(self._fd, self._encode({**line, **fields}) + b"\n")
        except OSError:
            self.dropped += 1
