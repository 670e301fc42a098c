"""The state directory of one cluster: paths, atomic files, and the lock that makes its supervisor the only one.

$XDG_STATE_HOME/sipfleet/<cluster>/
  lock  run.json           held and written by the supervisor that runs
  api.sock  store.sock     unix sockets
  specs/  status/          one JSON file for each manifest
  keys/cluster.key         0600
  pods/  logs/  releases/  configuration and log of each pod, installed versions
  addresses.json           slot -> address
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from sipfleet.local.errors import AlreadyRunningError, LocalError

SOCKET_PATH_BYTES = 107
"""The kernel's limit for the path of a unix socket (sun_path with its zero byte)."""


def root() -> Path:
    """`$XDG_STATE_HOME/sipfleet`, by default `~/.local/state/sipfleet`."""
    base = os.environ.get("XDG_STATE_HOME") or ""
    home = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return home / "sipfleet"


def clusters() -> list[str]:
    """Names of the clusters that have a state directory."""
    top = root()
    return sorted(p.name for p in top.iterdir() if (p / "lock").exists()) if top.is_dir() else []


class StateDirectory:
    """Paths and files of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.path = root() / cluster
        self._lock: int | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def api_socket(self) -> Path:
        return self.path / "api.sock"

    def make(self) -> None:
        """Create the directory tree, readable by its user only.

        Raises `LocalError` when the file system refuses.
        """
        try:
            for name in ("", "specs", "status", "keys", "pods", "logs", "releases"):
                (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LocalError(f"state directory {self.path}: {error.strerror}; set XDG_STATE_HOME") from None

    def lock(self) -> None:
        """Become the supervisor of this cluster until `unlock` or death.

        Raises `AlreadyRunningError`.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            pid = (self.read_json("run.json") or {}).get("pid", "?")
            raise AlreadyRunningError(
                f"cluster {self.cluster} is already running (process {pid}).\n"
                f"To change it: sipfleet apply -f FILE. To end it: press Ctrl-C where it runs, or kill {pid}."
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read_json(self, name: str) -> Any:
        """The content of a file; None when it is missing or torn."""
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, value: object) -> None:
        self.write_text(name, json.dumps(value, indent=1, sort_keys=True) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Replace a file in one step: a reader sees the old or the new one, never a part."""
        target = self.path / name
        part = target.with_name(f".{target.name}.{os.getpid()}")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
        os.replace(part, target)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.path / name).unlink()

    def cluster_key(self) -> Path:
        """The key file of the cluster: 64 hex digits, mode 0600, made once."""
        path = self.path / "keys" / "cluster.key"
        if not path.exists():
            self.write_text("keys/cluster.key", secrets.token_hex(32) + "\n")
        return path

    def record_run(self, pids: list[int], **more: object) -> None:
        """Write down which processes belong to this run, for the supervisor that comes after a killed one."""
        children = [{"pid": pid, "started": start} for pid in pids if (start := start_time(pid)) is not None]
        self.write_json("run.json", {"pid": os.getpid(), "children": children, **more})

    def bury_last_run(self, patience: float = 3.0) -> list[int]:
        """Wait until what a killed supervisor started is gone, killing what lingers; -> the pids that had to be killed.

        A pid counts only with the start time that was written down, so that a number used again harms nobody.
        """
        run = self.read_json("run.json") or {}
        wanted = [(c["pid"], c["started"]) for c in run.get("children", [])]
        killed: list[int] = []
        deadline = time.monotonic() + patience
        while left := [pid for pid, started in wanted if start_time(pid) == started]:
            if time.monotonic() > deadline:
                raise LocalError(f"processes {left} of an earlier run do not end; end them, then try again")
            for pid in left:
                if pid not in killed and time.monotonic() > deadline - patience / 2:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
                    killed.append(pid)
            time.sleep(0.02)
        return killed


def start_time(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot (proc(5)); None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
