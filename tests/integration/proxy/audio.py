"""Session descriptions and RTP for telephones that are sockets."""

from __future__ import annotations

import socket

from tests.integration.proxy.phones import Line, Phone
from tests.unit.proxy.harness import Address, header, request, response


def sdp(address: Address) -> str:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {address[0]}\r\ns=-\r\nc=IN IP4 {address[0]}\r\nt=0 0\r\n"
        f"m=audio {address[1]} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )


def media_of(message: bytes) -> Address:
    body = message.partition(b"\r\n\r\n")[2].decode()
    [host] = [line.split()[-1] for line in body.splitlines() if line.startswith("c=")]
    [port] = [line.split()[1] for line in body.splitlines() if line.startswith("m=audio")]
    return host, int(port)


def rtp(number: int) -> bytes:
    return b"\x80\x00" + number.to_bytes(2, "big") + (number * 160).to_bytes(4, "big") + b"SSRC" + bytes(160)


class Ear:
    """A media socket."""

    def __init__(self, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(2)
        self.address: Address = self.socket.getsockname()


class TalkingLine(Line):
    """A call with audio both ways."""

    def __init__(self, alice: Phone, bob: Phone, domain: str, name: str) -> None:
        super().__init__(alice, bob, domain, name)
        self.ears = Ear(alice.address[0]), Ear(bob.address[0])
        self.relay: tuple[Address, Address]
        self._sent = 0

    def up(self) -> TalkingLine:
        at = self.alice.address
        offer = sdp(self.ears[0].address)
        self.alice.send(
            request("INVITE", f"sip:bob@{self.domain}", call_id=self.call_id, branch=self.name, source=at, body=offer)
        )
        invite = self.bob.hear("INVITE")
        self.bob.send(response(invite, 200, "OK", contact=self.bob.address, body=sdp(self.ears[1].address)))
        ok = self.alice.hear("SIP/2.0 200")
        self.relay = media_of(ok), media_of(invite)
        self.record_route = header(ok, "Record-Route")[0]
        self.alice.send(self._of_alice("ACK", 1))
        self.bob.hear("ACK")
        return self

    def talk(self) -> bool:
        """Whether a packet each way arrives."""
        self._sent += 1
        for ear, target in zip(self.ears, self.relay, strict=True):
            ear.socket.sendto(rtp(self._sent), target)
        try:
            return all(ear.socket.recv(2048)[12:] == bytes(160) for ear in self.ears)
        except TimeoutError:
            return False

    def close(self) -> None:
        self.alice.socket.close()
        for ear in self.ears:
            ear.socket.close()
