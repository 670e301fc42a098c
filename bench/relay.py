"""CPU per RTP packet: `rtprelay` beside Debian's rtpengine in userspace, same core, same closed-loop load.

Each call has one packet in flight that goes from caller to callee and back for ever, so every relay gets as much as it
can take; the figure is CPU of the relay per packet relayed. A table, one JSON line, exit status 1 above the bar.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import select
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import Struct

from common import LOAD_CORE, Bar, BenchError, cpu_seconds, free_port, pin_self, program, rounds, verdict, wait_until
from sipcore import ng

ADDRESS = "127.0.0.1"
PAYLOAD = bytes(160)
HEADER = Struct("!BBHII")
PACKET_BYTES = HEADER.size + len(PAYLOAD)
BAR = 0.9
RTPENGINE = "rtpengine"
MAX_LOST = 0.05
"""Of the packets in flight, in all rounds together."""


class Control:
    """The ng protocol, asking as a proxy does."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(2.0)
        self._sock.connect(address)
        self._count = 0

    def ask(self, command: str, **fields: str | list[str]) -> ng.Reply:
        self._count += 1
        cookie = b"%d_%d" % (os.getpid(), self._count)
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        self._sock.send(ng.request(cookie, command, named))
        while True:
            reply = ng.parse_reply(self._sock.recv(65_535))
            if reply.cookie == cookie:
                return reply

    def pings(self) -> bool:
        try:
            return self.ask("ping").result == "pong"
        except OSError:
            return False

    def close(self) -> None:
        self._sock.close()


class End:
    """One side of one call: a socket connected to the relay, and the packet that it sends next."""

    def __init__(self, ssrc: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((ADDRESS, 0))
        self.sock.setblocking(False)
        self.packet = bytearray(HEADER.pack(0x80, 0, 0, 0, ssrc) + PAYLOAD)
        self.next = itertools.count(1)
        self.ssrc = ssrc

    def sdp(self) -> str:
        port = self.sock.getsockname()[1]
        head = f"v=0\r\no=- {port} 1 IN IP4 {ADDRESS}\r\ns=-\r\nc=IN IP4 {ADDRESS}\r\nt=0 0\r\n"
        return head + f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"

    def send(self) -> None:
        number = next(self.next)
        HEADER.pack_into(self.packet, 0, 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, self.ssrc)
        with contextlib.suppress(OSError):
            self.sock.send(self.packet)


class Load:
    """Calls through one relay."""

    def __init__(self, control: Control, calls: int, name: str) -> None:
        self._ends: dict[int, End] = {}
        self._epoll = select.epoll()
        self.calls = calls
        self.lost = 0
        for number in range(calls):
            caller, callee = End(2 * number + 1), End(2 * number + 2)
            flags = {"call_id": f"{name}-{number}-{os.getpid()}", "from_tag": f"a{number}"}
            replace = ["origin", "session-connection"]
            offer = control.ask("offer", sdp=caller.sdp(), replace=replace, **flags)
            answer = control.ask("answer", sdp=callee.sdp(), to_tag=f"b{number}", replace=replace, **flags)
            for end, reply in ((callee, offer), (caller, answer)):
                match = re.search(rb"m=audio (\d+)", reply.sdp)
                if reply.result != "ok" or match is None:
                    raise BenchError(f"{name}: call {number} was not set up: {reply.result} {reply.reason}")
                end.sock.connect((ADDRESS, int(match[1])))
                self._ends[end.sock.fileno()] = end
                self._epoll.register(end.sock.fileno(), select.EPOLLIN)
            # Both speak once, so that both sources are known before packets go to and fro.
            callee.send()
            caller.send()
        time.sleep(0.2)
        self._drain()

    def _drain(self) -> None:
        for end in self._ends.values():
            with contextlib.suppress(OSError):
                while True:
                    end.sock.recv(2048)

    def run(self, seconds: float) -> int:
        """Packets that came through in `seconds`."""
        self._drain()
        for end in list(self._ends.values())[::2]:
            end.send()
        # The load must be cheaper than what it measures, or the relay is never saturated.
        table = {fd: (e.sock.recv_into, e.sock.send, e.packet, e.next, e.ssrc) for fd, e in self._ends.items()}
        poll, buffer, pack_into, monotonic = self._epoll.poll, bytearray(2048), HEADER.pack_into, time.monotonic
        received = 0
        stop = monotonic() + seconds
        while (now := monotonic()) < stop:
            events = poll(0.1)
            if not events and now < stop - 0.2:
                raise BenchError("the relay has stopped relaying")
            for fd, _ in events:
                receive, send, packet, sequence, ssrc = table[fd]
                try:
                    receive(buffer)
                    number = next(sequence)
                    pack_into(packet, 0, 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, ssrc)
                    send(packet)
                    received += 1
                except OSError:
                    continue
        time.sleep(0.05)
        in_flight = len(poll(0))
        self.lost += max(0, len(table) // 2 - in_flight)
        return received


def measure(load: Load, pid: int, seconds: float, counts: dict[str, int], name: str) -> float:
    """CPU of the relay per packet, in microseconds."""
    load.run(0.3)
    before = cpu_seconds(pid)
    packets = load.run(seconds)
    used = cpu_seconds(pid) - before
    if load.lost > MAX_LOST * load.calls:
        raise BenchError(f"{name}: {load.lost} packets were lost; a relay that drops has less to do")
    counts[name] = counts.get(name, 0) + packets
    return used / packets * 1e6


def rtpengine_config(folder: Path, port: int) -> list[str]:
    """Userspace only, one worker for the one core, nothing from /etc."""
    file = folder / "rtpengine.conf"
    file.write_text(
        f"[rtpengine]\ntable=-1\ninterface={ADDRESS}\nlisten-ng={ADDRESS}:{port}\nforeground=true\nlog-stderr=true\n"
        "log-level=3\nnum-threads=1\nport-min=20000\nport-max=24999\n"
    )
    return [RTPENGINE, f"--config-file={file}", f"--pidfile={folder / 'rtpengine.pid'}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="load in each measurement (2)")
    parser.add_argument("--calls", type=int, default=200, help="calls, two sockets each (200)")
    parser.add_argument("--ports", default="25000-29999", help="as rtprelay's --ports")
    options = parser.parse_args()
    if shutil.which(RTPENGINE) is None:
        print("bench: rtpengine is not installed (Debian: rtpengine-daemon)", file=sys.stderr)
        return 2
    pin_self(LOAD_CORE)
    try:
        return compare(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def compare(options: argparse.Namespace) -> int:
    counts: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peer_port, our_port = free_port(), free_port()
        ours = [sys.executable, "-m", "rtprelay", "--ng", f"{ADDRESS}:{our_port}", "--interface", ADDRESS]
        programs = {
            "rtpengine": (rtpengine_config(folder, peer_port), peer_port),
            "rtprelay": ([*ours, "--ports", options.ports], our_port),
        }
        subjects: dict[str, Callable[[], float]] = {}
        loads: dict[str, Load] = {}
        for name, (argv, port) in programs.items():
            log = folder / f"{name}.log"
            process = stack.enter_context(program(argv, log=log))
            control = Control((ADDRESS, port))
            stack.callback(control.close)
            wait_until(control.pings, process, name, log)
            loads[name] = Load(control, options.calls, name)
            subjects[name] = partial(measure, loads[name], process.pid, options.seconds, counts, name)
        measured = list(rounds(subjects, options.pairs))
    lost = {name: load.lost for name, load in loads.items()}
    extra = {
        "packets": counts,
        "lost": lost,
        "calls": options.calls,
        "packet_bytes": PACKET_BYTES,
        "ports": options.ports,
    }
    return verdict(measured, [Bar("ratio_userspace", "rtprelay", "rtpengine", BAR)], "CPU us per packet", extra)


if __name__ == "__main__":
    sys.exit(main())
