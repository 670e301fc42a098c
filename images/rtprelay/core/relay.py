"""The relay core: events in, actions out, and one function for packets (docs/decisions/0001)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from random import Random

import msgspec

from rtprelay.core.control import LIST_LIMIT, Answers, wishes
from rtprelay.core.events import (
    Action,
    Configure,
    Cordon,
    Drain,
    Event,
    Log,
    Ng,
    Peers,
    PortFailed,
    SendNg,
    Source,
    Store,
    StoreReply,
    StoreState,
    Timer,
    Uncordon,
)
from rtprelay.core.forward import PLACE, Forwarder
from rtprelay.core.keep import Restorer, to_record
from rtprelay.core.match import Forward, Matcher
from rtprelay.core.model import Interface, Party, Port, Session
from rtprelay.core.offer import LoadLimitError, Negotiator, RefusedError
from rtprelay.core.ports import Handles, Pool, PortSpec, RangePool, SharedPool, parse_interface
from rtprelay.core.report import describe
from sipcore import ng, sdp
from sipcore.bencode import Encodable
from sipcore.config import RelayConfig
from sipcore.errors import NgError, SdpError, SipcoreError
from sipcore.record import seal, unseal
from sipcore.session import KIND, SessionRecord
from sipcore.store import Command, Keys

OFFER_TIMEOUT = 300.0
"""Seconds that an offer waits for its answer; timer C of a proxy (RFC 3261 16.6) has fired by then."""

SWEEP = 5.0
"""Seconds between rounds of forgetting: quiet sources, held packets."""

STORE_WAIT = 2.0
"""Seconds that a start waits for the store before the relay calls itself ready; new sessions are served meanwhile."""

STORE_BATCH = 500

RESTORE = "restore"
"""Tag of the read of the stored sessions."""

Fields = dict[str, Encodable]


class Counters(msgspec.Struct):
    """What happened since the start."""

    offers: int = 0
    answers: int = 0
    deletes: int = 0
    errors: int = 0
    load_limits: int = 0
    created: int = 0
    restored: int = 0
    not_restored: int = 0
    timeouts: int = 0
    ended_packets: int = 0
    """RTP packets of sessions that have ended."""
    ended_bytes: int = 0


class RelayCore:
    """All that a relay decides; the edge owns sockets and the clock.

    `wall` is Unix time minus the clock of `now`, seconds. With `store` false nothing is written and nothing restored.
    """

    def __init__(self, config: RelayConfig, rng: Random, wall: float, *, store: bool, restore: bool = True) -> None:
        """Raises `ConfigError` for interfaces or ports that cannot be."""
        self.config = config
        self.interfaces: list[Interface] = [parse_interface(text) for text in config.interfaces]
        self.spec = PortSpec.parse(config.ports)
        self.sessions: dict[bytes, Session] = {}
        self.counters = Counters()
        self.cordoned = False
        self.draining = False
        self.ready = False
        """Whether what the store had is restored, or will not be waited for."""
        self.store_available = False
        self._wall = wall
        self._keys = Keys(config.pod.namespace, config.pod.set)
        self._store = store
        self._restore = restore and store
        self._restoring = False
        self._run_id = ""
        self._ready_at = 0.0
        self._handles = Handles()
        self._pools: list[Pool] = [
            SharedPool(interface, self.spec, self._handles)
            if self.spec.shared
            else RangePool(interface, self.spec, self._handles, rng)
            for interface in self.interfaces
        ]
        self.matcher = Matcher(self._handles, shared=self.spec.shared)
        self._negotiator = Negotiator(self.interfaces, self._pools, self.matcher, rng)
        self._restorer = Restorer(self.interfaces, self._pools, self.matcher)
        self._answers = Answers()
        self._forwarder = Forwarder(self._keys, config.pod.name)
        self._deadlines: list[tuple[float, bytes]] = []
        self._sweep_at = 0.0
        self._actions: list[Action] = []
        self._handlers: dict[type, Callable[..., None]] = {
            Ng: self._ng,
            StoreReply: self._store_reply,
            StoreState: self._store_state,
            PortFailed: self._port_failed,
            Timer: self._timer,
            Cordon: self._cordon,
            Uncordon: self._uncordon,
            Drain: self._drain,
            Configure: self._configure,
            Peers: self._peers,
        }
        self._commands: dict[str, Callable[[ng.Request, float], Fields]] = {
            "ping": lambda request, now: {"result": "pong"},
            "offer": self._offer,
            "answer": self._answer,
            "delete": self._delete,
            "query": self._query,
            "list": self._list,
        }
        self.packet: Callable[[bytes, int, Source, float], Forward | None] = self.matcher.packet
        """`packet(data, handle, source, now)` -> (data, handle to send from, target) or None; `flush` afterwards."""

    def port(self, handle: int) -> Port | None:
        """The port of an `OpenPort`."""
        return self._handles.ports.get(handle)

    @property
    def empty(self) -> bool:
        return not self.sessions

    def start(self, now: float) -> list[Action]:
        """First of all: the ports to open."""
        self._sweep_at = now + SWEEP
        self._ready_at = now + STORE_WAIT
        self.ready = not self._restore
        self._refill(now)
        return self._take()

    def feed(self, event: Event, now: float) -> list[Action]:
        """Take in one event; the actions, in order. `now` in seconds. Raises nothing, whatever a socket brought."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event, now)
        return self.flush(now)

    def flush(self, now: float) -> list[Action]:
        """Actions that packets caused: learnt sources go to the store at once."""
        if self.matcher.changed:
            changed, self.matcher.changed = self.matcher.changed, set()
            self._write([session for session in changed if self.sessions.get(session.call_id) is session])
        return self._take()

    def next_timer(self) -> float:
        """When to feed `Timer` next, on the clock of `now`."""
        times = [self._sweep_at]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        if not self.ready:
            times.append(self._ready_at)
        return min(times)

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        if self.matcher.couplings:
            couplings, self.matcher.couplings = self.matcher.couplings, []
            actions += couplings
        return actions

    def _refill(self, now: float) -> None:
        for pool in self._pools:
            pool.refill(now, self._actions)

    # ng commands

    def _ng(self, event: Ng, now: float) -> None:
        try:
            request = ng.parse_request(event.data)
        except NgError as error:
            self._not_a_command(event, error, now)
            return
        peer = (event.source, request.cookie)
        data = self._answers.get(peer)
        if data is not None:
            self._actions.append(SendNg(data, event.source))
        elif not self._elsewhere(request) or not self._forwarder.ask(request, event.source, now, self._actions):
            self._reply(request, event.source, now)

    def _reply(self, request: ng.Request, source: Source, now: float) -> None:
        data = ng.reply(request.cookie, self._execute(request, now))
        self._answers.put((source, request.cookie), data, now)
        self._actions.append(SendNg(data, source))
        self._refill(now)

    def _not_a_command(self, event: Ng, error: NgError, now: float) -> None:
        answered = self._forwarder.answered(event.data) if error.cookie else None
        if answered is not None:
            errand, data = answered
            self._answers.put((errand.source, errand.request.cookie), data, now)
            self._actions.append(SendNg(data, errand.source))
            return
        self.counters.errors += 1
        if error.cookie:
            self._actions.append(SendNg(ng.reply(error.cookie, ng.error(str(error))), event.source))

    def _elsewhere(self, request: ng.Request) -> bool:
        """Whether a command is for a call that only another relay can have."""
        if not self.store_available or request.text(b"call-id") in self.sessions:
            return False
        command = request.command
        return command in ("answer", "delete", "query") or (command == "offer" and bool(request.text(b"to-tag")))

    def _execute(self, request: ng.Request, now: float) -> Fields:
        command = self._commands.get(request.command)
        call_id = request.text(b"call-id")
        try:
            if command is None:
                raise RefusedError("Unrecognized command")
            return command(request, now)
        except LoadLimitError as error:
            self.counters.load_limits += 1
            self._log("warning", "load_limit", call_id, reason=str(error))
            return ng.load_limit(str(error))
        except SipcoreError as error:
            self.counters.errors += 1
            self._log("warning", "refused", call_id, command=request.command, reason=str(error))
            return ng.error(str(error))

    def _offer(self, request: ng.Request, now: float) -> Fields:
        self.counters.offers += 1
        call_id, tags, description = self._signalled(request)
        session = self.sessions.get(call_id)
        new = session is None
        if session is None:
            if self.cordoned or self.draining or len(self.sessions) >= self.config.capacity:
                raise LoadLimitError(ng.LOAD_LIMIT)
            session = Session(call_id, now)
        branch = request.text(b"via-branch")
        try:
            body = self._negotiator.offer(session, tags, branch, description, wishes(request), now, self._actions)
        except SipcoreError:
            if new:
                self._clear(session, now)
            raise
        if new:
            self.sessions[call_id] = session
            self.counters.created += 1
        return self._signalled_ok(session, request, body, now)

    def _answer(self, request: ng.Request, now: float) -> Fields:
        self.counters.answers += 1
        call_id, tags, description = self._signalled(request)
        if not tags[1]:
            raise RefusedError("No to-tag in message")
        session = self.sessions.get(call_id)
        if session is None:
            raise RefusedError("Unknown call-id")
        branch = request.text(b"via-branch")
        body = self._negotiator.answer(session, tags, branch, description, wishes(request), now, self._actions)
        return self._signalled_ok(session, request, body, now)

    def _signalled(self, request: ng.Request) -> tuple[bytes, tuple[bytes, bytes], sdp.Description]:
        call_id, from_tag, body = request.text(b"call-id"), request.text(b"from-tag"), request.text(b"sdp")
        if not body:
            raise RefusedError("No SDP body in message")
        if not call_id:
            raise RefusedError("No call-id in message")
        if not from_tag:
            raise RefusedError("No from-tag in message")
        try:
            description = sdp.parse(body)
        except SdpError as error:
            raise RefusedError(f"Failed to parse SDP: {error}") from None
        return call_id, (from_tag, request.text(b"to-tag")), description

    def _signalled_ok(self, session: Session, request: ng.Request, body: bytes, now: float) -> Fields:
        session.last_signal = now
        session.metadata = request.text(b"metadata") or session.metadata
        self._watch(session)
        self._write([session])
        return {"result": "ok", "sdp": body}

    def _delete(self, request: ng.Request, now: float) -> Fields:
        self.counters.deletes += 1
        call_id = request.text(b"call-id")
        if not call_id:
            raise RefusedError("No call-id in message")
        session = self.sessions.get(call_id)
        parties = _branch(session, request) if session is not None else None
        if session is None or parties is None:
            return {"result": "ok", "warning": "Call-ID not found or tags didn't match"}
        fields = describe(session, self._wall)
        if len(parties) == len(session.parties):
            self.end(session, now, "deleted")
        else:
            for party in parties:
                self._negotiator.remove(party, now, self._actions)
            self._write([session])
        return fields

    def _query(self, request: ng.Request, now: float) -> Fields:
        session = self.sessions.get(request.text(b"call-id"))
        if session is None:
            raise RefusedError("Unknown call-id")
        return describe(session, self._wall)

    def _list(self, request: ng.Request, now: float) -> Fields:
        limit = request.fields.get(b"limit")
        count = limit if isinstance(limit, int) and limit > 0 else LIST_LIMIT
        return {"result": "ok", "calls": [call_id for _, call_id in zip(range(count), self.sessions, strict=False)]}

    # life of a session

    def end(self, session: Session, now: float, reason: str) -> None:
        """The session is over: ports closed, sources quiet, record gone."""
        if self.sessions.pop(session.call_id, None) is None:
            return
        self.counters.ended_packets += sum(leg.stream.packets for leg in session.legs())
        self.counters.ended_bytes += sum(leg.stream.bytes for leg in session.legs())
        self._clear(session, now)
        if self._store and session.stored:
            commands: list[Command] = [
                (b"HDEL", self._keys.sessions(self.config.pod.name), session.call_id),
                (b"HDEL", self._keys.place, session.call_id),
            ]
            self._actions.append(Store(commands))
        self._log("info", "session_ended", session.call_id, reason=reason, seconds=round(now - session.created, 3))

    def _clear(self, session: Session, now: float) -> None:
        for party in list(session.parties):
            self._negotiator.remove(party, now, self._actions)

    def _watch(self, session: Session) -> None:
        """Look at the session again when it would be over; what comes until then moves that."""
        at = self._deadline(session)[0]
        if at < session.watched:
            session.watched = at
            heapq.heappush(self._deadlines, (at, session.call_id))

    def _deadline(self, session: Session) -> tuple[float, str]:
        """(when the session is over unless something comes, why), FEATURES RTP-04."""
        timeouts = self.config.timeouts
        final = session.created + timeouts.final
        if not session.answered:
            return min(final, session.last_signal + OFFER_TIMEOUT), "offer timeout"
        legs = session.legs()
        last = max((leg.stream.last for leg in legs), default=0.0)
        active = [leg for leg in legs if leg.active]
        muted = not active or any(leg.muted for leg in active)
        idle = max(last, session.last_signal) + (timeouts.silent if muted else timeouts.rtp)
        if final <= idle:
            return final, "final timeout"
        return idle, "silent timeout" if muted else "RTP timeout"

    def _timer(self, event: Timer, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            due, call_id = heapq.heappop(self._deadlines)
            session = self.sessions.get(call_id)
            if session is None or session.watched != due:
                continue
            session.watched = inf
            at, reason = self._deadline(session)
            if at > now:
                self._watch(session)
            else:
                self.counters.timeouts += 1
                self.end(session, now, reason)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP
            self.matcher.sweep(now)
            self._forwarder.sweep(now)
            for pool in self._pools:
                pool.sweep(now)
            self._refill(now)
        if not self.ready and now >= self._ready_at:
            self.ready = True
            self._log("warning", "not_restored", reason="the store did not answer in time")
            self._refill(now)

    # store

    def _write(self, sessions: list[Session]) -> None:
        if not self._store:
            return
        commands: list[Command] = []
        for session in sessions:
            value = seal(KIND, 0, 0, to_record(session, self._wall))
            commands.append((b"HSET", self._keys.sessions(self.config.pod.name), session.call_id, value))
            if not session.stored:
                session.stored = True
                commands.append((b"HSET", self._keys.place, session.call_id, self.config.pod.name))
        if commands:
            self._actions.append(Store(commands))

    def _store_state(self, event: StoreState, now: float) -> None:
        self.store_available = event.available
        if not event.available:
            return
        another = bool(self._run_id) and event.run_id != self._run_id
        self._run_id = event.run_id
        if self._restore and not self._restoring:
            self._restoring = True
            read: Command = (b"HGETALL", self._keys.sessions(self.config.pod.name))
            self._actions.append(Store([read], RESTORE))
        elif another:
            sessions = list(self.sessions.values())
            for session in sessions:
                session.stored = False
            for at in range(0, len(sessions), STORE_BATCH):
                self._write(sessions[at : at + STORE_BATCH])

    def _store_reply(self, event: StoreReply, now: float) -> None:
        if isinstance(event.tag, tuple) and event.tag[0] == PLACE:
            errand = self._forwarder.placed(event.tag[1], event.replies, self._actions)
            if errand is not None:
                self._reply(errand.request, errand.source, now)
            return
        if event.tag != RESTORE:
            return
        if event.replies is None:
            self._restoring = False  # the connection broke: asked again with the next
            return
        self._restore = False
        fields = event.replies[0]
        for data in fields[1::2] if isinstance(fields, list) else []:
            self._take_up(data, now)
        if self.counters.restored or self.counters.not_restored:
            self._log("info", "restored", sessions=self.counters.restored, lost=self.counters.not_restored)
        self.ready = True
        self._refill(now)

    def _take_up(self, data: object, now: float) -> None:
        try:
            record = unseal(data, SessionRecord)[2] if isinstance(data, bytes) else None
            if record is None or record.call_id in self.sessions:
                return
            session = self._restorer.restore(record, now, self._wall, self._actions)
        except SipcoreError as error:
            self.counters.not_restored += 1
            self._log("error", "session_lost", reason=str(error))
            return
        session.last_signal = now
        self.sessions[session.call_id] = session
        self.counters.restored += 1
        self._watch(session)

    # everything else

    def _port_failed(self, event: PortFailed, now: float) -> None:
        port = self._handles.ports.get(event.handle)
        if port is None:
            return
        self._log("warning", "port_failed", address=port.interface.address, port=port.number, reason=event.reason)
        for session in {leg.party.session for leg in port.legs}:
            self.counters.not_restored += session.restored
            self.end(session, now, f"port {port.number}: {event.reason}")
        for pool in self._pools:
            if pool.interface is port.interface:
                pool.failed(port.number & ~1, now, self._actions)

    def _cordon(self, event: Cordon, now: float) -> None:
        self.cordoned = True

    def _uncordon(self, event: Uncordon, now: float) -> None:
        self.cordoned = self.draining = False

    def _drain(self, event: Drain, now: float) -> None:
        self.cordoned = self.draining = True

    def _configure(self, event: Configure, now: float) -> None:
        self.config = event.config

    def _peers(self, event: Peers, now: float) -> None:
        self._forwarder.update(event.leases)

    def _log(self, level: str, event: str, call_id: bytes = b"", **fields: object) -> None:
        self._actions.append(Log(level, event, call_id.decode("utf-8", "replace"), fields))


def _branch(session: Session, request: ng.Request) -> list[Party] | None:
    """The parties that a delete means: one branch while others are left, else all; None when there is no such call."""
    given = [tag for tag in (request.text(b"from-tag"), request.text(b"to-tag")) if tag]
    branch = request.text(b"via-branch")
    if given and not any(session.by_tag(tag) for tag in given):
        return None
    answerers = session.parties[1:]
    meant = [party for party in answerers if (branch and party.branch == branch) or party.tag in given]
    others = [party for party in answerers if party not in meant]
    if not meant:
        return None if branch and others else session.parties
    connected = any(party.tag and party.peer is not None and party.peer.peer is party for party in meant)
    if not others or (connected and not any(party.tag for party in others)):
        return session.parties
    return meant
