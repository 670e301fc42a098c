"""Control groups (v1) of the cluster: one tree per node, in every hierarchy, so that no kubelet sees another's pods."""

from __future__ import annotations

import time
from pathlib import Path

from e2e.cluster.processes import cgroup_hierarchies


def make(name: str) -> None:
    """Makes a group in every hierarchy."""
    for hierarchy in cgroup_hierarchies():
        folder = Path(f"{hierarchy}{name}")
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # An empty set admits no process, and is what a new group has.
            if (folder / setting).exists():
                (folder / setting).write_text((folder.parent / setting).read_text())


def existing(name: str) -> list[str]:
    """Where a group is."""
    # Where version 2 is mounted beside version 1, runc makes groups there too.
    hierarchies = cgroup_hierarchies("cgroup", "cgroup2")
    return [path for hierarchy in hierarchies if Path(path := f"{hierarchy}{name}").exists()]


def remove(name: str) -> None:
    """Removes a group and those below it, whose processes have ended."""
    for path in existing(name):
        below = sorted((each for each in Path(path).rglob("*") if each.is_dir()), reverse=True)
        for folder in [*below, Path(path)]:
            _remove(folder)


def _remove(folder: Path) -> None:
    # The kernel lets go of a process's group a little after the process.
    for _ in range(100):
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
    folder.rmdir()


def memory_bytes(name: str) -> int:
    """Memory that a group's processes use: anonymous pages and the kernel's, without the file cache."""
    statistics = dict(
        line.split() for line in Path(f"/sys/fs/cgroup/memory{name}/memory.stat").read_text().splitlines()
    )
    return int(statistics["total_rss"])


def cpu_seconds(name: str) -> float:
    """Processor time that a group's processes have used."""
    return int(Path(f"/sys/fs/cgroup/cpuacct{name}/cpuacct.usage").read_text()) / 1e9
