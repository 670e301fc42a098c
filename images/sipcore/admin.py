"""The admin port of proxy and relay as bytes in, bytes out (docs/decisions/0003), on h11.

An edge accepts connections, makes one `AdminConnection` for each, and writes what `feed` returns. Handlers are plain
functions in a table (method, path) -> handler(), so both programs share everything but the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import h11

Reply = tuple[int, str, bytes]
"""HTTP status, content type, body."""

Handler = Callable[[], Reply]

MAX_EVENT_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024


def text(status: int, body: str) -> Reply:
    return status, "text/plain; charset=utf-8", body.encode() + b"\n"


def json_body(status: int, body: bytes) -> Reply:
    return status, "application/json", body


class AdminConnection:
    """One HTTP/1.1 connection; requests are answered one after the other."""

    def __init__(self, table: Mapping[tuple[str, str], Handler]) -> None:
        self._table = table
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_EVENT_BYTES)
        self._request: h11.Request | None = None
        self._body = 0
        self.closed = False
        """The edge closes the socket once what `feed` returned is written."""

    def feed(self, data: bytes) -> bytes:
        """Bytes read (empty at the end of the stream) -> bytes to write."""
        out: list[bytes] = []
        try:
            self._http.receive_data(data)
            while not self.closed:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.ConnectionClosed):
                    self.closed = True
                elif isinstance(event, h11.Request):
                    self._request, self._body = event, 0
                elif isinstance(event, h11.Data):
                    self._body += len(event.data)
                    if self._body > MAX_BODY_BYTES:
                        raise h11.RemoteProtocolError("body too large", 413)
                elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                    out.append(self._answer(self._handle(self._request)))
                    if self._http.our_state is h11.MUST_CLOSE:
                        self.closed = True
                    else:
                        self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self.closed = True
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                out.append(self._answer(text(error.error_status_hint, str(error))))
        return b"".join(out)

    def _handle(self, request: h11.Request) -> Reply:
        method, path = request.method.decode(), request.target.decode("ascii", "replace").split("?", 1)[0]
        handler = self._table.get((method, path))
        if handler is not None:
            try:
                return handler()
            except Exception as error:  # an admin request must never end the program that carries the calls
                return text(500, f"{type(error).__name__}: {error}")
        allowed = sorted(m for m, p in self._table if p == path)
        if allowed:
            return text(405, f"{method} given, {' or '.join(allowed)} allowed on {path}")
        return text(404, f"{path} given, allowed: {', '.join(sorted({p for _, p in self._table}))}")

    def _answer(self, reply: Reply) -> bytes:
        status, kind, body = reply
        headers = [("content-type", kind), ("content-length", str(len(body)))]
        events: list[h11.Event] = [h11.Response(status_code=status, headers=headers)]
        if body:
            events.append(h11.Data(data=body))
        events.append(h11.EndOfMessage())
        return b"".join(self._http.send(event) or b"" for event in events)
