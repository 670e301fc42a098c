"""What the front and the engine say to each other: one JSON object a line over a socket pair."""

from __future__ import annotations

import msgspec

from .plan import CallPlan
from .results import CallResult, Heard, Status

LONGEST_LINE = 1 << 20


class Start(msgspec.Struct, tag="start"):
    """The first line to the engine."""

    plan: CallPlan
    zero: float
    """The moment, of the monotonic clock that both share, from which all others are counted."""


class More(msgspec.Struct, tag="more"):
    """Make it this many calls in all (at once, when calls keep arriving)."""

    calls: int


class Stop(msgspec.Struct, tag="stop"):
    """No new calls; those that are up go on to their end."""


class HangUp(msgspec.Struct, tag="hang_up"):
    """No new calls, and a BYE for those that are up."""


class Finish(msgspec.Struct, tag="finish"):
    """End when no call is left and none is to come."""


class Now(msgspec.Struct, tag="now"):
    """How the calls stand."""

    status: Status


class Ended(msgspec.Struct, tag="ended"):
    """A call is over."""

    call: CallResult


class Done(msgspec.Struct, tag="done"):
    """The last line of the engine."""

    control: Heard
    packets: int
    seconds: float
    cpu: float


class Failed(msgspec.Struct, tag="failed"):
    """The last line of an engine that could not start."""

    error: str


Command = Start | More | Stop | HangUp | Finish
Answer = Now | Ended | Done | Failed

_encoder = msgspec.json.Encoder()
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def line(message: Command | Answer) -> bytes:
    return _encoder.encode(message) + b"\n"


def command(text: bytes) -> Command:
    return _commands.decode(text)


def answer(text: bytes) -> Answer:
    return _answers.decode(text)
