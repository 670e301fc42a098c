"""The user agent that is called: the server side of the INVITE (RFC 3261 13.3 and 17.2.1)."""

from __future__ import annotations

from .message import Address, Message, uri_of
from .ua import Agent, Phone, State, respond


class Callee(Agent):
    """The side that is called: it rings, answers, and sends every response to the source of the request."""

    def __init__(self, phone: Phone, invite: Message, source: Address) -> None:
        super().__init__(invite.get("call-id"), phone)
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
        self._repeat("answer", data, self._source, now, self.timers.t2)

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
