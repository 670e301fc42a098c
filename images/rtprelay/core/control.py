"""The flags of ng commands as rtpengine reads them, and the answers that were given.

A command that was answered is answered the same again when its cookie comes again from the same peer: UDP loses
answers.
"""

from __future__ import annotations

from rtprelay.core.events import Source
from rtprelay.core.offer import Wishes
from sipcore.ng import Request
from sipcore.sdp import normal_address

CACHE_SECONDS = 30.0
CACHE_ANSWERS = 10_000

LIST_LIMIT = 32
"""Calls that `list` names unless `limit` says otherwise, as rtpengine does."""

Peer = tuple[Source, bytes]
"""(who asked, its cookie)."""


class Answers:
    """Answers by (peer, cookie), in two generations so that forgetting is cheap."""

    def __init__(self) -> None:
        self._young: dict[Peer, bytes] = {}
        self._old: dict[Peer, bytes] = {}
        self._turned = 0.0

    def get(self, peer: Peer) -> bytes | None:
        return self._young.get(peer) or self._old.get(peer)

    def put(self, peer: Peer, data: bytes, now: float) -> None:
        if now - self._turned > CACHE_SECONDS or len(self._young) >= CACHE_ANSWERS // 2:
            self._old, self._young, self._turned = self._young, {}, now
        self._young[peer] = data


def wishes(request: Request) -> Wishes:
    """The flags that shape a description, in their own keys or, as older proxies send them, in `flags`."""
    flags = frozenset(request.words(b"flags"))
    direction = request.fields.get(b"direction")
    names = (
        [item.decode("utf-8", "replace") for item in direction if isinstance(item, bytes)]
        if isinstance(direction, list)
        else []
    )
    mux = frozenset(request.words(b"rtcp-mux")) | {f[9:] for f in flags if f.startswith(b"rtcp-mux-")}
    return Wishes(
        received=_received(request),
        family=_family(request.text(b"address-family")),
        direction=(names[0], names[1]) if len(names) == 2 else None,
        mux=mux,
        protocol=request.text(b"transport-protocol"),
        trust_address=b"sip-source-address" not in flags or b"trust-address" in flags,
    )


def _received(request: Request) -> str:
    """`received-from`: [family, address], as rtpengine's own modules send it, or the address alone."""
    value = request.fields.get(b"received-from")
    if isinstance(value, list):
        value = value[-1] if value else b""
    if not isinstance(value, bytes):
        return ""
    text = value.decode("ascii", "replace").strip("[]")
    return normal_address(text, "IP6" if ":" in text else "IP4")


def _family(text: bytes) -> str:
    return {b"IP4": "IP4", b"IP6": "IP6", b"INET": "IP4", b"INET6": "IP6"}.get(text.upper(), "")
