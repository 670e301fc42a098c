"""The process that carries the calls: one epoll loop and a wheel of ten slots of 2 ms for the audio.

It is a process of its own so that drawing tables never delays a packet. It is told what to do, and tells how the calls
stand, over the socket pair whose number is its only argument (`wire`); when the other end goes, it hangs up and ends.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import random
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

from . import wire
from .audio import PERIOD, tag
from .call import LINGER, Call, caller_media, heard
from .caller import Caller
from .errors import CallsError, EngineError, MessageError
from .link import Link, first_line
from .media import MediaEnd, udp
from .message import Address, Message, hostport, parameter, parse
from .netns import place
from .plan import CallPlan
from .results import Status
from .sdp import Remote
from .ua import Phone, Timers, respond

SLOTS = 10
SLOT = PERIOD / SLOTS
STATUS_INTERVAL = 0.2
CONTROL_NOTED = 0.025
"""Every late arrival of the control stream counts: it is what the machine itself explains. Seconds."""
PRIORITY = -10
"""Nice value of the engine where it is allowed: an instrument must not measure its own waiting."""
KEEPALIVE = b"\r\n\r\n"
"""RFC 5626 3.5.1 over UDP, where nobody has to answer: it keeps the entries of NATs and the flow at the proxy."""
FAREWELL = 3.0
"""How long an abandoned engine waits for its BYEs to be answered, seconds."""
_MOST_LATE = 1.0
_AT_ONCE = 64


class Engine:
    """All calls of a run."""

    def __init__(self, front: socket.socket, plan: CallPlan, zero: float) -> None:
        self._plan, self._zero = plan, zero
        self._rng = random.Random(plan.seed)
        self._run = random.SystemRandom().getrandbits(32)
        self._callers_place, self._callees_place = place(plan.caller_netns), place(plan.callee_netns)
        with self._callers_place():
            self._local = _callers_address(plan)
            _check_loopback(self._local)
        self._calls: dict[str, Call] = {}
        self._slots: list[list[Call]] = [[] for _ in range(SLOTS)]
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[float], None]] = {}
        self._buffer = bytearray(2048)
        with self._callees_place():
            self._callee = _wide(udp(plan.listen))
        self._watch(self._callee, self._callee_readable)
        with self._callers_place():
            self._near = MediaEnd(self._local, tag(self._run, 0, 1), tag(self._run, 0, 2), "control-near", self._rng)
            self._far = MediaEnd(self._local, tag(self._run, 0, 2), tag(self._run, 0, 1), "control-far", self._rng)
        self._far.meter.noted = CONTROL_NOTED
        self._watch(self._far.rtp, partial(self._far.hear, self._buffer))
        self._link = Link(front)
        self._watch(front, self._front_readable)
        self._most = plan.calls
        self._arriving = True
        self._finishing = False
        self._next_arrival = self._next_trickle = 0.0
        self._started = self._ended = self._failed = 0
        self._packets = 0
        self._commands: dict[type, Callable[[wire.Command], None]] = {
            wire.More: self._more,
            wire.Stop: self._stop,
            wire.HangUp: self._hang_up,
            wire.Finish: self._finish,
        }

    def run(self) -> None:
        """Carry the calls until there is nothing left to do."""
        clock, poll, handlers = time.monotonic, self._epoll.poll, self._handlers
        began = next_slot = self._next_arrival = next_status = clock()
        next_keepalive = began if self._plan.keepalive else float("inf")
        deadline = float("inf")
        slot = 0
        self._near.talk(Remote(self._far.address, self._far.address))
        while not (self._finishing and not self._calls and not self._coming()) and clock() < deadline:
            now = clock()
            if now >= next_keepalive:
                next_keepalive = now + self._plan.keepalive
                _send(self._callee, KEEPALIVE, self._plan.proxy)
            if now - next_slot > _MOST_LATE:
                next_slot = now
            while next_slot <= now:
                self._turn(slot, now)
                slot = (slot + 1) % SLOTS
                next_slot += SLOT
            if now >= next_status:
                next_status = now + STATUS_INTERVAL
                self._report(now)
            if self._link.gone and deadline == float("inf"):
                deadline = now + FAREWELL
            events = poll(max(next_slot - clock(), 0.0), 512)
            now = clock()
            for number, _ in events:
                handler = handlers.get(number)
                if handler is not None:
                    handler(now)
        now = clock()
        self._far.meter.close(now)
        self._report(now)
        control = heard(self._far, self._near, self._zero)
        self._link.say(wire.Done(control, self._packets, now - began, time.process_time()))
        self._link.finish()

    def _turn(self, slot: int, now: float) -> None:
        """One slot: its calls send a packet each way and look at their timers."""
        if slot == 0:
            self._near.send()
            self._link.flush()
        calls = self._slots[slot]
        over = False
        for call in calls:
            call.caller_media.send()
            if call.callee_media is not None:
                call.callee_media.send()
            if call.due <= now:
                self._advance(call, now)
            if call.keepalive_at <= now:
                call.keepalive_at = now + self._plan.keepalive
                _send(call.sip, KEEPALIVE, self._plan.proxy)
            if call.over_at and now - call.over_at > LINGER:
                over = True
        if over:
            for call in [call for call in calls if call.over_at and now - call.over_at > LINGER]:
                calls.remove(call)
                self._end(call)
        if self._coming():
            self._arrive(now)

    def _arrive(self, now: float) -> None:
        plan, up = self._plan, len(self._calls)
        if now >= self._next_arrival and (up < self._most or not plan.keep_arriving):
            self._next_arrival = max(self._next_arrival + 1 / plan.rate, now - 1.0)
            self._start(now)
        elif plan.trickle and now >= self._next_trickle and up < plan.ceiling:
            self._next_trickle = max(self._next_trickle + 1 / plan.trickle, now)
            self._start(now)

    def _coming(self) -> bool:
        """Whether calls are still to come."""
        if not self._arriving:
            return False
        return self._plan.keep_arriving or self._started < self._most

    def _start(self, now: float) -> None:
        number, rng = self._started + 1, self._rng
        call_id = f"{self._run:08x}-{number}-{rng.getrandbits(32):08x}@{self._local}"
        with self._callers_place():
            sip = udp((self._local, 0))
            sip.connect(self._plan.proxy)
            media = caller_media(self._local, self._run, number, rng)
        local: Address = sip.getsockname()[:2]
        phone = Phone(local, media.address, rng, Timers(self._plan.t1))
        caller = Caller(call_id, phone, self._plan.target, f"caller{number}")
        duration = rng.uniform(*self._plan.duration)
        call = Call(number, self._run, caller, sip, media, duration, "callee" if number % 2 else "caller")
        call.started_at = now
        if self._plan.keepalive:
            call.keepalive_at = now + self._plan.keepalive
        self._started = number
        self._calls[call_id] = call
        self._slots[number % SLOTS].append(call)
        self._watch(sip, partial(self._caller_readable, call))
        self._watch_media(media)
        caller.start(now, self._plan.setup_time)
        self._advance(call, now)

    def _end(self, call: Call) -> None:
        del self._calls[call.caller.call_id]
        self._ended += 1
        self._failed += call.failed
        self._packets += sum(media.sent + media.meter.received for _, media in call.agents())
        for _, media in call.agents():
            self._forget(media.rtp)
            self._forget(media.rtcp)
        self._forget(call.sip)
        self._link.say(wire.Ended(call.result(self._zero)))
        call.close()

    def _advance(self, call: Call, now: float) -> None:
        call.advance(now)
        self._carry(call)

    def _carry(self, call: Call) -> None:
        """Send what the agents say, the caller through its connected socket, the callee from where it listens."""
        caller = call.caller
        for data, target in caller.outbox:
            _send(call.sip, data, target or self._plan.proxy)
        caller.outbox.clear()
        if call.callee is not None:
            for data, target in call.callee.outbox:
                if target is not None:
                    _send(self._callee, data, target)
            call.callee.outbox.clear()

    def _caller_readable(self, call: Call, now: float) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = call.sip.recv(65535)
            except OSError:
                return
            try:
                message = parse(data)
                if message.get("call-id") == call.caller.call_id:
                    call.caller.receive(message, self._plan.proxy, now)
            except MessageError:
                continue
            self._advance(call, now)

    def _callee_readable(self, now: float) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, peer = self._callee.recvfrom(65535)
            except OSError:
                return
            try:
                self._callee_hears(parse(data), peer[:2], now)
            except MessageError:
                continue

    def _callee_hears(self, message: Message, source: Address, now: float) -> None:
        call = self._calls.get(message.get("call-id"))
        if call is not None and call.callee is not None:
            call.callee.receive(message, source, now)
            self._advance(call, now)
        elif message.status or message.method == "ACK":
            return
        elif call is not None and message.method == "INVITE" and parameter(message.get("to"), "tag") is None:
            with self._callees_place():
                call.ring(message, source, self._plan.listen, self._rng.uniform(*self._plan.ring), self._rng, now)
            if call.callee_media is not None:
                self._watch_media(call.callee_media)
            self._advance(call, now)
        else:
            status = {"OPTIONS": 200, "INVITE": 404}.get(message.method, 481)
            _send(self._callee, bytes(respond(message, status, source, "sipfleet")), source)

    def _front_readable(self, now: float) -> None:
        for command in self._link.commands():
            act = self._commands.get(type(command))
            if act is not None:
                act(command)
        if self._link.gone:
            self._forget(self._link.socket)
            self._finishing = True
            self._hang_up(wire.HangUp())

    def _more(self, command: wire.Command) -> None:
        if isinstance(command, wire.More):
            self._most = command.calls
            self._next_arrival = max(self._next_arrival, time.monotonic())

    def _stop(self, command: wire.Command) -> None:
        self._arriving = False

    def _finish(self, command: wire.Command) -> None:
        self._finishing = True

    def _hang_up(self, command: wire.Command) -> None:
        self._arriving = False
        now = time.monotonic()
        for count, call in enumerate(self._calls.values()):
            call.hang_up_by(now + count * 0.005)

    def _report(self, now: float) -> None:
        status = Status(at=now - self._zero, started=self._started, ended=self._ended, failed=self._failed)
        longest = 0.0
        for call in self._calls.values():
            if call.established:
                status.established += 1
                heard_at = [media.meter.last_at or agent.answered_at for agent, media in call.agents()]
                longest = max(longest, now - min(heard_at) - PERIOD)
            elif call.bye_at or call.over_at:
                status.leaving += 1
            else:
                status.setting_up += 1
        status.silence_ms = longest * 1000
        status.more = self._coming()
        status.engine_cpu = time.process_time()
        self._link.say(wire.Now(status))

    def _watch(self, sock: socket.socket, handler: Callable[[float], None]) -> None:
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock, select.EPOLLIN)

    def _watch_media(self, media: MediaEnd) -> None:
        self._watch(media.rtp, partial(media.hear, self._buffer))
        self._watch(media.rtcp, lambda now: media.hear_report(self._buffer))

    def _forget(self, sock: socket.socket) -> None:
        if self._handlers.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock)


def _send(sock: socket.socket, data: bytes, target: Address) -> None:
    """Send, and once more when all that was wrong is an ICMP error that an earlier datagram caused."""
    for _ in range(2):
        try:
            sock.sendto(data, target)
        except ConnectionRefusedError:
            continue
        except OSError:
            return
        return


def _wide(sock: socket.socket) -> socket.socket:
    """With room for a burst of messages."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    return sock


def _callers_address(plan: CallPlan) -> str:
    """Where the callers stand: as the plan says, else the address from which the proxy is reached.

    On loopback that would be 127.0.0.1, whose ports everybody on the machine uses: the callee's is more of our own.
    """
    if plan.local:
        return plan.local
    together = plan.caller_netns == plan.callee_netns
    if together and all(ipaddress.ip_address(host).is_loopback for host in (plan.proxy[0], plan.listen[0])):
        return plan.listen[0]
    with socket.socket(socket.AF_INET6 if ":" in plan.proxy[0] else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(plan.proxy)
        return str(probe.getsockname()[0])


def _check_loopback(host: str) -> None:
    """The control stream needs loopback, which is down in a new network namespace; packets then vanish without a word.

    Raises `EngineError` when a datagram to ourselves does not arrive.
    """
    with udp((host, 0)) as probe:
        probe.settimeout(1.0)
        try:
            probe.sendto(b"", probe.getsockname())
            probe.recv(1)
        except OSError as error:
            raise EngineError(f"a datagram from {host} to itself does not arrive ({error}): is loopback up?") from None


def main() -> None:
    """Run as `python -m sipfleet.calls.engine FD`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    front = socket.socket(fileno=int(sys.argv[1]))
    start = wire.command(first_line(front))
    if not isinstance(start, wire.Start):
        raise SystemExit(1)
    try:
        engine = Engine(front, start.plan, start.zero)
    except (OSError, CallsError) as error:
        where = f"callee at {hostport(start.plan.listen)}, callers towards {hostport(start.plan.proxy)}"
        front.setblocking(True)
        front.sendall(wire.line(wire.Failed(f"{where}: {error}")))
        raise SystemExit(1) from None
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    engine.run()


if __name__ == "__main__":
    main()
