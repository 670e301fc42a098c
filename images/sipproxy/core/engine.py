"""The transaction engine: server and client transactions run through the tables of `sipcore.transaction`.

What is decided about a request or a response stands in `forwarding`; here only states change, timers start, and bytes
are sent or sent again.
"""

from __future__ import annotations

from collections.abc import Callable

from sipcore.transaction import CLIENT, SERVER, Do, Event, State, event_of

from .context import Branch, Context
from .node import FIRST_A, Node

_SEND, _RESEND, _TO_TU = int(Do.SEND), int(Do.RESEND), int(Do.TO_TU)
_RETRANSMIT, _TIMEOUT, _LINGER, _FREE = int(Do.RETRANSMIT), int(Do.TIMEOUT), int(Do.LINGER), int(Do.FREE)
_REQUEST, _ACK, _SUCCESS = int(Event.REQUEST), int(Event.ACK), int(Event.SUCCESS)
_EV_RETRANSMIT, _EV_TIMEOUT, _EV_LINGER = int(Event.RETRANSMIT), int(Event.TIMEOUT), int(Event.LINGER)
_TRYING, _PROCEEDING, _COMPLETED = int(State.TRYING), int(State.PROCEEDING), int(State.COMPLETED)
_TERMINATED = int(State.TERMINATED)


class Engine:
    """Runs transactions; tells `failed` of time-outs and transport errors, `freed` of the end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.failed: Callable[[Branch, int], None]
        """The branch got no answer: 408 after a time-out, 503 after a transport error (RFC 3261 16.9)."""
        self.freed: Callable[[Context], None]

    # -- server transactions

    def open(self, context: Context) -> None:
        """A new server transaction."""
        node = self._node
        context.state = _PROCEEDING if context.invite else _TRYING
        node.contexts[context.key] = context
        node.open += 1

    def request_again(self, context: Context, event: int = _REQUEST) -> None:
        """A retransmission of the request, or (event ACK) the ACK of its non-2xx."""
        node = self._node
        was = context.state
        context.state, do = SERVER[context.invite][was][event]
        if do & _RESEND and context.last:
            node.count["retransmissions_sent"] += 1
            node.send(context.last, context.reply_to, context.listener)
        if do & _LINGER:
            node.open -= 1
            node.timers.start(node.durations.linger, node.now, self._server_linger, context)

    def respond(self, context: Context, status: int, data: bytes) -> None:
        """The TU passes a response to a server transaction."""
        node = self._node
        was = context.state
        context.state, do = SERVER[context.invite][was][event_of(status)]
        if not do & _SEND:
            return
        context.last = data
        node.send(data, context.reply_to, context.listener)
        if status < 200:
            return
        if do & _RETRANSMIT:
            context.interval = node.durations.t1
            context.server_deadline = node.now + node.durations.timeout
            node.timers.start(context.interval, node.now, self._server_retransmit, context)
        elif was != context.state:
            node.open -= 1
        if do & _LINGER:
            node.timers.start(node.durations.timeout, node.now, self._server_linger, context)

    def _server_retransmit(self, context: Context, now: float) -> None:
        """Timer G, and H when its time has come."""
        node = self._node
        event = _EV_TIMEOUT if now >= context.server_deadline else _EV_RETRANSMIT
        context.state, do = SERVER[context.invite][context.state][event]
        if do & _RESEND:
            node.count["retransmissions_sent"] += 1
            node.send(context.last, context.reply_to, context.listener)
        if do & _RETRANSMIT:
            context.interval = node.durations.next_interval(context.interval, False)
            node.timers.start(
                min(context.interval, context.server_deadline - now), now, self._server_retransmit, context
            )
        if do & _FREE:
            node.open -= 1
            self._free(context)

    def _server_linger(self, context: Context, now: float) -> None:
        """Timer I, J or L, and with it K and M of the branches, which are never longer than J and L."""
        context.state, do = SERVER[context.invite][context.state][_EV_LINGER]
        if not do & _FREE:
            return
        for branch in context.branches:
            if not (context.invite and branch.state == _COMPLETED):
                self._client_linger(branch, now)
        self._free(context)

    def drop(self, context: Context) -> None:
        """Forget a transaction without a word: somebody else has it."""
        if context.state != _TERMINATED:
            if not context.last or context.last[8:9] == b"1":
                self._node.open -= 1
            context.state = _TERMINATED
            for branch in context.branches:
                branch.state = _TERMINATED
                self._node.branches.pop(branch.id, None)
            self._free(context)

    def _free(self, context: Context) -> None:
        self._node.contexts.pop(context.key, None)
        self.freed(context)
        context.dialog = None
        context.branches = []  # they refer to the context: no cycle is left behind

    # -- client transactions

    def start(self, branch: Branch, data: bytes) -> None:
        """Send a request to its target: a new client transaction."""
        node = self._node
        context = branch.context
        branch.request = data
        branch.interval = node.durations.t1 * FIRST_A if context.invite else node.durations.t1
        branch.deadline = node.now + (node.no_response if context.invite else node.durations.timeout)
        node.branches[branch.id] = branch
        node.send(data, branch.target.address, node.listener_to(branch.target.address, context.listener))
        node.timers.start(branch.interval, node.now, self._client_timer, branch)

    def resume(self, branch: Branch, left: float) -> None:
        """The client transaction of a dead proxy: its INVITE is out, its final response must come in `left` seconds."""
        node = self._node
        branch.state = _PROCEEDING
        branch.deadline = node.now + left
        node.branches[branch.id] = branch
        node.timers.start(min(left, node.config.timers.fr), node.now, self._client_timer, branch)

    def response(self, branch: Branch, status: int) -> int:
        """A response came: the flags that `forwarding` carries out (`TO_TU`, `SEND` an ACK, `RESEND` it)."""
        node = self._node
        invite = branch.context.invite
        was = branch.state
        branch.state, do = CLIENT[invite][was][event_of(status)]
        branch.status = status
        if status < 200:
            if invite and (status > 100 or was == _TRYING):
                branch.deadline = node.now + node.config.timers.c
        elif do & _LINGER:
            branch.request = b""
            if invite and branch.state == _COMPLETED:
                node.timers.start(node.durations.timeout, node.now, self._client_linger, branch)
        return do

    def resend_ack(self, branch: Branch) -> None:
        """The non-2xx came again: its ACK goes again."""
        node = self._node
        if branch.ack:
            target = branch.target.address
            node.send(branch.ack, target, node.listener_to(target, branch.context.listener))

    def transport_error(self, branch: Branch) -> None:
        """ICMP says that nobody is there (RFC 3261 16.9)."""
        state, do = CLIENT[branch.context.invite][branch.state][int(Event.TRANSPORT_ERROR)]
        branch.state = state
        if do & _FREE:
            self._node.branches.pop(branch.id, None)
        if do & _TO_TU:
            self.failed(branch, 503)

    def give_up_after(self, branch: Branch, delay: float) -> None:
        """The final response must come in `delay` seconds from now."""
        node = self._node
        branch.deadline = node.now + delay
        node.timers.start(delay, node.now, self._client_timer, branch)

    def _client_timer(self, branch: Branch, now: float) -> None:
        """Timer A or E; B, F or (in PROCEEDING of an INVITE) C when its time has come."""
        node = self._node
        invite = branch.context.invite
        state = branch.state
        if state > _PROCEEDING:
            return
        if now >= branch.deadline:
            if invite and state == _PROCEEDING:
                self.failed(branch, 408)  # timer C is the proxy's, not the transaction's: a CANCEL follows
                return
            branch.state, _ = CLIENT[invite][state][_EV_TIMEOUT]
            node.branches.pop(branch.id, None)
            node.count["timeouts"] += 1
            self.failed(branch, 408)
            return
        branch.state, do = CLIENT[invite][state][_EV_RETRANSMIT]
        if do & _RESEND:
            node.count["retransmissions_sent"] += 1
            target = branch.target.address
            node.send(branch.request, target, node.listener_to(target, branch.context.listener))
        if do & _RETRANSMIT:
            t2 = node.durations.t2
            slow = state == _PROCEEDING  # RFC 3261 17.1.2.2: timer E is T2 in PROCEEDING
            branch.interval = t2 if slow else node.durations.next_interval(branch.interval, invite)
            delay = min(branch.interval, branch.deadline - now)
        else:
            delay = min(branch.deadline - now, node.config.timers.fr)
        node.timers.start(delay, now, self._client_timer, branch)

    def _client_linger(self, branch: Branch, now: float) -> None:
        """Timer D, K or M."""
        branch.state, do = CLIENT[branch.context.invite][branch.state][_EV_LINGER]
        if do & _FREE:
            self._node.branches.pop(branch.id, None)
