"""A relay core with a clock that stands still, and callers that speak ng and RTP to it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from random import Random

from rtprelay.core import RelayCore
from rtprelay.core.events import (
    Action,
    ClosePort,
    Event,
    Ng,
    OpenPort,
    PortFailed,
    SendNg,
    SendPacket,
    Source,
    Store,
    StoreReply,
    StoreState,
    Timer,
)
from sipcore import ng
from sipcore.bencode import Encodable
from sipcore.config import Pod, RelayConfig
from sipcore.rtp import RtpPacket

RELAY = "192.0.2.1"
RELAY6 = "2001:db8::1"
CALLER = ("198.51.100.10", 4000)
CALLEE = ("203.0.113.20", 5000)
PROXY = ("192.0.2.9", 2000)


def rtp(
    sequence: int = 1, payload_type: int = 0, ssrc: int = 7, payload: bytes = b"x" * 160, timestamp: int | None = None
) -> bytes:
    stamp = sequence * 160 if timestamp is None else timestamp
    return bytes(RtpPacket(payload_type, sequence & 0xFFFF, stamp & 0xFFFFFFFF, ssrc, payload))


def rtcp(ssrc: int = 7) -> bytes:
    return bytes((0x81, 200, 0, 6)) + ssrc.to_bytes(4, "big") + bytes(20)


def body(
    source: Source,
    *,
    payloads: str = "0 101",
    direction: str = "sendrecv",
    address: str = "",
    media: str = "",
    extra: str = "",
    origin: str = "- 1 1",
) -> str:
    """A description; `source` is where RTP is wanted, `media` replaces the media lines."""
    ip = address or source[0]
    family = "IP6" if ":" in ip else "IP4"
    lines = media or f"m=audio {source[1]} RTP/AVP {payloads}\r\na={direction}\r\n{extra}"
    return f"v=0\r\no={origin} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n{lines}"


class Bed:
    """One core; what it asks for is done, what it says is kept."""

    def __init__(
        self,
        ports: str = "30000-30199",
        *,
        interfaces: tuple[str, ...] = (RELAY,),
        capacity: int = 100,
        store: bool = False,
        seed: int = 1,
        restore: bool = True,
        taken: Iterable[tuple[str, int]] = (),
        speak_first: bool = True,
    ) -> None:
        pod = Pod(set="pool", name="relay-0", uid="u1")
        self.config = RelayConfig(
            interfaces=list(interfaces), ports=ports, capacity=capacity, pod=pod, speak_first=speak_first
        )
        self.core = RelayCore(self.config, Random(seed), 1_700_000_000.0, store=store, restore=restore)
        self.now = 1000.0
        self.opened: dict[int, tuple[str, int]] = {}
        self.sent: list[SendPacket] = []
        self.written: list[tuple[bytes | str | int | float, ...]] = []
        self.reads: list[Store] = []
        self.logged: list[str] = []
        self.taken = set(taken)
        """Addresses that another program holds."""
        self._cookies = itertools.count(1)
        self._answers: list[SendNg] = []
        self.do(self.core.start(self.now))

    def do(self, actions: list[Action]) -> None:
        failed: list[PortFailed] = []
        for action in actions:
            if isinstance(action, OpenPort):
                place = (action.address, action.number or 60_000 + action.handle)
                if place in self.taken or place in self.opened.values():
                    failed.append(PortFailed(action.handle, "address in use"))
                else:
                    self.opened[action.handle] = place
            elif isinstance(action, ClosePort):
                self.opened.pop(action.handle, None)
            elif isinstance(action, SendPacket):
                self.sent.append(action)
            elif isinstance(action, SendNg):
                self._answers.append(action)
            elif isinstance(action, Store):
                if action.tag is None:
                    self.written += [tuple(command) for command in action.commands]
                else:
                    self.reads.append(action)
            else:
                self.logged.append(getattr(action, "event", type(action).__name__))
        for event in failed:
            self.feed(event)

    def store_comes(self) -> None:
        """The store is there, and has no sessions of ours."""
        self.feed(StoreState(True, "run"))
        self.feed(StoreReply("restore", [[]]))

    def feed(self, event: Event) -> None:
        self.do(self.core.feed(event, self.now))

    def raw(self, data: bytes, source: Source = PROXY) -> bytes | None:
        """A datagram on the ng port; the answer."""
        self.feed(Ng(data, source))
        return self._answers.pop().data if self._answers else None

    def ask(self, command: str, **fields: Encodable) -> ng.Reply:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        answer = self.raw(ng.request(b"c%d" % next(self._cookies), command, named))
        assert answer is not None
        return ng.parse_reply(answer)

    def call(
        self, call_id: str = "call", caller: Source = CALLER, callee: Source = CALLEE, **fields: Encodable
    ) -> tuple[int, int]:
        """A call that is up; the ports toward caller and callee."""
        offer = self.ask("offer", call_id=call_id, from_tag="a", sdp=body(caller), **fields)
        assert offer.result == "ok", offer
        answer = self.ask("answer", call_id=call_id, from_tag="a", to_tag="b", sdp=body(callee), **fields)
        assert answer.result == "ok", answer
        return port(answer.sdp), port(offer.sdp)

    def packet(self, data: bytes, number: int, source: Source, address: str = RELAY) -> tuple[int, Source] | None:
        """A datagram to our port; (the port that it leaves from, where to), None when it goes nowhere."""
        forward = self.core.packet(data, self.handle(number, address), source, self.now)
        self.do(self.core.flush(self.now))
        if forward is None:
            return None
        assert forward[0] == data
        return self.opened[forward[1]][1], forward[2]

    def handle(self, number: int, address: str = RELAY) -> int:
        return next(handle for handle, place in self.opened.items() if place == (address, number))

    def beside(self, number: int, address: str = RELAY) -> int:
        """The number of the socket beside our port."""
        port = self.core.port(self.handle(number, address))
        assert port is not None
        return self.opened[port.beside][1]

    def released(self) -> list[tuple[bytes, int, Source]]:
        """Held packets that went on since the last call."""
        sent, self.sent = self.sent, []
        return [(packet.data, self.opened[packet.handle][1], packet.target) for packet in sent]

    def wait(self, seconds: float) -> None:
        """Time passes; timers fire when they are due."""
        end = self.now + seconds
        while (at := self.core.next_timer()) <= end:
            self.now = max(self.now, at)
            self.feed(Timer())
        self.now = end

    def stored(self) -> dict[bytes, bytes]:
        """The hash of sessions as the writes so far made it."""
        table: dict[bytes, bytes] = {}
        for command in self.written:
            if str(command[1], "ascii").endswith("sessions:relay-0"):  # type: ignore[arg-type]
                if command[0] == b"HSET":
                    table[command[2]] = command[3]  # type: ignore[index, assignment]
                else:
                    table.pop(command[2], None)  # type: ignore[call-overload]
        return table

    def restart(
        self,
        *,
        taken: tuple[tuple[str, int], ...] = (),
        ports: str = "",
        interfaces: tuple[str, ...] = (),
        away: float = 0.0,
    ) -> Bed:
        """Killed, and started again with what was stored, `away` seconds later."""
        bed = Bed(
            ports or self.config.ports,
            interfaces=interfaces or tuple(self.config.interfaces),
            store=True,
            seed=99,
            taken=taken,
            speak_first=self.config.speak_first,
        )
        bed.now = self.now + away
        bed.feed(StoreState(True, "run"))
        (read,) = bed.reads
        fields = [item for pair in self.stored().items() for item in pair]
        bed.feed(StoreReply(read.tag, [list(fields)]))
        return bed


def port(sdp: bytes, kind: str = "audio", nth: int = 0) -> int:
    return int(re.findall(rf"m={kind} (\d+)".encode(), sdp)[nth])


def lines(sdp: bytes, start: str) -> list[str]:
    return [line for line in sdp.decode().splitlines() if line.startswith(start)]
