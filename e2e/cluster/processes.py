"""The cluster's processes: started in their namespaces, known by pid and start time, ended by pid.

A file per process under `layout.PROCESSES` says what was started and as which pid, so that any later command can find
it, and one that is gone is never mistaken for another that got its pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster import layout

ENTER = Path(__file__).with_name("enter.py")

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SIPFLEET_E2E_INSTANCE": str(layout.INSTANCE),
}
"""All that a program of the cluster gets: a proxy that the caller's environment names is none of its business."""


class ProcessError(Exception):
    """A process did not start, ended by itself, or did not end when told to."""


@dataclass(frozen=True)
class Launch:
    """What to start, and where."""

    name: str
    """Such as `node1.kubelet`; its record and its log are called by it."""
    argv: Sequence[str]
    place: str
    """Whose network namespace it gets: cloud, control or a node."""
    within: str | None = None
    """The name of the process whose mount, pid and uts namespaces it enters."""
    node: dict[str, Any] | None = None
    """What a new node's namespaces are furnished with (see enter.py), for the first process of one."""
    cgroup: str = f"/{layout.NAME}"
    environment: dict[str, str] = field(default_factory=dict)


def log_path(name: str) -> Path:
    """Where a process's output goes."""
    return layout.LOGS / f"{name}.log"


def _record_path(name: str) -> Path:
    return layout.PROCESSES / f"{name}.json"


def started_at(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None when there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def cgroup_hierarchies(*kinds: str) -> list[Path]:
    """Where the kernel's control group hierarchies are mounted: those of version 1, unless kinds are given."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(target) for _, target, kind, *_ in mounts if kind in (kinds or ("cgroup",))]


def start(launch: Launch) -> int:
    """Starts a process and returns its pid. Raises ProcessError."""
    target = None
    if launch.within is not None:
        target = pid_of(launch.within)
        if target is None:
            raise ProcessError(f"{launch.name} cannot start: {launch.within} is not running")
    specification = {
        "argv": list(launch.argv),
        "environment": ENVIRONMENT | launch.environment,
        "log": str(log_path(launch.name)),
        "cgroups": [f"{hierarchy}{launch.cgroup}" for hierarchy in cgroup_hierarchies()],
        "net": str(layout.namespace_path(launch.place)),
        "target": target,
        "node": launch.node,
    }
    argv = [sys.executable, "-S", "-E", str(ENTER), json.dumps(specification)]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise ProcessError(f"{launch.name} did not start: {done.stderr.strip()}")
    pid = int(done.stdout)
    record = {"pid": pid, "started": started_at(pid), "launch": asdict(launch)}
    path = _record_path(launch.name)
    path.with_suffix(".part").write_text(json.dumps(record, indent=1))
    path.with_suffix(".part").rename(path)
    return pid


def _record(name: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(_record_path(name).read_text())
    except FileNotFoundError:
        return None
    return record


def pid_of(name: str) -> int | None:
    """The pid of a process that runs, or None."""
    record = _record(name)
    if record is None or record["started"] is None or started_at(record["pid"]) != record["started"]:
        return None
    return int(record["pid"])


def names() -> list[str]:
    """Of all processes that were started and not forgotten, running or not."""
    return sorted(path.stem for path in layout.PROCESSES.glob("*.json"))


def again(name: str) -> int:
    """Starts a process as it was started the last time. Raises ProcessError."""
    record = _record(name)
    if record is None:
        raise ProcessError(f"{name} was never started")
    return start(Launch(**record["launch"]))


def send(name: str, number: signal.Signals) -> None:
    """Sends a signal to a process. Raises ProcessError when it does not run."""
    pid = pid_of(name)
    if pid is None:
        raise ProcessError(f"{name} is not running")
    os.kill(pid, number)


def _running(all_names: Iterable[str]) -> dict[str, int]:
    return {name: pid for name in all_names if (pid := pid_of(name)) is not None}


def _signal(left: Iterable[str], number: signal.Signals) -> None:
    for name in left:
        try:
            send(name, number)
            # One that is stopped would not see a SIGTERM.
            send(name, signal.SIGCONT)
        except (ProcessError, ProcessLookupError):
            pass


def _wait_gone(left: dict[str, int], patience: float) -> dict[str, int]:
    until = time.monotonic() + patience
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left = {name: pid for name, pid in left.items() if pid_of(name) == pid}
    return left


def end(all_names: Iterable[str], grace: float = 10.0) -> None:
    """Ends processes: SIGTERM, and SIGKILL to those that are still there after `grace` seconds. Raises ProcessError."""
    left = _running(all_names)
    _signal(left, signal.SIGTERM)
    kill(_wait_gone(left, grace))


def kill(all_names: Iterable[str]) -> None:
    """Ends processes with SIGKILL and waits until they are gone. Raises ProcessError."""
    left = _running(all_names)
    _signal(left, signal.SIGKILL)
    left = _wait_gone(left, 20.0)
    if left:
        raise ProcessError(f"did not end: {', '.join(left)}")


def tail(name: str, lines: int = 20) -> str:
    """The end of a process's log."""
    try:
        return "\n".join(log_path(name).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def expect_running(name: str) -> None:
    """Raises ProcessError with the end of its log when a process is not running."""
    if pid_of(name) is None:
        raise ProcessError(f"{name} ended; its log {log_path(name)} ends:\n{tail(name)}")


def inside(place: str) -> list[int]:
    """The pids of all processes in a network namespace, whoever started them."""
    try:
        wanted = os.stat(layout.namespace_path(place)).st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.stat(entry / "ns" / "net").st_ino == wanted:
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def in_cgroup(cgroup: str) -> list[int]:
    """The pids of all processes in a control group and those below it."""
    found: set[int] = set()
    for hierarchy in cgroup_hierarchies():
        # Groups go while they are looked at, which Path.rglob does not bear.
        for folder, _, _ in os.walk(f"{hierarchy}{cgroup}"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
    return sorted(found)
