"""One call: two user agents, two pairs of audio sockets, and when it is time to talk and to leave."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

from .audio import PERIOD, TO_CALLEE, TO_CALLER, tag
from .callee import Callee
from .caller import Caller
from .media import MediaEnd
from .message import Address, Message
from .results import CallResult, Heard
from .ua import Agent, Phone, State

LINGER = 0.5
"""How long the sockets of an ended call stay open for what is still on its way, seconds."""


class Call:
    """The state of one call; the engine owns the sockets' events and carries the outboxes."""

    def __init__(
        self, number: int, run: int, caller: Caller, sip: socket.socket, media: MediaEnd, duration: float, bye_by: str
    ) -> None:
        self.number = number
        self.run = run
        self.sip = sip
        """The caller's connected socket: it hears only the address that was called."""
        self.caller = caller
        self.callee: Callee | None = None
        self.caller_media = media
        self.callee_media: MediaEnd | None = None
        self.duration = duration
        self.bye_by = bye_by
        self.started_at = 0.0
        self.hang_up_at = float("inf")
        self.keepalive_at = float("inf")
        """When the caller's next keepalive is due."""
        self.bye_at = 0.0
        self.ended_early = False
        self.over_at = 0.0
        """When nothing was left to do; the sockets close `LINGER` seconds later."""

    def ring(
        self, invite: Message, source: Address, local: Address, ring_time: float, rng: random.Random, now: float
    ) -> None:
        """The INVITE reached our callee."""
        media = callee_media(local[0], self.run, self.number, rng)
        self.callee_media = media
        self.callee = Callee(Phone(local, media.address, rng, self.caller.timers), invite, source)
        self.callee.start(now, ring_time)

    def agents(self) -> Iterator[tuple[Agent, MediaEnd]]:
        """The sides that there are."""
        yield self.caller, self.caller_media
        if self.callee is not None and self.callee_media is not None:
            yield self.callee, self.callee_media

    @property
    def due(self) -> float:
        """When `advance` has something to do."""
        hang_up_at = float("inf") if self.bye_at else self.hang_up_at
        return min(self.caller.due, self.callee.due if self.callee is not None else hang_up_at, hang_up_at)

    @property
    def established(self) -> bool:
        callee = self.callee
        return self.caller.state is State.UP and callee is not None and callee.state is State.UP and callee.acked_at > 0

    @property
    def failed(self) -> bool:
        """Whether its set-up or its BYE went wrong."""
        return bool(self.caller.failure) or any(agent.bye_status not in (0, 200) for agent, _ in self.agents())

    def hang_up_by(self, moment: float) -> None:
        """End it at that moment, or as soon as it is answered."""
        self.duration = 0.0
        self.hang_up_at = min(self.hang_up_at, moment)

    def advance(self, now: float) -> None:
        """After anything happened to one of its agents, and every 20 ms: talk, leave, notice the end."""
        for agent, media in self.agents():
            if agent.due <= now:
                agent.tick(now)
            if agent.state is State.UP:
                self._talk(agent, media)
        if now >= self.hang_up_at and not self.bye_at:
            leaver = self.callee if self.bye_by == "callee" and self.callee is not None else self.caller
            leaver.hang_up(now)
        for agent, _ in self.agents():
            if not self.bye_at and (agent.bye_sent_at or agent.bye_received_at):
                self._leave(agent.bye_sent_at or agent.bye_received_at, early=not agent.bye_sent_at)
        for agent, media in self.agents():
            if agent.state in (State.LEAVING, State.OVER):
                media.hush()
        if not self.over_at and self._is_over():
            self.over_at = now

    def _talk(self, agent: Agent, media: MediaEnd) -> None:
        remote = agent.remote
        if remote is not None and (media.target is None or media.target != remote.rtp):
            media.talk(remote)
        if agent is self.caller and self.hang_up_at == float("inf"):
            self.hang_up_at = agent.answered_at + self.duration

    def _leave(self, moment: float, *, early: bool) -> None:
        self.bye_at = moment
        self.ended_early = early
        for _, media in self.agents():
            media.meter.close(moment)

    def _is_over(self) -> bool:
        if self.caller.failure:
            return True
        ended = [agent.state is State.OVER for agent, _ in self.agents()]
        left = [agent.bye_answered_at > 0 for agent, _ in self.agents()]
        return all(ended) or any(left) or (self.ended_early and any(ended))

    def result(self, zero: float) -> CallResult:
        """What was observed, its moments counted from `zero`."""
        caller, callee = self.caller, self.callee
        leaver = next((agent for agent, _ in self.agents() if agent.bye_sent_at), None)
        stayer = callee if leaver is caller else caller

        def moment(at: float) -> float:
            return round(at - zero, 6) if at else 0.0

        result = CallResult(
            number=self.number,
            call_id=caller.call_id,
            started_at=moment(self.started_at),
            answered_at=moment(caller.answered_at),
            acked_at=moment(callee.acked_at) if callee else 0.0,
            bye_at=moment(self.bye_at),
            bye_by=self.bye_by,
            bye_arrived=stayer is not None and stayer.bye_received_at > 0,
            ended_early=self.ended_early,
            setup_status=caller.failure,
            described=all(agent.remote is not None for agent, _ in self.agents()),
            reinvites=sum(agent.reinvites for agent, _ in self.agents()),
            retransmissions=sum(agent.retransmissions for agent, _ in self.agents()),
            to_caller=heard(self.caller_media, self.callee_media, zero),
            to_callee=heard(self.callee_media, self.caller_media, zero) if self.callee_media else Heard(),
        )
        if leaver is not None:
            result.bye_status = leaver.bye_status
            result.bye_ms = (leaver.bye_answered_at - leaver.bye_sent_at) * 1000 if leaver.bye_answered_at else 0.0
        return result

    def close(self) -> None:
        self.sip.close()
        for _, media in self.agents():
            media.close()


def caller_media(host: str, run: int, number: int, rng: random.Random) -> MediaEnd:
    """The audio sockets of the caller of call `number`."""
    return MediaEnd(host, tag(run, number, TO_CALLEE), tag(run, number, TO_CALLER), f"{run:08x}-{number}-caller", rng)


def callee_media(host: str, run: int, number: int, rng: random.Random) -> MediaEnd:
    """The audio sockets of its callee."""
    return MediaEnd(host, tag(run, number, TO_CALLER), tag(run, number, TO_CALLEE), f"{run:08x}-{number}-callee", rng)


def heard(end: MediaEnd, sender: MediaEnd | None, zero: float) -> Heard:
    """What that end has heard of the sender, its moments counted from `zero`."""
    meter = end.meter

    def moment(at: float) -> float:
        return round(at - zero, 6) if at else 0.0

    return Heard(
        sent=sender.sent if sender is not None else 0,
        received=meter.received,
        lost=meter.lost(),
        duplicates=meter.duplicates,
        foreign=meter.foreign,
        reversed=meter.reversed,
        stranger=meter.stranger,
        first_at=moment(meter.first_at),
        last_at=moment(meter.last_at),
        gap_ms=round(max(meter.longest - PERIOD, 0.0) * 1000, 3),
        gap_at=moment(meter.longest_at),
        silences=[(moment(start), moment(end)) for start, end in meter.silences],
        reports=end.reports,
        foreign_reports=end.foreign_reports,
    )
