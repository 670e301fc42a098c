"""Telephones on real sockets: a caller that hears only the address it called, a callee that answers to the source."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from tests.unit.proxy.harness import Address, header, request, response, start_line


class Phone:
    """A UDP socket; `to` connects it, so that packets from anywhere else are not seen."""

    def __init__(self, address: Address, to: Address | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(2)
        self.address: Address = self.socket.getsockname()[:2]
        if to is not None:
            self.socket.connect(to)
        self.peer: Address | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """To whom it is connected, else to the source of what it heard last."""
        if self.peer is None:
            self.socket.send(data)
        else:
            self.socket.sendto(data, self.peer)

    def hear(self, wanted: str, limit: float = 2.0) -> bytes:
        """The next message whose start line begins so; others (100, retransmissions) are passed over."""
        self.socket.settimeout(limit)
        while True:
            data, source = self.socket.recvfrom(65535)
            if start_line(data).startswith(wanted):
                if not self._connected():
                    self.peer = source[:2]
                return data

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recvfrom(65535)
        except TimeoutError:
            return True
        return False

    def _connected(self) -> bool:
        try:
            self.socket.getpeername()
        except OSError:
            return False
        return True


class Line:
    """A call between two phones through a proxy."""

    def __init__(self, alice: Phone, bob: Phone, domain: str, name: str, *, route: bool = True) -> None:
        self.alice, self.bob, self.name, self.route = alice, bob, name, route
        self.domain = domain
        self.call_id = f"{name}@{alice.address[0]}"

    def up(self) -> Self:
        """INVITE, 180, 200, ACK."""
        self.alice.send(
            request(
                "INVITE", f"sip:bob@{self.domain}", call_id=self.call_id, branch=self.name, source=self._at(self.alice)
            )
        )
        invite = self.bob.hear("INVITE")
        self.bob.send(response(invite, 180, "Ringing", contact=self._at(self.bob)))
        self.bob.send(response(invite, 200, "OK", contact=self._at(self.bob)))
        self.alice.hear("SIP/2.0 180")
        ok = self.alice.hear("SIP/2.0 200")
        self.record_route = header(ok, "Record-Route")[0]
        self.alice.send(self._of_alice("ACK", 1))
        self.bob.hear("ACK")
        return self

    def down(self, *, again: float = 0.5) -> None:
        """BYE and its 200; the BYE is repeated as RFC 3261 says when nothing comes."""
        bye = self._of_alice("BYE", 2)
        for _ in range(5):
            self.alice.send(bye)
            try:
                self.bob.send(response(self.bob.hear("BYE", again), 200, "OK", contact=self._at(self.bob)))
                self.alice.hear("SIP/2.0 200", again)
                return
            except (TimeoutError, ConnectionError):
                continue
        raise TimeoutError(f"{self.name}: no answer to BYE")

    def _at(self, phone: Phone) -> Address:
        """As it stands in a header."""
        host, port = phone.address
        return (f"[{host}]" if ":" in host else host), port

    def _of_alice(self, method: str, cseq: int) -> bytes:
        host, port = self._at(self.bob)
        return request(
            method,
            f"sip:bob@{host}:{port}",
            call_id=self.call_id,
            branch=f"{self.name}{method}",
            cseq=cseq,
            to_tag="bob",
            source=self._at(self.alice),
            extra=f"Route: {self.record_route}" if self.route else "",
        )
