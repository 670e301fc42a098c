"""What the benchmarks share: pinned programs, CPU from schedstat, interleaved rounds, one table and one JSON line.

A benchmark compares programs within one run on one machine. Absolute figures do not travel; the ratio does. So the
programs take turns on the same core under the same load, and the figure is the median of the ratios of the rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM_CORE = 0
LOAD_CORE = 1


class BenchError(Exception):
    """The run is worth nothing: a program did not start, a call failed, a core is missing."""


def process_tree(pid: int) -> list[int]:
    """The process and all its living descendants. Empty when it is gone."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{current}/task").iterdir())
        except OSError:
            continue
        found.append(current)
        for task in tasks:
            with contextlib.suppress(OSError):
                waiting.extend(int(child) for child in (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """User + system seconds that the process tree has run so far.

    From `/proc/PID/task/*/schedstat`, in nanoseconds and charged at each switch; `/proc/PID/stat` counts ticks of
    10 ms and charges a tick to whoever runs at that instant.
    """
    total = 0
    for process in process_tree(pid):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int) -> float:
    """Proportional set size of the process tree in MB (10^6 bytes)."""
    total = 0
    for process in process_tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def pin_self(core: int) -> None:
    """Keep this process on one core."""
    if core not in os.sched_getaffinity(0):
        raise BenchError(f"core {core} is not available to this process; it may use {sorted(os.sched_getaffinity(0))}")
    os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def program(
    argv: Sequence[str], *, core: int = PROGRAM_CORE, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program pinned to a core, output to `log`; at the end of the block end it and whatever it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    try:
        yield process
    finally:
        # A session of its own makes a process group of its own: what it forked goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str, log: Path, limit: float = 15.0
) -> None:
    """Poll until `ready()`; `BenchError` with the end of the log when the program dies or `limit` seconds pass."""
    end = time.monotonic() + limit
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise BenchError(f"{what} did not start; the end of its log:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def free_port(address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def rounds(subjects: Mapping[str, Callable[[], float]], count: int) -> Iterator[dict[str, float]]:
    """Measure every subject once a round, `count` rounds; the order turns, so that a drift of the machine hits all."""
    names = list(subjects)
    for number in range(count):
        turn = number % len(names)
        yield {name: subjects[name]() for name in names[turn:] + names[:turn]}


@dataclass(frozen=True)
class Bar:
    """A limit for one ratio: `subject` over `peer`, at most `limit`; lower is better."""

    name: str
    subject: str
    peer: str
    limit: float


def verdict(
    measured: Sequence[Mapping[str, float]], bars: Sequence[Bar], unit: str, extra: Mapping[str, object]
) -> int:
    """Print the table of rounds and the JSON line; the exit status, 1 when a ratio is above its bar."""
    names = list(dict.fromkeys(name for bar in bars for name in (bar.peer, bar.subject)))
    width = max(12, *(len(text) + 2 for text in [*names, *(bar.name for bar in bars)]))
    print(f"\n{unit}, one line a round")
    print("round " + "".join(f"{text:>{width}}" for text in [*names, *(bar.name for bar in bars)]))
    ratios: dict[str, list[float]] = {bar.name: [row[bar.subject] / row[bar.peer] for row in measured] for bar in bars}
    for number, row in enumerate(measured):
        cells = [f"{row[name]:>{width}.2f}" for name in names]
        cells += [f"{ratios[bar.name][number]:>{width}.3f}" for bar in bars]
        print(f"{number + 1:>5} " + "".join(cells))
    medians = {name: statistics.median(row[name] for row in measured) for name in names}
    result = {bar.name: round(statistics.median(ratios[bar.name]), 3) for bar in bars}
    cells = [f"{medians[name]:>{width}.2f}" for name in names] + [f"{result[bar.name]:>{width}.3f}" for bar in bars]
    print("median" + "".join(cells)[1:])
    above = [bar for bar in bars if result[bar.name] > bar.limit]
    for bar in bars:
        spread = f"{min(ratios[bar.name]):.3f} to {max(ratios[bar.name]):.3f}"
        state = "ABOVE" if bar in above else "within"
        print(f"{bar.name}: {result[bar.name]} ({spread}), {state} the bar of {bar.limit}; lower is better")
    sys.stdout.flush()
    print(
        json.dumps(
            {**result, "unit": unit, "rounds": len(measured), **{n: round(m, 3) for n, m in medians.items()}, **extra}
        )
    )
    return 1 if above else 0
