"""What people see: the live table on a terminal, and logs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.local.up import SIPFLEET, Up, manifests


def test_on_a_terminal_a_table_lives_until_ctrl_c(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    up = Up(tmp_path, manifests(cluster_address(), proxies=1, relays=1))
    child, terminal = pty.fork()
    if child == 0:
        os.execve(SIPFLEET[0], [*SIPFLEET, "up", "-f", str(up.file)], {**os.environ, **up.env, "TERM": "xterm"})
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        shown = read_until(terminal, lambda text: text.count("Serving") >= 2 and "Published" in text)
        for word in ("sipcluster/t", "mediapool/t-media", "t-media-0", "Ctrl-C ends it", "store answers"):
            assert word in shown
        os.write(terminal, b"\x03")
        assert "t has ended, with everything that was started" in read_until(terminal, lambda t: "has ended" in t)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        os.close(terminal)


def read_until(terminal: int, enough: Callable[[str], bool], limit: float = 15.0) -> str:
    """What the terminal shows, until it is enough."""
    text, end = "", time.monotonic() + limit
    while not enough(text):
        assert time.monotonic() < end, text[-3000:]
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                text += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                assert enough(text), text[-3000:]
    return text


def test_logs_are_json_lines_that_can_be_narrowed(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0, relays=1)) as up:
        lines = [json.loads(line) for line in up.ok("logs", "t-media-0").splitlines()]
        assert all({"ts", "level", "pod", "event"} <= line.keys() for line in lines)
        probe = next(line["call_id"] for line in lines if "call_id" in line)
        mine = up.ok("logs", "t-media-0", "--call-id", probe).splitlines()
        assert mine
        assert all(probe in line for line in mine)
        assert len(up.ok("logs", "pod/t-media-0", "--tail", "1").splitlines()) == 1
        assert "to accept connections" in up.ok("logs", "store")
        absent = up.run("logs", "absent")
        assert (absent.returncode, absent.stderr) == (
            1,
            "error: cluster t has no log of 'absent'; there is: store, t-media-0\n",
        )
