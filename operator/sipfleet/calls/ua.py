"""A user agent in one call, as a state machine: RFC 3261 sections 8, 12, 13, 15 and 17 from a telephone's side.

No sockets and no clock: `receive(message, source, now)` and `tick(now)` put `(datagram, target)` into `outbox`; target
None means the address that the connected socket of the caller belongs to. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from .message import Address, Message, hop_of, hostport, is_loose, parameter, uri_of, with_source
from .sdp import Remote, describe, remote

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, NOTIFY"
AGENT = "sipfleet-call"
_REASONS = {
    180: "Ringing",
    200: "OK",
    404: "Not Found",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    487: "Request Terminated",
    500: "Server Internal Error",
    501: "Not Implemented",
}
_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class Timers:
    """RFC 3261 table 4, seconds."""

    t1: float = 0.5
    """Estimate of the round trip (17.1.1.1)."""
    t2: float = 4.0
    """Longest interval between retransmissions of a non-INVITE request and of a 2xx (17.1.2.2, 13.3.1.4)."""

    @property
    def life(self) -> float:
        """Timers B, F and H: how long a transaction is tried."""
        return 64 * self.t1


class State(Enum):
    """Where one side of a call stands."""

    SETUP = "setup"
    UP = "up"
    """The caller has the 2xx, the callee has sent it."""
    LEAVING = "leaving"
    """A BYE of ours is on its way."""
    OVER = "over"


@dataclass(slots=True)
class Retry:
    """A datagram that is sent again until something stops it."""

    data: bytes
    target: Address | None
    at: float
    interval: float
    longest: float
    until: float


def respond(
    request: Message, status: int, source: Address, tag: str = "", extra: tuple[tuple[str, str], ...] = ()
) -> Message:
    """A response (RFC 3261 8.2.6): Via lines in order, the top one naming the source of the request (RFC 3581)."""
    vias = request.all("via")
    headers = [("Via", with_source(vias[0], source)), *(("Via", via) for via in vias[1:])]
    if request.method == "INVITE" and status < 300:
        headers += [("Record-Route", value) for value in request.all("record-route")]
    to = request.get("to")
    if tag and status > 100 and parameter(to, "tag") is None:
        to = f"{to};tag={tag}"
    headers += [("From", request.get("from")), ("To", to), ("Call-ID", request.get("call-id"))]
    headers += [("CSeq", request.get("cseq")), *extra]
    return Message(f"SIP/2.0 {status} {_REASONS.get(status, 'Answer')}", headers)


@dataclass(frozen=True, slots=True)
class Phone:
    """What a user agent is made of besides its call."""

    local: Address
    """Where it sends SIP from and hears it."""
    media: Address
    """Where it hears RTP."""
    rng: random.Random
    timers: Timers = Timers()


class Agent:
    """One side of one call: what caller and callee have in common, which is everything inside the dialog."""

    def __init__(self, call_id: str, phone: Phone) -> None:
        self.call_id = call_id
        self.local, self.media, self.timers = phone.local, phone.media, phone.timers
        self.state = State.SETUP
        self.outbox: list[tuple[bytes, Address | None]] = []
        self.due = float("inf")
        """When `tick` has something to do."""
        self.remote: Remote | None = None
        """Where the other side wants its audio."""
        self.answered_at = self.bye_sent_at = self.bye_received_at = self.bye_answered_at = 0.0
        self.failure = 0
        """Final status that ended the set-up, 408 when there was none in time."""
        self.bye_status = 0
        """Final status of our BYE, 408 when there was none in time."""
        self.retransmissions = 0
        self.reinvites = 0
        self._rng = rng = phone.rng
        self.tag = f"{rng.getrandbits(48):012x}"
        self._user = ""
        self._cseq = rng.randrange(1, 1000)
        self._remote_cseq = -1
        self._session = rng.randrange(1 << 30)
        self._session_version = 1
        self._local_party = self._remote_party = self._remote_target = ""
        self._routes: list[str] = []
        self._fallback: Address | None = None
        self._retries: dict[str, Retry] = {}
        self._answers: dict[tuple[str, str], tuple[bytes, Address]] = {}
        self._bye_branch = ""
        self._answer_cseq = -1

    def hang_up(self, now: float) -> None:
        """Send a BYE (RFC 3261 15.1.1) when the call is up."""
        if self.state is not State.UP:
            return
        self._cseq += 1
        bye = self._in_dialog("BYE", self._cseq)
        self._bye_branch = parameter(bye.get("via"), "branch") or ""
        self.state = State.LEAVING
        self.bye_sent_at = now
        self._repeat("bye", bytes(bye), self._next_hop(), now, self.timers.t2)

    def tick(self, now: float) -> None:
        """Send again what is due, give up what took too long."""
        for name, retry in list(self._retries.items()):
            if now >= retry.until:
                del self._retries[name]
                self._gave_up(name, now)
            elif now >= retry.at:
                self.retransmissions += 1
                self.outbox.append((retry.data, retry.target))
                retry.interval = min(retry.interval * 2, retry.longest)
                retry.at += retry.interval
        self._reschedule()

    def receive(self, message: Message, source: Address, now: float) -> None:
        """Take one message of this call."""
        if message.status:
            self._response(message, now)
        elif message.method == "ACK":
            if message.cseq[0] == self._answer_cseq and "answer" in self._retries:
                del self._retries["answer"]
                self._acknowledged(message, now)
        else:
            key = (parameter(message.all("via")[0], "branch") or "", message.method)
            if key in self._answers:
                self.outbox.append(self._answers[key])
            else:
                self._request(message, source, now)
        self._reschedule()

    def _request(self, message: Message, source: Address, now: float) -> None:
        method = message.method
        if not self._in_this_dialog(message):
            merged = method == "INVITE" and parameter(message.get("to"), "tag") is None
            return self._answer(message, 482 if merged else 481, source)
        number = message.cseq[0]
        if number <= self._remote_cseq:
            return self._answer(message, 500, source)
        self._remote_cseq = number
        if method == "BYE":
            self.bye_received_at = self.bye_received_at or now
            self._retries.pop("answer", None)
            if self.state is not State.LEAVING:
                self.state = State.OVER
            return self._answer(message, 200, source)
        if method == "INVITE":
            self.reinvites += 1
            return self._answer_invite(message, source, now)
        if method == "UPDATE" and message.body:
            self.remote = remote(message.body) or self.remote
            self._session_version += 1
            return self._answer(message, 200, source, self._description())
        self._answer(message, 200 if method in ALLOW else 501, source)

    def _response(self, message: Message, now: float) -> None:
        """A response in the dialog: only a BYE of ours is ever answered here."""
        if message.method != "BYE" or parameter(message.all("via")[0], "branch") != self._bye_branch:
            return
        retry = self._retries.get("bye")
        if retry is None:
            return
        if message.status < 200:
            retry.interval = self.timers.t2
            retry.at = now + self.timers.t2
            return
        del self._retries["bye"]
        self._left(message.status, now)

    def _left(self, status: int, now: float) -> None:
        self.bye_status = status
        self.bye_answered_at = now
        self.state = State.OVER

    def _gave_up(self, name: str, now: float) -> None:
        if name == "bye":
            self._left(408, now)

    def _acknowledged(self, message: Message, now: float) -> None:
        """The ACK to a 2xx of ours came."""

    def _answer_invite(self, message: Message, source: Address, now: float) -> None:
        """Send a 2xx with our description, again until the ACK comes (RFC 3261 13.3.1.4)."""
        self.remote = remote(message.body) or self.remote
        self._answer_cseq = message.cseq[0]
        response = respond(message, 200, source, self.tag, self._identity())
        response.headers.append(("Content-Type", "application/sdp"))
        response.body = self._description()
        self._session_version += 1
        data = bytes(response)
        self._remember(message, data, source)
        self._repeat("answer", data, source, now, self.timers.t2)

    def _answer(self, message: Message, status: int, source: Address, body: bytes = b"") -> None:
        response = respond(message, status, source, self.tag, (("User-Agent", AGENT), ("Allow", ALLOW)))
        if body:
            response.headers += [("Contact", self._contact()), ("Content-Type", "application/sdp")]
            response.body = body
        data = bytes(response)
        self._remember(message, data, source)
        self.outbox.append((data, source))

    def _remember(self, message: Message, data: bytes, source: Address) -> None:
        if len(self._answers) >= _REMEMBERED:
            del self._answers[next(iter(self._answers))]
        self._answers[parameter(message.all("via")[0], "branch") or "", message.method] = data, source

    def _in_this_dialog(self, message: Message) -> bool:
        return parameter(message.get("to"), "tag") == self.tag and parameter(message.get("from"), "tag") == parameter(
            self._remote_party, "tag"
        )

    def _in_dialog(self, method: str, number: int) -> Message:
        """A request inside the dialog (RFC 3261 12.2.1.1)."""
        target, routes = self._remote_target, self._routes
        if routes and not is_loose(routes[0]):
            target, routes = uri_of(routes[0]), [*routes[1:], f"<{target}>"]
        return self._new(method, number, target, self._remote_party, routes)

    def _new(self, method: str, number: int, target: str, to: str, routes: list[str]) -> Message:
        branch = f"z9hG4bK{self._rng.getrandbits(64):016x}"
        headers = [("Via", f"SIP/2.0/UDP {hostport(self.local)};branch={branch};rport"), ("Max-Forwards", "70")]
        headers += [("Route", route) for route in routes]
        headers += [("From", self._local_party), ("To", to), ("Call-ID", self.call_id), ("CSeq", f"{number} {method}")]
        headers += [("User-Agent", AGENT)]
        return Message(f"{method} {target} SIP/2.0", headers)

    def _next_hop(self) -> Address | None:
        return hop_of(uri_of(self._routes[0]) if self._routes else self._remote_target) or self._fallback

    def _repeat(self, name: str, data: bytes, target: Address | None, now: float, longest: float) -> None:
        t1 = self.timers.t1
        self.outbox.append((data, target))
        self._retries[name] = Retry(data, target, now + t1, t1, longest, now + self.timers.life)
        self._reschedule()

    def _reschedule(self) -> None:
        self.due = min((min(retry.at, retry.until) for retry in self._retries.values()), default=float("inf"))

    def _description(self) -> bytes:
        return describe(self.media, self._session, self._session_version)

    def _contact(self) -> str:
        return f"<sip:{self._user}@{hostport(self.local)}>"

    def _identity(self) -> tuple[tuple[str, str], ...]:
        return (("Contact", self._contact()), ("Allow", ALLOW), ("Supported", "replaces"), ("User-Agent", AGENT))
