"""The user agent that calls: the client side of the INVITE (RFC 3261 13.2 and 17.1.1)."""

from __future__ import annotations

from .message import Address, Message, hostport, parameter, uri_of
from .sdp import remote
from .ua import Agent, Phone, State


class Caller(Agent):
    """The side that sends the INVITE."""

    def __init__(self, call_id: str, phone: Phone, target: str, user: str) -> None:
        super().__init__(call_id, phone)
        self._user = user
        self._remote_target = target
        self._local_party = f'"Caller {user}" <sip:{user}@{hostport(phone.local).rpartition(":")[0]}>;tag={self.tag}'
        self._remote_party = f"<{target}>"
        self._invite = Message("")
        self._ack: tuple[bytes, Address | None] | None = None
        self._give_up_at = 0.0

    def start(self, now: float, setup_time: float) -> None:
        """Send the INVITE; without a final response for `setup_time` seconds it has failed."""
        invite = self._new("INVITE", self._cseq, self._remote_target, self._remote_party, [])
        invite.headers += [*self._identity(), ("Content-Type", "application/sdp")]
        invite.body = self._description()
        self._invite = invite
        self._give_up_at = now + setup_time
        self._repeat("invite", bytes(invite), None, now, self.timers.life)
        self._retries["invite"].until = min(now + self.timers.life, self._give_up_at)

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
            if retry is not None:
                retry.until = self._give_up_at
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
