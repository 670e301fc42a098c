"""Whether a pod really serves: an OPTIONS through a proxy, RTP both ways through a relay (DESIGN 4.3).

A running process proves nothing; only a message that went through does. Each probe uses sockets of its own, ends within
its time limit and raises nothing: False is an answer.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from typing import cast

from sipcore import ng
from sipcore.bencode import Encodable
from sipcore.errors import SipcoreError

RESEND = 0.3
"""Seconds; loopback loses a datagram only when a buffer is full."""

Address = tuple[str, int]


class _Socket(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue(64)
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not self.received.full():
            self.received.put_nowait((data, addr))

    @property
    def address(self) -> Address:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")[:2]
        return host, port

    async def ask(self, data: bytes, target: Address, good: Callable[[bytes], bool]) -> bytes:
        """Send until a datagram comes that is `good`; the caller sets the time limit."""
        assert self.transport is not None
        while True:
            self.transport.sendto(data, target)
            try:
                async with asyncio.timeout(RESEND):
                    while True:
                        answer, _ = await self.received.get()
                        if good(answer):
                            return answer
            except TimeoutError:
                continue


async def _open(host: str) -> _Socket:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(_Socket, local_addr=(host, 0))
    return protocol


def _close(*sockets: _Socket) -> None:
    for one in sockets:
        if one.transport is not None:
            one.transport.close()


async def options(target: Address, source: str, timeout: float) -> bool:
    """Whether a SIP element answers OPTIONS (RFC 3261 11) with 200 within `timeout` seconds."""
    try:
        socket = await _open(source)
    except OSError:
        return False
    try:
        host, port = socket.address
        call_id = secrets.token_hex(8)
        message = (
            f"OPTIONS sip:{target[0]}:{target[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{secrets.token_hex(8)}\r\n"
            f"Max-Forwards: 1\r\nFrom: <sip:probe@{host}>;tag={secrets.token_hex(4)}\r\n"
            f"To: <sip:{target[0]}:{target[1]}>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        wanted = call_id.encode()
        async with asyncio.timeout(timeout):
            answer = await socket.ask(message, target, lambda d: d.startswith(b"SIP/2.0 ") and wanted in d)
        return answer.startswith(b"SIP/2.0 200")
    except (TimeoutError, OSError):
        return False
    finally:
        _close(socket)


async def ping(target: Address, source: str, timeout: float) -> bool:
    """Whether a relay answers an ng ping with pong."""
    try:
        socket = await _open(source)
        try:
            async with asyncio.timeout(timeout):
                return (await _command(socket, target, "ping", {})).result == "pong"
        finally:
            _close(socket)
    except (TimeoutError, OSError):
        return False


async def _command(socket: _Socket, target: Address, command: str, fields: Mapping[str, Encodable]) -> ng.Reply:
    cookie = secrets.token_hex(6).encode()
    data = await socket.ask(ng.request(cookie, command, fields), target, lambda d: d.startswith(cookie + b" d"))
    return ng.parse_reply(data)


def _sdp(address: Address) -> str:
    host, port = address
    return (
        f"v=0\r\no=probe 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )


def _media_address(sdp: bytes) -> Address | None:
    host = re.search(rb"^c=IN IP[46] (\S+)", sdp, re.M)
    port = re.search(rb"^m=audio (\d+) ", sdp, re.M)
    return (host[1].decode(), int(port[1])) if host and port else None


async def rtp_echo(target: Address, source: str, timeout: float, through: str | None = None) -> bool:
    """Whether RTP goes through a relay both ways: offer, answer, a packet in each direction, delete.

    A relay that answers `load limit` serves what it has: that is a yes too. `through` is the relay's own address, where
    the one that it names to the world is translated on the way.
    """
    sockets: list[_Socket] = []
    call = {"call-id": f"sipfleet-probe-{secrets.token_hex(8)}", "from-tag": "a"}
    try:
        async with asyncio.timeout(timeout):
            sockets += [control := await _open(source), caller := await _open(source), callee := await _open(source)]
            offer = await _command(control, target, "offer", {**call, "sdp": _sdp(caller.address)})
            if offer.result == "load limit":
                return True
            answer = await _command(control, target, "answer", {**call, "to-tag": "b", "sdp": _sdp(callee.address)})
            toward_callee, toward_caller = _media_address(offer.sdp), _media_address(answer.sdp)
            if toward_callee is None or toward_caller is None:
                return False
            if through is not None:
                toward_caller, toward_callee = (through, toward_caller[1]), (through, toward_callee[1])
            await _talk(caller, toward_caller, callee, toward_callee)
            return True
    except (TimeoutError, OSError, SipcoreError):
        return False
    finally:
        if sockets:
            await _forget(sockets[0], target, call)
        _close(*sockets)


async def _talk(caller: _Socket, toward_caller: Address, callee: _Socket, toward_callee: Address) -> None:
    """Send RTP into the relay from both sides until each has heard the other: a relay that does not speak first sends
    nothing to a side that is silent."""
    silent = {id(caller): caller, id(callee): callee}
    for sequence in range(1000):
        for sender, relay in ((caller, toward_caller), (callee, toward_callee)):
            assert sender.transport is not None
            sender.transport.sendto(_rtp(sequence), relay)
        await asyncio.sleep(0.02)  # one packet's time
        for one in list(silent.values()):
            while not one.received.empty():
                data, _ = one.received.get_nowait()
                if data[:2] == b"\x80\x00":
                    silent.pop(id(one), None)
        if not silent:
            return


def _rtp(sequence: int) -> bytes:
    """20 ms of silence in PCMU (RFC 3550 5.1, RFC 3551 4.5.14)."""
    return b"\x80\x00" + sequence.to_bytes(2, "big") + (160 * sequence).to_bytes(4, "big") + b"prob" + b"\xff" * 160


async def _forget(socket: _Socket, target: Address, call: dict[str, str]) -> None:
    try:
        async with asyncio.timeout(RESEND * 3):
            await _command(socket, target, "delete", {**call, "delete-delay": 0})
    except (TimeoutError, OSError, SipcoreError):
        pass
