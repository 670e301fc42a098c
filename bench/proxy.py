"""`make bench-proxy`: CPU per call of our proxy, alone and with its store, beside Debian's Kamailio with its dialogs.

The program under test has core 0 to itself, the load (`proxy_load.py`) and redis-server share core 1. Ours runs as the
README starts it: plain Python, token, transactions and counting on; no media pool: both proxies pass the SDP on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from common import LOAD_CORE, Bar, BenchError, cpu_seconds, free_port, pin_self, program, rounds, verdict, wait_until
from proxy_load import Address, Load, Window

BARS = [Bar("ratio", "sipproxy", "kamailio", 1.8), Bar("ratio_store", "sipproxy+store", "kamailio", 2.2)]
HOST = "127.0.0.1"
DOMAIN = "bench.example"
HERE = Path(__file__).resolve().parent

# Kamailio's memory is taken in one piece and touched before the load starts (shm_force_alloc): page faults of a
# first minute are not what a proxy costs. 35 kB a call until its transactions and dialogs are freed make this much.
KAMAILIO_MB = 2048


def answers(address: Address) -> bool:
    """Whether an OPTIONS gets any answer from there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(address)
            host, port = probe.getsockname()
            probe.send(
                f"OPTIONS sip:{address[0]}:{address[1]} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKprobe{port};rport\r\nMax-Forwards: 70\r\n"
                f"From: <sip:probe@{host}>;tag=probe\r\nTo: <sip:{address[0]}>\r\nCall-ID: probe-{port}@{host}\r\n"
                "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode()
            )
            return probe.recv(4096).startswith(b"SIP/2.0 ")
        except OSError:
            return False


@contextlib.contextmanager
def kamailio(work: Path, proxy: Address, callee: Address) -> Iterator[subprocess.Popen[bytes]]:
    """Kamailio on `proxy` that sends every call to `callee`."""
    log = work / "kamailio.log"
    argv = ["kamailio", "-DD", "-E", "-x", "fm", "-X", "fm", "-m", str(KAMAILIO_MB), "-w", str(work), "-Y", str(work)]
    argv += ["-l", f"udp:{proxy[0]}:{proxy[1]}", "-A", f'TARGET="sip:{callee[0]}:{callee[1]}"']
    with program([*argv, "-f", str(HERE / "kamailio.cfg")], log=log) as process:
        wait_until(lambda: answers(proxy), process, "kamailio", log, limit=60)
        yield process


@contextlib.contextmanager
def sipproxy(work: Path, proxy: Address, callee: Address, store: str) -> Iterator[subprocess.Popen[bytes]]:
    """Our proxy on `proxy` with one static route to `callee`."""
    config, log = work / "sipproxy.json", work / "sipproxy.log"
    text = {
        "listeners": [{"address": proxy[0], "port": proxy[1]}],
        "domains": [DOMAIN],
        "routes": [{"name": "callee", "domain": DOMAIN, "targets": [f"sip:{callee[0]}:{callee[1]}"]}],
        "store": store,
    }
    config.write_text(json.dumps(text))
    with program([sys.executable, "-m", "sipproxy", "--config", str(config)], log=log) as process:
        wait_until(lambda: answers(proxy), process, "sipproxy", log)
        yield process


@contextlib.contextmanager
def redis_server(work: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A redis-server without persistence on the load's core, at a unix socket as `sipfleet up` has it, and its URL."""
    path, log = work / "redis.sock", work / "redis.log"
    argv = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    with program([*argv, "--dir", str(work)], core=LOAD_CORE, log=log) as process:
        with redis.Redis(unix_socket_path=str(path)) as client:

            def pong() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            wait_until(pong, process, "redis-server", log)
        yield process, f"unix://{path}"


class Benchmark:
    """Measures one program at a time; what was seen beside CPU per call stays in `notes`."""

    def __init__(self, work: Path, warm_up: float, seconds: float, in_flight: int) -> None:
        self.work, self.warm_up, self.seconds, self.in_flight = work, warm_up, seconds, in_flight
        self.notes: dict[str, list[float]] = {}

    def _load(self, pid: int, proxy: Address, callee: Address) -> tuple[Load, Window]:
        load = Load(proxy, callee, DOMAIN, self.in_flight)
        try:
            window = load.run(self.warm_up, self.seconds, lambda: cpu_seconds(pid))
        finally:
            load.close()
        if load.failures:
            listed = "; ".join(f"{count} x {what}" for what, count in load.failures.most_common())
            raise BenchError(f"{load.failures.total()} calls failed of {load.completed}, so this run is void: {listed}")
        return load, window

    def _note(self, name: str, window: Window, load: Load) -> float:
        self.notes.setdefault(f"{name}: calls/s", []).append(window.calls / window.seconds)
        self.notes.setdefault(f"{name}: share of the core", []).append(window.cpu / window.seconds)
        self.notes.setdefault(f"{name}: retransmissions seen", []).append(load.retransmitted)
        print(f"  {name:<16}{window.us_per_call:8.1f} us/call {window.calls / window.seconds:8.0f} calls/s", flush=True)
        return window.us_per_call

    def kamailio(self) -> float:
        """CPU us per call of Kamailio."""
        proxy, callee = (HOST, free_port()), (HOST, free_port())
        with kamailio(self.work, proxy, callee) as process:
            load, window = self._load(process.pid, proxy, callee)
        return self._note("kamailio", window, load)

    def sipproxy(self) -> float:
        """CPU us per call of our proxy without a store."""
        proxy, callee = (HOST, free_port()), (HOST, free_port())
        with sipproxy(self.work, proxy, callee, "none") as process:
            load, window = self._load(process.pid, proxy, callee)
        return self._note("sipproxy", window, load)

    def sipproxy_store(self) -> float:
        """CPU us per call of our proxy with a store; redis-server's own is noted apart."""
        proxy, callee = (HOST, free_port()), (HOST, free_port())
        with redis_server(self.work) as (store, url), sipproxy(self.work, proxy, callee, url) as process:
            before = cpu_seconds(store.pid)
            load, window = self._load(process.pid, proxy, callee)
            used = cpu_seconds(store.pid) - before
            self._check_store(url, load.completed)
        self.notes.setdefault("redis-server: CPU us per call", []).append(used / load.completed * 1e6)
        return self._note("sipproxy+store", window, load)

    def _check_store(self, url: str, calls: int) -> None:
        """A store that is not written would make a fine figure: each call must have left its CDR."""
        with redis.Redis.from_url(url) as client:
            streams = list(client.scan_iter(match="*:cdr", _type="stream"))
            written = sum(client.xlen(key) for key in streams)
        if written < calls:
            raise BenchError(f"the store holds {written} CDRs after {calls} calls, so this run is void")


def main() -> int:
    """Run the rounds and print; the exit status is 1 above a bar, 2 when the run is void."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.5, help="measured time of each turn")
    parser.add_argument("--warm-up", type=float, default=1.5)
    parser.add_argument("--in-flight", type=int, default=20)
    parser.add_argument("--only", action="append", choices=["kamailio", "sipproxy", "sipproxy+store"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-proxy-") as work:
        bench = Benchmark(Path(work), options.warm_up, options.seconds, options.in_flight)
        subjects: dict[str, Callable[[], float]] = {
            "kamailio": bench.kamailio,
            "sipproxy": bench.sipproxy,
            "sipproxy+store": bench.sipproxy_store,
        }
        chosen = {name: run for name, run in subjects.items() if not options.only or name in options.only}
        measured = []
        try:
            pin_self(LOAD_CORE)
            for row in rounds(chosen, options.rounds):
                measured.append(row)
                print(f"round {len(measured)} of {options.rounds} done", flush=True)
        except BenchError as error:
            print(f"bench-proxy: {error}", file=sys.stderr)
            return 2
    print()
    notes = {name: round(statistics.median(values), 2) for name, values in bench.notes.items()}
    for name, value in notes.items():
        print(f"{name:<42}{value:>12}")
    bars = [bar for bar in BARS if {bar.subject, bar.peer} <= set(chosen)]
    return verdict(measured, bars, "CPU us per call", {"notes": notes}) if bars else 0


if __name__ == "__main__":
    sys.exit(main())
