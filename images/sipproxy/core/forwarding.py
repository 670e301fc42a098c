"""Requests go to their targets one after the other, responses come back (RFC 3261 16.6, 16.7, 16.8, 16.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.message import VIA, Message, parse, split_values
from sipcore.transaction import Do, State
from sipcore.via import BadMessage

from . import build
from .context import Branch, Context
from .dialogs import Dialogs
from .engine import Engine
from .node import Node

if TYPE_CHECKING:
    from .media import Media
    from .outlook import Outlook
    from .ownership import Ownership

_TO_TU, _SEND, _RESEND = int(Do.TO_TU), int(Do.SEND), int(Do.RESEND)
_TRYING, _PROCEEDING = int(State.TRYING), int(State.PROCEEDING)
_ACCEPTED, _TERMINATED = int(State.ACCEPTED), int(State.TERMINATED)
_BRANCH_CHARS = 31

RECORD_ROUTED = frozenset({b"INVITE", b"SUBSCRIBE", b"REFER", b"NOTIFY"})
"""Requests that can begin a dialog or a dialog usage (RFC 3261 16.6 step 4)."""
_NEXT_TARGET = frozenset({408, 503})
_PREFERRED = (401, 407, 415, 420, 484)
"""RFC 3261 16.7 step 6."""


class Forwarding:
    """Forwards what `requests` decided on, and what comes back for it."""

    def __init__(self, node: Node, engine: Engine, dialogs: Dialogs) -> None:
        self._node = node
        self._engine = engine
        self._dialogs = dialogs
        self.ownership: Ownership
        self.media: Media
        self.outlook: Outlook
        engine.failed = self.failed

    # -- requests

    def launch(self, context: Context) -> None:
        """Send a request to the first of its targets, and the 100 of an INVITE after it (DESIGN 2.4)."""
        if context.state == _TERMINATED:
            return
        self.next_target(context)
        if context.invite and context.state == _PROCEEDING and not context.last:
            self._engine.respond(context, 100, build.trying(context))

    def next_target(self, context: Context) -> None:
        """Forward to the next target that is left."""
        node = self._node
        target = context.targets.pop(0)
        listener = node.listener_to(target.address, context.listener)
        branch_id, context.next_id = context.next_id, b""
        if not branch_id:
            branch_id = node.key.branch(
                context.via_sent_by, context.via_branch, context.call_id, context.cseq, target.text
            )
        via = self.via_line(branch_id, listener, context.relay)
        branch = Branch(context, target, branch_id, via)
        context.branches.append(branch)
        lines = context.lines or ()
        start = b"%b %b SIP/2.0" % (context.method, target.uri)
        if context.token is not None:
            route = node.record_routes[listener] % context.token
            data = b"\r\n".join((start, via, route, *lines, b"", context.body))
        else:
            data = b"\r\n".join((start, via, *lines, b"", context.body))
        self._engine.start(branch, data)

    def via_line(self, branch_id: bytes, listener: int, relay: int) -> bytes:
        """Our Via (docs/decisions/0002)."""
        node = self._node
        return b"Via: SIP/2.0/UDP %b;branch=%b;sf=%04x%04x;rport" % (
            node.sent_by[listener],
            branch_id,
            node.index,
            relay,
        )

    def cancel(self, context: Context) -> None:
        """The caller gave up (RFC 3261 16.10)."""
        if not context.invite or context.state != _PROCEEDING or context.canceled:
            return
        context.canceled = True
        context.targets = []
        if not context.branches:
            self.answer(context, 487)
            return
        for branch in context.branches:
            if branch.state == _PROCEEDING:
                self._cancel_branch(branch)

    def _cancel_branch(self, branch: Branch) -> None:
        if branch.cancel is not None:
            return
        node = self._node
        hop = Context()
        hop.method, hop.invite, hop.listener = b"CANCEL", False, branch.context.listener
        branch.cancel = Branch(hop, branch.target, branch.id + b"C", branch.via)
        self._engine.start(branch.cancel, build.cancel(branch))
        # RFC 3261 9.1: no final response in 64*T1 counts as cancelled.
        self._engine.give_up_after(branch, node.durations.timeout)

    # -- responses

    def receive(self, data: bytes) -> bool:
        """A response; False when no transaction of ours asked for it.

        Most carry no body and change nothing but states: those are cut, not parsed.
        """
        node = self._node
        eol = data.find(b"\r\n")
        if data[eol + 2 : eol + 6] == b"Via:" and data[-4:] == b"\r\n\r\n":
            end = data.find(b"\r\n", eol + 6)
            line = data[eol + 6 : end]
            at = line.find(b";branch=") + 8
            branch = node.branches.get(line[at : at + _BRANCH_CHARS])
            code = data[8:12]
            if (
                branch is not None
                and branch.cancel is None
                and code[:3].isdigit()
                and code[3:] == b" "
                and (code < b"200" or not branch.context.invite)
                and code >= b"100"
                and b"\r\nContent-Length: 0\r\n" in data
            ):
                if code == b"100 ":
                    self._engine.response(branch, 100)
                    self._got_provisional(branch)
                    return True
                comma = line.find(b",")
                if comma > 0:
                    return self._deliver(branch, int(code), data[: eol + 6] + line[comma + 1 :] + data[end:], line)
                if data.find(b"\r\nVia:", end) >= 0:
                    return self._deliver(branch, int(code), data[:eol] + data[end:], line)
        return self._receive_parsed(data)

    def _receive_parsed(self, data: bytes) -> bool:
        node = self._node
        try:
            message = parse(data)
            via = message.via()
        except BadMessage:
            node.count["bad_messages"] += 1
            return True
        branch = node.branches.get(via.branch)
        if branch is None:
            return message.cseq_method == b"OPTIONS" and self.outlook.heard(via)
        if message.cseq_method == b"CANCEL":
            canceled = node.branches.get(via.branch + b"C")
            if canceled is not None:
                self._engine.response(canceled, message.status)
            return True
        if message.cseq_method != branch.context.method or message.cseq != branch.context.cseq:
            node.count["bad_messages"] += 1
            return True
        self.response(branch, message)
        return True

    def response(self, branch: Branch, message: Message) -> None:
        """A response that is read in full: an INVITE's final one, or one with a body."""
        context, status = branch.context, message.status
        if context.invite and status >= 200:
            self.outlook.answered(message, branch.target.address)
        if context.invite and status >= 200 and not self.ownership.confirmed(context, branch, message):
            self._heard(branch)
        elif message.body and self.media.response(context, branch, message):
            self._heard(branch)  # it comes back to `pass_on` with the relay's answer
        else:
            self.pass_on(branch, message)

    def _heard(self, branch: Branch) -> None:
        """A response waits here, for the store or a relay: its request is not sent again meanwhile."""
        if branch.state == _TRYING:
            self._engine.response(branch, 100)

    def pass_on(self, branch: Branch, message: Message) -> None:
        """Take our Via off and deliver."""
        context, status = branch.context, message.status
        if context.invite and status >= 300:
            self._failure(branch, message)
            return
        if context.invite and status >= 200 and branch.state in (_TRYING, _PROCEEDING, _ACCEPTED):
            self._dialogs.confirm(context, branch, message)
        self._deliver(branch, status, without_top_via(message), b"")

    def _got_provisional(self, branch: Branch) -> None:
        if branch.context.canceled and branch.state == _PROCEEDING:
            self._cancel_branch(branch)

    def _deliver(self, branch: Branch, status: int, data: bytes, via: bytes) -> bool:
        """1xx, 2xx, and any final response to other requests than INVITE.

        False: it is of no use here, and its top Via (where it was read) is of another proxy. Two proxies can have sent
        the same request with the same branch, when it came again after one of them was taken for dead.
        """
        do = self._engine.response(branch, status)
        if not do & _TO_TU:
            mine = b";sf=%04x" % self._node.index
            return not via or branch.context.invite or mine in via
        context = branch.context
        if status < 200:
            if context.canceled:
                self._got_provisional(branch)
            if status > 100:
                self._engine.respond(context, status, data)
        elif status >= 300 and not context.invite:
            self._failed_with(branch, status, data)
        else:
            context.targets = []
            self._engine.respond(context, status, data)
            self._slim(context)
        return True

    def _failure(self, branch: Branch, message: Message) -> None:
        """A non-2xx to an INVITE: acknowledge it, then the next target or the end."""
        do = self._engine.response(branch, message.status)
        if do & _SEND:
            branch.ack = build.ack(branch, message)
        if do & (_SEND | _RESEND):
            self._engine.resend_ack(branch)
        if do & _TO_TU:
            self._failed_with(branch, message.status, without_top_via(message))

    def failed(self, branch: Branch, status: int) -> None:
        """No answer (408) or nobody there (503), from the engine."""
        context = branch.context
        if context.method == b"CANCEL":
            return
        if branch.state == _PROCEEDING:  # timer C (RFC 3261 16.8)
            if branch.cancel is None:
                self._cancel_branch(branch)
                return
            branch.state = _TERMINATED
            self._node.branches.pop(branch.id, None)
        self._failed_with(branch, status, b"")

    def _failed_with(self, branch: Branch, status: int, data: bytes) -> None:
        context = branch.context
        if context.state not in (_TRYING, _PROCEEDING):
            return
        if branch.cancel is not None and not context.canceled:
            status, data = 408, b""  # cancelled by timer C: the caller learns why
        if context.failures is None:
            context.failures = []
        context.failures.append((status, data))
        if status in _NEXT_TARGET and context.targets and not context.canceled and branch.cancel is None:
            self._node.count["failovers"] += 1
            self.ownership.retarget(context)
            self.next_target(context)
            return
        if context.canceled and context.invite:
            status, data = 487, data if data[8:11] == b"487" else b""
        else:
            status, data = _best(context.failures)
        if not context.invite and status == 408 and not data:
            self._engine.drop(context)  # RFC 4320 4.2: no 408 to other requests, it would come too late
            return
        if data and status != 503:
            self.finish(context, status, data)
        else:
            # RFC 3261 16.7 step 6: a 503 is about one server, not about this proxy.
            self.answer(context, 500 if status == 503 else status)

    def answer(self, context: Context, status: int) -> None:
        """A final response of our own."""
        tag = self._node.key.early_id(context.via_sent_by, context.via_branch, context.call_id, context.cseq)[:12]
        self.finish(context, status, build.final(context, status, tag))

    def finish(self, context: Context, status: int, data: bytes) -> None:
        """The last word to the caller, once the store has said that it is ours to say."""
        node = self._node
        if context.invite and not self.ownership.may_finish(context, status, data):
            return
        self._engine.respond(context, status, data)
        if context.invite:
            node.count["failed"] += 1
            node.log("info", "call-failed", context.call_id, status=status)
        self.media.failed(context)
        self._slim(context)

    def _slim(self, context: Context) -> None:
        """What an answered transaction no longer needs; it is kept for another 32 s."""
        context.lines = context.message = context.failures = None
        context.body = b""
        context.vias = []


def without_top_via(message: Message) -> bytes:
    """The response as it goes to the next Via."""
    lines = message.lines
    at = message.first[VIA]
    line = lines[at]
    if b"," in line:
        rest = split_values(line.partition(b":")[2])[1:]
        lines = lines.copy()
        lines[at] = b"Via: " + b", ".join(rest)
    else:
        lines = lines[:at] + lines[at + 1 :]
    return b"\r\n".join((*lines, b"", message.body))


def _best(failures: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """RFC 3261 16.7 step 6: a 6xx, else the lowest class, and in it what helps the caller to try again."""

    def rank(failure: tuple[int, bytes]) -> tuple[int, int, int]:
        status = failure[0]
        return (0 if status >= 600 else status // 100, 0 if status in _PREFERRED else 1, 1 if status == 408 else 0)

    return min(failures, key=rank)
