"""A real `rtprelay` process, with phones and a proxy that talk to it over real sockets."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sipcore import ng
from sipcore.bencode import Encodable
from sipcore.rtp import RtpPacket
from tests.integration.peers.probe import Address, answers_ng
from tests.integration.peers.process import Peer

_hosts = itertools.count()


def next_address() -> str:
    """A loopback address that no other test of this run has."""
    number = next(_hosts)
    return f"127.{104 + number // 250}.{os.getpid() % 250 + 1}.{number % 250 + 1}"


class Relay(Peer):
    """`rtprelay` with ng, admin and media at addresses of its own."""

    def __init__(
        self, work: Path, *flags: str, ports: str = "20000-20999", env: dict[str, str] | None = None, host: str = ""
    ) -> None:
        self.host = host or next_address()
        self.ng: Address = (self.host, 2223)
        self.admin: Address = (self.host, 8080)
        argv = [sys.executable, "-m", "rtprelay", "--ng", f"{self.host}:2223", "--admin", f"{self.host}:8080"]
        argv += [*([] if "--interface" in flags else ["--interface", self.host]), "--ports", ports, *flags]
        super().__init__(argv, work / f"rtprelay-{self.host}.log", self.ready, env)

    def ready(self) -> bool:
        return answers_ng(self.ng) and self.get("/readyz")[0] == 200

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of an admin request; (0, "") when nobody answers."""
        url = f"http://{self.host}:8080{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def status(self) -> dict[str, object]:
        status: dict[str, object] = json.loads(self.get("/status")[1])
        return status

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Asker:
    """Speaks ng to a relay, ours or another."""

    def __init__(self, address: Address) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(2)
        self._sock.connect(address)
        self._cookies = itertools.count(1)

    def ask(self, command: str, **fields: Encodable) -> ng.Reply:
        cookie = b"%d_%d" % (id(self), next(self._cookies))
        named = {name if name == "ICE" else name.replace("_", "-"): value for name, value in fields.items()}
        self._sock.send(ng.request(cookie, command, named))
        while True:
            reply = ng.parse_reply(self._sock.recv(65_535))
            if reply.cookie == cookie:
                return reply

    def close(self) -> None:
        self._sock.close()


class Phone:
    """RTP and RTCP sockets of one party."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        while True:
            self.rtp = socket.socket(family, socket.SOCK_DGRAM)
            self.rtp.bind((address, 0))
            self.rtcp = socket.socket(family, socket.SOCK_DGRAM)
            try:
                self.rtcp.bind((address, self.rtp.getsockname()[1] + 1))
                break
            except OSError:
                self.rtp.close()
                self.rtcp.close()
        self.address = address
        self.port = int(self.rtp.getsockname()[1])
        for sock in (self.rtp, self.rtcp):
            sock.settimeout(1.0)
        self.relay: Address = ("", 0)
        self.sequence = 0
        self.ssrc = self.port

    def sdp(self, direction: str = "sendrecv", ip: str = "") -> str:
        family = "IP6" if ":" in self.address else "IP4"
        head = f"v=0\r\no=- {self.port} 1 IN {family} {self.address}\r\ns=-\r\nc=IN {family} {ip or self.address}\r\n"
        return head + f"t=0 0\r\nm=audio {self.port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na={direction}\r\n"

    def faces(self, sdp: bytes) -> None:
        """Send where this description says."""
        match = re.search(rb"c=IN IP[46] (\S+)\r\n.*?m=audio (\d+)", sdp, re.S)
        assert match
        self.relay = (match[1].decode(), int(match[2]))

    def speak(self) -> bytes:
        """Send the next packet."""
        self.sequence += 1
        data = bytes(RtpPacket(0, self.sequence, self.sequence * 160, self.ssrc, b"%d" % self.port + bytes(150)))
        self.rtp.sendto(data, self.relay)
        return data

    def hears(self, limit: float = 1.0) -> bytes | None:
        """The next packet, None when there is none within `limit` seconds."""
        self.rtp.settimeout(limit)
        try:
            return self.rtp.recv(2048)
        except TimeoutError:
            return None

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class Call:
    """Two phones with a relay between them."""

    def __init__(self, asker: Asker, call_id: str, addresses: tuple[str, str] | None = None) -> None:
        self.asker, self.call_id = asker, call_id
        here = addresses or (next_address(), next_address())
        self.caller, self.callee = Phone(here[0]), Phone(here[1])
        offer = asker.ask("offer", call_id=call_id, from_tag="a", sdp=self.caller.sdp())
        assert offer.result == "ok", offer
        self.callee.faces(offer.sdp)
        answer = asker.ask("answer", call_id=call_id, from_tag="a", to_tag="b", sdp=self.callee.sdp())
        assert answer.result == "ok", answer
        self.caller.faces(answer.sdp)

    def audio(self) -> bool:
        """Whether a packet each way arrives as it was sent."""
        return all(one.speak() == two.hears() for one, two in ((self.caller, self.callee), (self.callee, self.caller)))

    def close(self) -> None:
        self.caller.close()
        self.callee.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Relay]]:
    """Starts relays that end with the test."""
    running: list[Relay] = []

    def starter(*flags: str, **options: object) -> Relay:
        relay = Relay(tmp_path, *flags, **options)  # type: ignore[arg-type]
        running.append(relay)
        relay.start()
        return relay

    yield starter
    for relay in running:
        relay.kill()


@pytest.fixture
def asker() -> Iterator[Callable[[Relay], Asker]]:
    """Makes clients of the ng protocol."""
    made: list[Asker] = []

    def make(relay: Relay) -> Asker:
        made.append(Asker(relay.ng))
        return made[-1]

    yield make
    for client in made:
        client.close()
