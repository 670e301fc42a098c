"""The kernel is asked how long programs waited for a core."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from e2e.harness.waits import Wait, Waits, within

BUSY = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
end = time.time() + 20
while time.time() < end:
    pass
"""


def test_two_that_share_a_core_wait_for_half_of_the_time() -> None:
    started = [subprocess.Popen([sys.executable, "-c", BUSY, "rtprelay"]) for _ in range(2)]
    try:
        with Waits() as waits:
            deadline = time.monotonic() + 10
            while not {process.pid for process in started} <= {wait.pid for wait in waits.seen}:
                assert time.monotonic() < deadline, f"found {waits.found}, and both never wait"
                time.sleep(0.02)  # between two looks
            start = time.time()
            time.sleep(1.0)  # this is the second in which their waits are counted
            end = time.time()
    finally:
        for process in started:
            process.kill()
            process.wait()
    waited = within(waits.seen, start, end)
    assert 300 < waited["relay"] <= (end - start) * 1000, waited
    assert within(waits.seen, start - 60, start - 59)["relay"] == 0


def test_what_lies_outside_of_the_time_does_not_count_and_none_waits_longer_than_it() -> None:
    waits = [
        Wait("relay", 1, 0.0, 1.0, 0.5),
        Wait("relay", 2, 1.5, 2.5, 0.2),
        Wait("relay", 2, 2.5, 2.6, 0.1),
        Wait("relay", 1, 3.0, 4.0, 0.5),
        Wait("callers", 3, 1.0, 9.0, 7.0),
    ]
    assert within(waits, 2.0, 3.0) == pytest.approx({"relay": 300.0, "callers": 1000.0})
