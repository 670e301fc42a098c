"""The engine's end of the socket pair: commands come in, answers go out, and nothing here ever waits for the front."""

from __future__ import annotations

import socket

from . import wire


class Link:
    """A non-blocking line protocol. After `gone` is True nothing more is said."""

    def __init__(self, front: socket.socket) -> None:
        front.setblocking(False)
        self.socket = front
        self.gone = False
        self._input, self._output = bytearray(), bytearray()

    def commands(self) -> list[wire.Command]:
        """What was said since the last call."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return []
        self._input += data
        *lines, rest = self._input.split(b"\n")
        self._input = bytearray(rest)
        return [wire.command(bytes(text)) for text in lines]

    def say(self, answer: wire.Answer) -> None:
        """Put an answer into the queue."""
        if not self.gone:
            self._output += wire.line(answer)

    def flush(self) -> None:
        """Send what the socket takes now."""
        if self._output and not self.gone:
            try:
                del self._output[: self.socket.send(self._output)]
            except OSError:
                return

    def finish(self) -> None:
        """Send all that is left, waiting for the front to read it."""
        self.socket.setblocking(True)
        while self._output and not self.gone:
            before = len(self._output)
            self.flush()
            self.gone = len(self._output) == before


def first_line(front: socket.socket) -> bytes:
    """Byte by byte, so that nothing after the first line is taken.

    Raises `SystemExit` when the front goes before it has said it.
    """
    text = b""
    while not text.endswith(b"\n"):
        data = front.recv(1)
        if not data or len(text) > wire.LONGEST_LINE:
            raise SystemExit(1)
        text += data
    return text
