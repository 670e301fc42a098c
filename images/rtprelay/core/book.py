"""The sessions of a relay: made, timed out, ended, stored and taken up again (FEATURES RTP-04, RTP-07)."""

from __future__ import annotations

import heapq
from math import inf

import msgspec

from rtprelay.core.events import Action, Log, Store
from rtprelay.core.keep import Restorer, to_record
from rtprelay.core.model import Session
from rtprelay.core.offer import Negotiator
from sipcore.config import RelayConfig
from sipcore.errors import SipcoreError
from sipcore.record import seal, unseal
from sipcore.session import KIND, SessionRecord
from sipcore.store import Command, Keys

OFFER_TIMEOUT = 300.0
"""Seconds that an offer waits for its answer; timer C of a proxy (RFC 3261 16.6) has fired by then."""

STORE_BATCH = 500
"""Records in one pipeline when all are written again."""


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


class Book:
    """All sessions by Call-ID. What is to be done goes to the list of actions that it was given."""

    def __init__(
        self,
        config: RelayConfig,
        negotiator: Negotiator,
        restorer: Restorer,
        actions: list[Action],
        wall: float,
        *,
        store: bool,
    ) -> None:
        self.config = config
        self.sessions: dict[bytes, Session] = {}
        self.counters = Counters()
        self.keys = Keys(config.pod.namespace, config.pod.set)
        self.wall = wall
        """Unix time minus the core's clock, seconds."""
        self._negotiator = negotiator
        self._restorer = restorer
        self._actions = actions
        self._store = store
        self._deadlines: list[tuple[float, bytes]] = []

    @property
    def next_deadline(self) -> float:
        return self._deadlines[0][0] if self._deadlines else inf

    def add(self, session: Session) -> None:
        self.sessions[session.call_id] = session
        self.counters.created += 1

    def touch(self, session: Session, now: float) -> None:
        """Something was signalled: timeouts begin anew, and the record is written."""
        session.last_signal = now
        self._watch(session)
        self.write([session])

    def end(self, session: Session, now: float, reason: str) -> None:
        """The session is over: ports closed, sources quiet, record gone."""
        if self.sessions.pop(session.call_id, None) is None:
            return
        streams = [leg.stream for leg in session.legs()]
        packets, lost = sum(s.packets for s in streams), sum(max(0, s.lost) for s in streams)
        self.counters.ended_packets += packets
        self.counters.ended_bytes += sum(s.bytes for s in streams)
        self.clear(session, now)
        if self._store and session.stored:
            commands: list[Command] = [
                (b"HDEL", self.keys.sessions(self.config.pod.name), session.call_id),
                (b"HDEL", self.keys.place, session.call_id),
            ]
            self._actions.append(Store(commands))
        jitter = round(max((s.jitter_ms for s in streams), default=0.0), 1)
        seconds = round(now - session.created, 3)
        fields = {"reason": reason, "seconds": seconds, "packets": packets, "lost": lost, "jitter_ms": jitter}
        self.log("info", "session_ended", session.call_id, **fields)

    def clear(self, session: Session, now: float) -> None:
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

    def expire(self, now: float) -> None:
        """End what is over by now."""
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

    def write(self, sessions: list[Session]) -> None:
        if not self._store:
            return
        commands: list[Command] = []
        for session in sessions:
            value = seal(KIND, 0, 0, to_record(session, self.wall))
            commands.append((b"HSET", self.keys.sessions(self.config.pod.name), session.call_id, value))
            if not session.stored:
                session.stored = True
                commands.append((b"HSET", self.keys.place, session.call_id, self.config.pod.name))
        if commands:
            self._actions.append(Store(commands))

    def write_all(self) -> None:
        """Another, perhaps empty store: everything again."""
        sessions = list(self.sessions.values())
        for session in sessions:
            session.stored = False
        for at in range(0, len(sessions), STORE_BATCH):
            self.write(sessions[at : at + STORE_BATCH])

    def take_up(self, data: object, now: float) -> None:
        try:
            record = unseal(data, SessionRecord)[2] if isinstance(data, bytes) else None
            if record is None or record.call_id in self.sessions:
                return
            session = self._restorer.restore(record, now, self.wall, self._actions)
        except SipcoreError as error:
            self.counters.not_restored += 1
            self.log("error", "session_lost", reason=str(error))
            return
        session.last_signal = now
        self.sessions[session.call_id] = session
        self.counters.restored += 1
        self._watch(session)

    def log(self, level: str, event: str, call_id: bytes = b"", **fields: object) -> None:
        self._actions.append(Log(level, event, call_id.decode("utf-8", "replace"), fields))
