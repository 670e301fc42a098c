"""Which header stands on which line, learnt once for each sequence of header names: a user agent always sends the same.

A message of a known layout costs one dictionary look-up for all of its headers. The memory is bounded; a stranger's
sequence is worked out and costs a few microseconds more.
"""

from __future__ import annotations

import re

MAX_LINES = 256
CACHE = 4096

(
    VIA,
    ROUTE,
    RECORD_ROUTE,
    MAX_FORWARDS,
    FROM,
    TO,
    CALL_ID,
    CSEQ,
    CONTACT,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    PROXY_REQUIRE,
    ALLOW,
    SUPPORTED,
    SESSION_EXPIRES,
    RETRY_AFTER,
    TIMESTAMP,
) = range(1, 18)

NAMES: dict[int, tuple[str, ...]] = {
    VIA: ("Via", "v"),
    ROUTE: ("Route",),
    RECORD_ROUTE: ("Record-Route",),
    MAX_FORWARDS: ("Max-Forwards",),
    FROM: ("From", "f"),
    TO: ("To", "t"),
    CALL_ID: ("Call-ID", "i"),
    CSEQ: ("CSeq",),
    CONTACT: ("Contact", "m"),
    CONTENT_LENGTH: ("Content-Length", "l"),
    CONTENT_TYPE: ("Content-Type", "c"),
    PROXY_REQUIRE: ("Proxy-Require",),
    ALLOW: ("Allow",),
    SUPPORTED: ("Supported", "k"),
    SESSION_EXPIRES: ("Session-Expires", "x"),
    RETRY_AFTER: ("Retry-After",),
    TIMESTAMP: ("Timestamp",),
}
"""The headers that a proxy reads, with their compact forms (RFC 3261 7.3.3)."""

_KINDS = {name.lower().encode(): kind for kind, names in NAMES.items() for name in names}
_SINGLE = frozenset({FROM, TO, CALL_ID, CSEQ, MAX_FORWARDS, CONTENT_TYPE})
_REQUIRED = (VIA, FROM, TO, CALL_ID, CSEQ)
_TOKEN = re.compile(rb"[A-Za-z0-9.!%*_+`'~-]+\Z")


class Layout:
    """The lines of the headers that are read; line 0 is the start line, so 0 = there is none."""

    __slots__ = (
        "call_id",
        "content_length",
        "cseq",
        "fault",
        "first",
        "folded",
        "from_",
        "lengths",
        "max_forwards",
        "more",
        "to",
        "via",
    )

    def __init__(self, names: tuple[bytes, ...]) -> None:
        """`names` is what stands before the colon of each line, the start line's first."""
        self.folded = any(name[:1] in (b" ", b"\t") for name in names[1:])
        self.fault = ""
        """What is wrong with a message of this layout, empty when nothing is."""
        self.first: dict[int, int] = {}
        """Kind of header -> number of its first line. Shared: whoever changes it makes a copy."""
        self.more: list[tuple[int, int]] = []
        """(kind, number) of the further lines of a kind. Shared too."""
        for number, raw in enumerate(names[1:], 1):
            name = raw.rstrip(b" \t").lower()
            if not _TOKEN.match(name):
                self.fault = "header line without a name"
            kind = _KINDS.get(name)
            if kind is None:
                continue
            if kind in self.first:
                self.more.append((kind, number))
                if kind in _SINGLE:
                    self.fault = f"{NAMES[kind][0]} more than once"
            else:
                self.first[kind] = number
        for kind in _REQUIRED:
            if kind not in self.first:
                self.fault = f"{NAMES[kind][0]} is missing"
        if len(names) > MAX_LINES:
            self.fault = f"more than {MAX_LINES} lines"
        get = self.first.get
        self.via, self.from_, self.to = get(VIA, 0), get(FROM, 0), get(TO, 0)
        self.call_id, self.cseq, self.max_forwards = get(CALL_ID, 0), get(CSEQ, 0), get(MAX_FORWARDS, 0)
        self.content_length = get(CONTENT_LENGTH, 0)
        self.lengths = [self.content_length] + [n for kind, n in self.more if kind == CONTENT_LENGTH]
        """All lines of Content-Length."""


_known: dict[tuple[bytes, ...], Layout] = {}


def layout_of(names: tuple[bytes, ...]) -> Layout:
    """The layout of a message with these header names."""
    layout = _known.get(names)
    if layout is None:
        layout = Layout(names)
        if len(names) <= MAX_LINES:
            if len(_known) >= CACHE:
                _known.clear()
            _known[names] = layout
    return layout
