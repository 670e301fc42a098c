"""How the command line talks to the supervisors that run on this machine: HTTP over their unix sockets.

Only the standard library, so that a command starts quickly.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sipfleet.local.errors import NotRunningError, RefusedError
from sipfleet.local.state import StateDirectory, clusters, root

TIMEOUT = 30.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        directory = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


class Client:
    """Requests to the supervisor of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.state = StateDirectory(cluster)

    def request(self, method: str, path: str, body: object = None, timeout: float = TIMEOUT) -> Any:
        """The decoded answer.

        Raises `NotRunningError` when nobody answers, `RefusedError` with the supervisor's reasons.
        """
        connection = _UnixConnection(self.state.api_socket, timeout)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, quote(path, safe="/?&=%"), data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotRunningError(
                f"cluster {self.cluster} does not run here ({error or type(error).__name__}).\n"
                f"To start it: sipfleet up -f FILE"
            ) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise RefusedError(answer.get("errors", [str(answer)]))
        return answer

    def get(self, path: str) -> Any:
        return self.request("GET", path)


def answers(cluster: str) -> bool:
    """Whether a supervisor listens on the socket of this cluster."""
    try:
        connection = _UnixConnection(StateDirectory(cluster).api_socket, 2.0)
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def running() -> list[str]:
    """Names of the clusters that run on this machine, as far as their state directories are ours."""
    return [name for name in clusters() if answers(name)]


def connect(cluster: str | None = None) -> Client:
    """The cluster of that name, or the only one that runs.

    Raises `NotRunningError`, which says what to do.
    """
    if cluster is not None:
        return Client(cluster)
    names = running()
    if len(names) == 1:
        return Client(names[0])
    if names:
        raise NotRunningError(f"several clusters run: {', '.join(names)}. Say which: --cluster {names[0]}")
    raise NotRunningError(f"no cluster runs here (looked in {root()}).\nTo start one: sipfleet up -f FILE")
