"""Commands for a call that another relay of the pool has: asked there, its answer given back (DESIGN 3.1).

Where a Call-ID is stands in the store; who the relays are comes with each heartbeat. A command is handed on once only.
"""

from __future__ import annotations

import msgspec

from rtprelay.core.events import Action, SendNg, Source, Store
from sipcore import ng
from sipcore.record import Lease
from sipcore.resp import Value
from sipcore.store import Keys

PLACE = "place"
"""Tag of the question where a call is: (PLACE, our cookie)."""

WAIT = 2.0
"""Seconds for store and other relay; the asker has asked again by then."""

MOST = 1000
"""Commands under way."""

FORWARDED = "forwarded"
"""Key of a command that was handed on."""


class Errand(msgspec.Struct):
    """One command under way."""

    request: ng.Request
    source: Source
    until: float


class Forwarder:
    """Commands that wait for the store or another relay, by the cookie that we gave them."""

    def __init__(self, keys: Keys, pod: str) -> None:
        self.peers: dict[str, Source] = {}
        """ng addresses of the other relays by pod."""
        self.count = 0
        self._keys = keys
        self._pod = pod
        self._errands: dict[bytes, Errand] = {}
        self._waiting: set[tuple[Source, bytes]] = set()

    def update(self, leases: list[Lease]) -> None:
        """The live leases of the pool."""
        self.peers = {lease.pod: lease.address for lease in leases if lease.pod != self._pod and lease.kind == "relay"}

    def ask(self, request: ng.Request, source: Source, now: float, actions: list[Action]) -> bool:
        """Look for the call elsewhere; False when there is nowhere to look and the command is ours to answer."""
        peer = (source, request.cookie)
        if peer in self._waiting:
            return True
        if not self.peers or FORWARDED.encode() in request.fields or len(self._errands) >= MOST:
            return False
        self.count += 1
        cookie = f"{self._pod}-{self.count}".encode()
        self._errands[cookie] = Errand(request, source, now + WAIT)
        self._waiting.add(peer)
        actions.append(Store([(b"HGET", self._keys.place, request.text(b"call-id"))], (PLACE, cookie)))
        return True

    def placed(self, cookie: bytes, replies: list[Value] | None, actions: list[Action]) -> Errand | None:
        """The store said where the call is; the errand is given back when that is nowhere else."""
        errand = self._errands.get(cookie)
        if errand is None:
            return None
        pod = replies[0] if replies else None
        target = self.peers.get(pod.decode("utf-8", "replace")) if isinstance(pod, bytes) else None
        if target is None:
            return self._end(cookie)
        fields = {key.decode("utf-8", "surrogateescape"): value for key, value in errand.request.fields.items()}
        fields[FORWARDED] = 1
        actions.append(SendNg(ng.request(cookie, errand.request.command, fields), target))
        return None

    def answered(self, data: bytes) -> tuple[Errand, bytes] | None:
        """A datagram may be the answer of another relay: the errand, and the answer for its asker."""
        cookie, _, body = data.partition(b" ")
        errand = self._end(cookie)
        return (errand, errand.request.cookie + b" " + body) if errand is not None else None

    def sweep(self, now: float) -> None:
        """Forget what was never answered."""
        for cookie in [cookie for cookie, errand in self._errands.items() if errand.until <= now]:
            self._end(cookie)

    def _end(self, cookie: bytes) -> Errand | None:
        errand = self._errands.pop(cookie, None)
        if errand is not None:
            self._waiting.discard((errand.source, errand.request.cookie))
        return errand
