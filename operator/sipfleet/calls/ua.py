"""The two user agents of one call, as state machines: RFC 3261 sections 8, 12, 13, 15 and 17 from a telephone's side.

No sockets and no clock: `receive(message, source, now)` and `tick(now)` put `(datagram, target)` into `outbox`; target
None means the address that the connected socket of the caller belongs to. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from .message import Address, Message, hop_of, hostport, is_loose, parameter, uri_of, with_source
from .sdp import Remote, describe, remote

T1 = 0.5
"""RFC 3261 17.1.1.1: estimate of the round trip, seconds."""
T2 = 4.0
"""RFC 3261 17.1.2.2: longest interval between retransmissions of a non-INVITE request and of a 2xx, seconds."""
TRANSACTION = 64 * T1
"""Timers B, F and H, seconds."""
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


class Agent:
    """One side of one call: what caller and callee have in common, which is everything inside the dialog."""

    def __init__(self, call_id: str, local: Address, media: Address, rng: random.Random) -> None:
        self.call_id = call_id
        self.local = local
        self.media = media
        self.tag = f"{rng.getrandbits(48):012x}"
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
        self._rng = rng
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
        self._repeat("bye", bytes(bye), self._next_hop(), now, T2, TRANSACTION)

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
                retry.at = now + retry.interval
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
            retry.interval = T2
            retry.at = now + T2
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
        self._repeat("answer", data, source, now, T2, TRANSACTION)

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

    def _repeat(self, name: str, data: bytes, target: Address | None, now: float, longest: float, life: float) -> None:
        self.outbox.append((data, target))
        self._retries[name] = Retry(data, target, now + T1, T1, longest, now + life)
        self._reschedule()

    def _reschedule(self) -> None:
        self.due = min((min(retry.at, retry.until) for retry in self._retries.values()), default=float("inf"))

    def _description(self) -> bytes:
        return describe(self.media, self._session, self._session_version)

    def _contact(self) -> str:
        return f"<sip:{self._user}@{hostport(self.local)}>"

    def _identity(self) -> tuple[tuple[str, str], ...]:
        return (("Contact", self._contact()), ("Allow", ALLOW), ("Supported", "replaces"), ("User-Agent", AGENT))


class Caller(Agent):
    """The side that sends the INVITE."""

    def __init__(
        self, call_id: str, local: Address, media: Address, rng: random.Random, *, target: str, user: str
    ) -> None:
        super().__init__(call_id, local, media, rng)
        self._user = user
        self._remote_target = target
        self._local_party = f'"Caller {user}" <sip:{user}@{hostport(local).rpartition(":")[0]}>;tag={self.tag}'
        self._remote_party = f"<{target}>"
        self._invite = Message("")
        self._ack: tuple[bytes, Address | None] | None = None
        self._setup_time = 0.0

    def start(self, now: float, setup_time: float) -> None:
        """Send the INVITE; without a final response for `setup_time` seconds after a provisional one it has failed."""
        self._setup_time = setup_time
        invite = self._new("INVITE", self._cseq, self._remote_target, self._remote_party, [])
        invite.headers += [*self._identity(), ("Content-Type", "application/sdp")]
        invite.body = self._description()
        self._invite = invite
        self._repeat("invite", bytes(invite), None, now, TRANSACTION, TRANSACTION)

    def _response(self, message: Message, now: float) -> None:
        number, method = message.cseq
        if method != "INVITE":
            return super()._response(message, now)
        ours = parameter(message.all("via")[0], "branch") == parameter(self._invite.get("via"), "branch")
        if number != self._invite.cseq[0] or not ours:
            return
        status = message.status
        if status < 200:
            retry = self._retries.get("invite")
            if retry is not None and retry.at <= retry.until:
                retry.until = now + self._setup_time
                retry.at = float("inf")
        elif status < 300:
            self._accepted(message, now)
        else:
            self._acknowledge_failure(message)
            if self._retries.pop("invite", None) is not None:
                self._failed(status, now)

    def _accepted(self, message: Message, now: float) -> None:
        if self.state is State.SETUP:
            self._retries.pop("invite", None)
            self._remote_party = message.get("to")
            self._remote_target = uri_of(message.get("contact")) or self._remote_target
            self._routes = message.all("record-route")[::-1]
            self.remote = remote(message.body)
            self.state = State.UP
            self.answered_at = now
            ack = self._in_dialog("ACK", self._invite.cseq[0])
            self._ack = bytes(ack), self._next_hop()
        if self._ack is not None and message.get("to") == self._remote_party:
            self.outbox.append(self._ack)

    def _acknowledge_failure(self, message: Message) -> None:
        """RFC 3261 17.1.1.3: the ACK to a final response of 300 and more belongs to the INVITE's transaction."""
        invite = self._invite
        headers = [("Via", invite.get("via")), ("Max-Forwards", "70"), ("From", invite.get("from"))]
        headers += [("To", message.get("to")), ("Call-ID", self.call_id), ("CSeq", f"{invite.cseq[0]} ACK")]
        self.outbox.append((bytes(Message(f"ACK {self._remote_target} SIP/2.0", headers)), None))

    def _failed(self, status: int, now: float) -> None:
        self.failure = status
        self.state = State.OVER

    def _gave_up(self, name: str, now: float) -> None:
        if name == "invite":
            self._failed(408, now)
        super()._gave_up(name, now)


class Callee(Agent):
    """The side that is called: it rings, answers, and sends every response to the source of the request."""

    def __init__(self, local: Address, media: Address, rng: random.Random, invite: Message, source: Address) -> None:
        super().__init__(invite.get("call-id"), local, media, rng)
        self.acked_at = 0.0
        self.cancelled = False
        self._user = "callee"
        self._invite, self._source = invite, source
        self._remote_party = invite.get("from")
        self._local_party = f"{invite.get('to')};tag={self.tag}"
        self._remote_target = uri_of(invite.get("contact"))
        self._routes = invite.all("record-route")
        self._remote_cseq = invite.cseq[0]
        self._fallback = source
        self._answer_at = float("inf")

    def start(self, now: float, ring_time: float) -> None:
        """Ring, and answer after `ring_time` seconds."""
        self._answer_at = now + ring_time
        data = bytes(respond(self._invite, 180, self._source, self.tag, self._identity()))
        self._remember(self._invite, data, self._source)
        self.outbox.append((data, self._source))
        self._reschedule()

    def hang_up(self, now: float) -> None:
        """RFC 3261 15: not before the ACK has come."""
        if self.acked_at:
            super().hang_up(now)

    def tick(self, now: float) -> None:
        if now >= self._answer_at:
            self._answer_at = float("inf")
            self._answer_invite(self._invite, self._source, now)
            self.state = State.UP
            self.answered_at = now
        super().tick(now)

    def _request(self, message: Message, source: Address, now: float) -> None:
        if message.method == "CANCEL":
            ringing = self._answer_at < float("inf")
            self._answer(message, 200 if ringing else 481, source)
            if ringing:
                self._terminate(now)
            return
        super()._request(message, source, now)

    def _terminate(self, now: float) -> None:
        """RFC 3261 9.2: the INVITE that was cancelled is answered 487."""
        self._answer_at = float("inf")
        self.cancelled = True
        self.state = State.OVER
        self._answer_cseq = self._invite.cseq[0]
        data = bytes(respond(self._invite, 487, self._source, self.tag))
        self._remember(self._invite, data, self._source)
        self._repeat("answer", data, self._source, now, T2, TRANSACTION)

    def _acknowledged(self, message: Message, now: float) -> None:
        if not self.cancelled:
            self.acked_at = self.acked_at or now

    def _gave_up(self, name: str, now: float) -> None:
        if name == "answer" and not self.acked_at:
            super().hang_up(now)
        super()._gave_up(name, now)

    def _in_this_dialog(self, message: Message) -> bool:
        return self.answered_at > 0 and super()._in_this_dialog(message)

    def _reschedule(self) -> None:
        super()._reschedule()
        self.due = min(self.due, self._answer_at)
