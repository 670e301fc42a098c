"""The audio sockets of one side of one call: RTP on an even port, RTCP on the next (RFC 3550 11)."""

from __future__ import annotations

import random
import socket
import time

from . import rtcp
from .audio import PAYLOAD, PERIOD, Meter, packet, patch
from .errors import EngineError
from .message import Address
from .sdp import Remote

_TRIES = 64
_REPORT_EVERY = round(rtcp.INTERVAL / PERIOD)


def bind_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Two non-blocking UDP sockets on an even port and the next one.

    Raises `EngineError` when no free pair is found, `OSError` when the address cannot be bound.
    """
    for _ in range(_TRIES):
        first = udp((host, 0))
        port = first.getsockname()[1]
        try:
            second = udp((host, port ^ 1))
        except OSError:
            first.close()
            continue
        return (first, second) if port % 2 == 0 else (second, first)
    raise EngineError(f"no free pair of UDP ports on {host} after {_TRIES} tries")


def udp(address: Address) -> socket.socket:
    """A bound, non-blocking UDP socket."""
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


class MediaEnd:
    """Sends one direction of a call and measures the other."""

    def __init__(self, host: str, sends: bytes, hears: bytes, cname: str, rng: random.Random) -> None:
        self.rtp, self.rtcp = bind_pair(host)
        self.address: Address = self.rtp.getsockname()[:2]
        self.meter = Meter(hears)
        self.target: Address | None = None
        """Where audio goes; None: nothing is sent."""
        self.sent = 0
        self.refused = 0
        """Sends that the kernel refused (an ICMP error came back, or its buffers were full)."""
        self.reports = 0
        """RTCP packets of the other side."""
        self.foreign_reports = 0
        self._rtcp_target: Address | None = None
        self._ssrc = rng.getrandbits(32)
        self._packet = packet(sends)
        self._sendto = self.rtp.sendto
        self._recv_into = self.rtp.recv_into
        self._call, self._cname = cname.rpartition("-")[0], cname

    def talk(self, remote: Remote) -> None:
        """Send to that address from now on."""
        self.target, self._rtcp_target = remote.rtp, remote.rtcp

    def hush(self) -> None:
        """Send no more."""
        self.target = None

    def send(self) -> None:
        """Send the next packet."""
        target = self.target
        if target is None:
            return
        patch(self._packet, self.sent, self._ssrc)
        self.sent += 1
        try:
            self._sendto(self._packet, target)
        except OSError:
            self.refused += 1
        if self.sent % _REPORT_EVERY == _REPORT_EVERY // 2:
            self._send_report()

    def hear(self, buffer: bytearray, now: float) -> None:
        """Read one RTP datagram into the shared buffer."""
        try:
            size = self._recv_into(buffer)
        except OSError:
            return
        self.meter.arrive(buffer, size, now)

    def _send_report(self) -> None:
        if self._rtcp_target is None:
            return
        try:
            self.rtcp.sendto(rtcp.report(self._ssrc, self._cname, time.time(), self.sent, PAYLOAD), self._rtcp_target)
        except OSError:
            self.refused += 1

    def hear_report(self, buffer: bytearray) -> None:
        """Read one RTCP datagram."""
        try:
            size = self.rtcp.recv_into(buffer)
        except OSError:
            return
        cname = rtcp.cname_of(bytes(buffer[:size]))
        if cname is None:
            return
        if cname.rpartition("-")[0] == self._call and cname != self._cname:
            self.reports += 1
        else:
            self.foreign_reports += 1

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()
