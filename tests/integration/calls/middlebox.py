"""A SIP proxy and RTP relay that does to calls what a judge must notice: real sockets, one thread, faults by attribute.

It stands where a cluster would: callers call its address, it forwards to the callee and puts itself into both media
paths by rewriting the session descriptions.
"""

from __future__ import annotations

import collections
import contextlib
import random
import re
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Self

from sipfleet.calls.message import (
    Address,
    Message,
    hop_of,
    hostport,
    is_loose,
    parameter,
    parse,
    uri_of,
    with_source,
)
from sipfleet.calls.sdp import remote

TO_CALLER, TO_CALLEE = "to_caller", "to_callee"


@dataclass
class Faults:
    """What goes wrong. Sets name calls by the order in which their INVITEs came, from 1."""

    drop: dict[str, set[int]] = field(default_factory=lambda: {TO_CALLER: set(), TO_CALLEE: set()})
    cross: tuple[int, int] | None = None
    """The audio to the callers of these two calls is swapped."""
    reverse: set[int] = field(default_factory=set)
    """The caller hears itself."""
    hold: float = 0.0
    """Audio is kept back and released together after this many seconds."""
    duplicate: set[int] = field(default_factory=set)
    eat_bye: set[int] = field(default_factory=set)
    """The BYE disappears."""
    forge_bye_answer: set[int] = field(default_factory=set)
    """The BYE is answered 200 by the box and goes no further."""
    refuse_bye: set[int] = field(default_factory=set)
    """The BYE is answered 481."""
    eat_ack: set[int] = field(default_factory=set)
    refuse_invite: set[int] = field(default_factory=set)
    eat_invite: set[int] = field(default_factory=set)
    send_from: str = ""
    """All audio comes from one socket at this address, which no description names."""
    lose: float = 0.0
    """The share of SIP messages that is lost, seeded."""


@dataclass
class Leg:
    """One side of a call's media: the socket that faces it, and where it wants its audio."""

    socket: socket.socket
    target: Address | None = None


class MiddleBox:
    """Use as a context manager."""

    def __init__(self, address: str, callee: Address) -> None:
        self.address: Address = (address, 5060)
        self.faults = Faults()
        self.numbers: dict[str, int] = {}
        self.keepalives: dict[Address, list[float]] = {}
        """When (monotonic) CRLF keepalives came, by source; each is answered with a CRLF (RFC 5626 3.5.1)."""
        self._callee = callee
        self._sip = _udp(self.address)
        self._legs: dict[int, dict[str, Leg]] = {}
        self._elsewhere: socket.socket | None = None
        self._unread: list[socket.socket] = []
        self._held: collections.deque[tuple[float, socket.socket, bytes, Address]] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sip, selectors.EVENT_READ, self._sip_readable)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._rng = random.Random(4)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        for sock in self._unread:
            sock.close()
        if self._elsewhere is not None:
            self._elsewhere.close()

    def _loop(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.02):
                key.data(key.fileobj)
            while self._held and self._held[0][0] <= time.monotonic():
                _, sock, data, target = self._held.popleft()
                _send(sock, data, target)

    def _sip_readable(self, sock: socket.socket) -> None:
        data, source = sock.recvfrom(65535)
        if data == b"\r\n\r\n":
            self.keepalives.setdefault(source, []).append(time.monotonic())
            _send(sock, b"\r\n", source)
            return
        if self._rng.random() < self.faults.lose:
            return
        message = parse(data)
        if message.status:
            self._response(message)
        else:
            self._request(message, source)

    def _request(self, message: Message, source: Address) -> None:
        number = self.numbers.setdefault(message.get("call-id"), len(self.numbers) + 1)
        faults, method = self.faults, message.method
        answers = {"BYE": ((faults.forge_bye_answer, "200 OK"), (faults.refuse_bye, "481 Call Does Not Exist"))}
        answers["INVITE"] = ((faults.refuse_invite, "503 Service Unavailable"),)
        for calls, line in answers.get(method, ()):
            if number in calls:
                return self._answer(message, line, source)
        if method == "ACK" and parameter(message.get("to"), "tag") == "box":
            return
        eaten = {"BYE": faults.eat_bye, "ACK": faults.eat_ack, "INVITE": faults.eat_invite}
        if number in eaten.get(method, ()):
            return
        vias = message.all("via")
        seed = f"{parameter(vias[0], 'branch')} {message.cseq}"
        branch = "z9hG4bK" + blake2b(seed.encode(), digest_size=8).hexdigest()
        routes = [route for route in message.all("route") if hop_of(uri_of(route)) != self.address]
        headers = [("Via", f"SIP/2.0/UDP {hostport(self.address)};branch={branch}")]
        headers += [("Via", with_source(vias[0], source)), *(("Via", via) for via in vias[1:])]
        if method == "INVITE":
            headers.append(("Record-Route", f"<sip:{hostport(self.address)};lr>"))
        headers += [("Route", route) for route in routes]
        headers += [(name, value) for name, value in message.headers if name.lower() not in ("via", "route")]
        body = self._rewrite(message.body, number, TO_CALLER) if method == "INVITE" else message.body
        in_dialog = parameter(message.get("to"), "tag") is not None
        target = hop_of(message.start.split()[1]) if in_dialog else self._callee
        if routes and is_loose(routes[0]):
            target = hop_of(uri_of(routes[0]))
        assert target is not None
        _send(self._sip, bytes(Message(message.start, headers, body)), target)

    def _response(self, message: Message) -> None:
        vias = message.all("via")
        number = self.numbers[message.get("call-id")]
        headers = [("Via", via) for via in vias[1:]]
        headers += [(name, value) for name, value in message.headers if name.lower() != "via"]
        body = self._rewrite(message.body, number, TO_CALLEE)
        target = (parameter(vias[1], "received") or "", int(parameter(vias[1], "rport") or 0))
        _send(self._sip, bytes(Message(message.start, headers, body)), target)

    def _answer(self, message: Message, line: str, source: Address) -> None:
        wanted = ("via", "from", "to", "call-id", "cseq")
        headers = [(name, value) for name, value in message.headers if name.lower() in wanted]
        if message.method == "INVITE":
            headers = [(name, f"{value};tag=box" if name == "To" else value) for name, value in headers]
        _send(self._sip, bytes(Message(f"SIP/2.0 {line}", headers)), source)

    def _rewrite(self, body: bytes, number: int, heard_by: str) -> bytes:
        """Note where the sender of this description wants its audio, and put our other leg into it."""
        wanted = remote(body)
        if wanted is None:
            return body
        legs = self._legs.get(number)
        if legs is None:
            legs = {side: Leg(self._pair()) for side in (TO_CALLER, TO_CALLEE)}
            self._legs[number] = legs
            for side, leg in legs.items():
                self._selector.register(leg.socket, selectors.EVENT_READ, self._relay(number, side))
        legs[heard_by].target = wanted.rtp
        other = legs[TO_CALLEE if heard_by == TO_CALLER else TO_CALLER]
        host, port = other.socket.getsockname()
        body = re.sub(rb"c=IN IP4 \S+", b"c=IN IP4 " + host.encode(), body)
        return re.sub(rb"m=audio \d+", b"m=audio %d" % port, body)

    def _pair(self) -> socket.socket:
        """A socket for RTP. The next port, where RTCP goes, is no other call's: nobody reads it."""
        while True:
            rtp = _udp((self.address[0], 0))
            host, port = rtp.getsockname()
            with contextlib.suppress(OSError, OverflowError):  # the next port is taken, or beyond 65535: another pair
                self._unread.append(_udp((host, port + 1)))
                return rtp
            rtp.close()

    def _relay(self, number: int, faces: str):  # type: ignore[no-untyped-def]
        """Packets that come in on the leg which faces one side go out to the other."""
        towards = TO_CALLEE if faces == TO_CALLER else TO_CALLER

        def readable(sock: socket.socket) -> None:
            data = sock.recv(2048)
            faults, to = self.faults, number
            if number in faults.drop[towards]:
                return
            if faults.cross and number in faults.cross and towards == TO_CALLER:
                to = sum(faults.cross) - number
            heard_by = TO_CALLER if number in faults.reverse else towards
            leg = self._legs[to][heard_by]
            if leg.target is None:
                return
            if faults.hold:
                release = (time.monotonic() // faults.hold + 1) * faults.hold
                self._held.append((release, leg.socket, data, leg.target))
                return
            sender = leg.socket
            if faults.send_from:
                self._elsewhere = sender = self._elsewhere or _udp((faults.send_from, 0))
            for _ in range(2 if number in faults.duplicate else 1):
                _send(sender, data, leg.target)

        return readable


def _udp(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    return sock


def _send(sock: socket.socket, data: bytes, target: Address) -> None:
    with contextlib.suppress(OSError):
        sock.sendto(data, target)
