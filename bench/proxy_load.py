"""The closed-loop load of the proxy benchmark: a caller and a callee in one process, a fixed number of calls in flight.

Each call is INVITE (947 bytes, with SDP), 100, 180, 200, ACK, BYE, 200 with a Record-Route that has to hold. Both ends
use connected sockets, so an answer from any other address than the proxy's is never seen and fails the call. Nothing
is retransmitted and nothing is forgiven: a call that misses a message, meets a wrong one or lasts more than
`CALL_LIMIT` seconds is a failed call.
"""

from __future__ import annotations

import collections
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

INVITE_BYTES = 947
CALL_LIMIT = 5.0
Address = tuple[str, int]

_BRANCH = b"branch=z9hG4bKsfb."
_ID_BYTES = 8


@dataclass
class Call:
    """What has been seen of one call so far."""

    started: float
    trying: bool = False
    ringing: bool = False
    acked: bool = False
    ended: bool = False


@dataclass
class Window:
    """One measured stretch of a load: calls completed, seconds of wall clock, seconds of CPU of the program."""

    calls: int
    seconds: float
    cpu: float

    @property
    def us_per_call(self) -> float:
        """CPU microseconds per call."""
        return self.cpu / self.calls * 1e6


@dataclass
class Load:
    """A caller and a callee that keep `in_flight` calls up through the proxy at `proxy`.

    The caller sends to the address of `host`, which is what the INVITE's URI names too; the callee listens on `callee`.
    """

    proxy: Address
    callee: Address
    host: str
    in_flight: int = 20
    completed: int = 0
    retransmitted: int = 0
    failures: collections.Counter[str] = field(default_factory=collections.Counter)

    def __post_init__(self) -> None:
        self._uac = self._socket((self.callee[0], 0))
        self._uas = self._socket(self.callee)
        host, port = self._uac.getsockname()
        self._local = f"{host}:{port}".encode()
        self._contact = b"sip:callee@%s:%d" % (self.callee[0].encode(), self.callee[1])
        self._to = b"To: <sip:callee@%s>" % self.host.encode()
        self._calls: dict[bytes, Call] = {}
        self._number = 0
        self._starting = True
        self._invite = self._invite_template()

    def _socket(self, address: Address) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(address)
        sock.connect(self.proxy)
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        """Close both sockets."""
        self._uac.close()
        self._uas.close()

    def _invite_template(self) -> bytes:
        caller = self._local.decode().partition(":")[0]
        sdp = (
            f"v=0\r\no=- 20518 0 IN IP4 {caller}\r\ns=call\r\nc=IN IP4 {caller}\r\nt=0 0\r\n"
            "m=audio 30000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
            "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
        )
        self._sdp = sdp.encode()

        def invite(user_agent: str) -> str:
            return (
                f"INVITE sip:callee@{self.host} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {self._local.decode()};{_BRANCH.decode()}@@ID@@@@i;rport\r\n"
                "Max-Forwards: 70\r\n"
                f'From: "Caller" <sip:caller@{self.host}>;tag=@@ID@@@@\r\n'
                f"{self._to.decode()}\r\n"
                f"Call-ID: @@ID@@@@-proxy-benchmark@{caller}\r\n"
                "CSeq: 1 INVITE\r\n"
                f"Contact: <sip:caller@{self._local.decode()}>\r\n"
                "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO, UPDATE, PRACK\r\n"
                "Supported: replaces, timer\r\n"
                f"User-Agent: {user_agent}\r\n"
                "Content-Type: application/sdp\r\n"
                f"Content-Length: {len(sdp)}\r\n\r\n{sdp}"
            )

        text = invite("x" * (INVITE_BYTES - len(invite(""))))
        if len(text) != INVITE_BYTES:
            raise ValueError(f"the INVITE has {len(text)} bytes, expected {INVITE_BYTES}: shorten its fixed part")
        return text.encode()

    def _start_call(self, now: float) -> None:
        self._number += 1
        key = b"%08d" % self._number
        self._calls[key] = Call(now)
        self._uac.send(self._invite.replace(b"@@ID@@@@", key))

    def _finish(self, key: bytes, now: float, failure: str | None) -> None:
        del self._calls[key]
        if failure is None:
            self.completed += 1
        else:
            self.failures[failure] += 1
        if self._starting:
            self._start_call(now)

    def _on_response(self, data: bytes, now: float) -> None:
        start = data.find(_BRANCH) + len(_BRANCH)
        key, kind = data[start : start + _ID_BYTES], data[start + _ID_BYTES : start + _ID_BYTES + 1]
        call = self._calls.get(key)
        if call is None:
            self.retransmitted += 1
            return
        status = data[8:11]
        if status == b"200":
            if kind == b"i":
                if call.ended:
                    self.retransmitted += 1
                    return
                call.ended = True
                self._answered(key, data, now)
            elif call.trying and call.ringing and call.acked:
                self._finish(key, now, None)
            else:
                missing = [name for name in ("trying", "ringing", "acked") if not getattr(call, name)]
                self._finish(key, now, "call ended without: " + ", ".join(missing))
        elif status == b"100":
            call.trying = True
        elif status == b"180":
            call.ringing = True
        else:
            self._finish(key, now, data.partition(b"\r\n")[0].decode("latin-1"))

    def _answered(self, key: bytes, data: bytes, now: float) -> None:
        start = data.find(b"\r\nRecord-Route: ")
        if start < 0:
            self._finish(key, now, "200 without Record-Route")
            return
        route = data[start + 16 : data.index(b"\r\n", start + 16)]
        common = (
            b"SIP/2.0\r\nVia: SIP/2.0/UDP %s;%s%s%%c;rport\r\nMax-Forwards: 70\r\nRoute: %s\r\n"
            b'From: "Caller" <sip:caller@%s>;tag=%s\r\n%s;tag=%s\r\nCall-ID: %s-proxy-benchmark@%s\r\n'
        ) % (
            self._local,
            _BRANCH,
            key,
            route.replace(b"%", b"%%"),
            self.host.encode(),
            key,
            self._to,
            key,
            key,
            self._local.partition(b":")[0],
        )
        self._uac.send(b"ACK %s " % self._contact + common % b"a" + b"CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n")
        self._uac.send(b"BYE %s " % self._contact + common % b"b" + b"CSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n")

    def _on_request(self, data: bytes, now: float) -> None:
        start = data.find(b"\r\nCall-ID: ") + 11
        key = data[start : start + _ID_BYTES]
        call = self._calls.get(key)
        method = data[:4]
        if call is None:
            self.retransmitted += 1
            return
        if method == b"ACK ":
            if call.acked:
                self.retransmitted += 1
            elif b"\r\nRoute:" in data:
                self._finish(key, now, "ACK arrived with the proxy's Route")
            else:
                call.acked = True
            return
        lines = data[: data.index(b"\r\n\r\n")].split(b"\r\n")
        copied = [
            line for line in lines if line.startswith((b"Via:", b"Record-Route:", b"From:", b"Call-ID:", b"CSeq:"))
        ]
        echo = b"\r\n".join(copied) + b"\r\n" + self._to + b";tag=" + key + b"\r\n"
        if method == b"INVI":
            self._uas.send(
                b"SIP/2.0 180 Ringing\r\n%sContact: <%s>\r\nContent-Length: 0\r\n\r\n" % (echo, self._contact)
            )
            self._uas.send(
                b"SIP/2.0 200 OK\r\n%sContact: <%s>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s"
                % (echo, self._contact, len(self._sdp), self._sdp)
            )
        elif method == b"BYE ":
            self._uas.send(b"SIP/2.0 200 OK\r\n%sContent-Length: 0\r\n\r\n" % echo)
        else:
            self._finish(key, now, "unexpected request: " + data.partition(b"\r\n")[0].decode("latin-1"))

    def _turn(self, poll: select.poll) -> float:
        """Read both sockets until they are empty; wait at most 100 ms when nothing had come. Returns the time."""
        now = time.monotonic()
        read = 0
        for sock, handle in ((self._uac, self._on_response), (self._uas, self._on_request)):
            try:
                while True:
                    handle(sock.recv(65535), now)
                    read += 1
            except BlockingIOError:
                pass
            except ConnectionRefusedError:
                self.failures["connection refused: the proxy is gone"] += 1
        if not read:
            poll.poll(100)
        return now

    def _expire(self, now: float) -> None:
        for key in [key for key, call in self._calls.items() if now - call.started > CALL_LIMIT]:
            call = self._calls[key]
            self._finish(key, now, f"no end after {CALL_LIMIT:.0f} s ({call})".replace(f"started={call.started}, ", ""))

    def run(self, warm_up: float, seconds: float, cpu: Callable[[], float]) -> Window:
        """Keep the calls up for `warm_up` + `seconds`, then let the last ones end. `cpu()` is read at both ends of the
        measured stretch. What failed stands in `failures`."""
        poll = select.poll()
        poll.register(self._uac, select.POLLIN)
        poll.register(self._uas, select.POLLIN)
        now = time.monotonic()
        for _ in range(self.in_flight):
            self._start_call(now)

        def until(end: float) -> float:
            next_check = time.monotonic() + 1
            while (now := self._turn(poll)) < end and (self._calls or self._starting):
                if now > next_check:
                    next_check = now + 1
                    self._expire(now)
            return now

        begin = until(now + warm_up)
        first, cpu_before = self.completed, cpu()
        end = until(begin + seconds)
        window = Window(self.completed - first, end - begin, cpu() - cpu_before)
        self._starting = False
        self._expire(until(end + CALL_LIMIT) + CALL_LIMIT)
        return window
