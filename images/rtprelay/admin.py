"""The admin port's table (docs/decisions/0003): probes, status, metrics and the verbs."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from rtprelay.core.events import Configure
from rtprelay.metrics import exposition
from rtprelay.streams import Connection
from sipcore import __version__
from sipcore.admin import AdminConnection, Handler, Reply, json_body, text
from sipcore.errors import ConfigError

if TYPE_CHECKING:
    from rtprelay.server import Relay

IN_PLACE = frozenset(("capacity", "timeouts", "log_level"))
"""Fields of the configuration that change without a restart."""


def admin_table(relay: Relay) -> dict[tuple[str, str], Handler]:
    """(method, path) -> handler."""

    def verb(act: object) -> Handler:
        def handler() -> Reply:
            assert callable(act)
            act()
            return text(200, "ok")

        return handler

    return {
        ("GET", "/livez"): lambda: text(200, "ok"),
        ("GET", "/readyz"): lambda: text(200, "ok") if relay.core.ready else text(503, "sessions are being restored"),
        ("GET", "/metrics"): lambda: (200, "text/plain; version=0.0.4; charset=utf-8", exposition(relay)),
        ("GET", "/status"): lambda: json_body(200, msgspec.json.encode(status(relay))),
        ("POST", "/cordon"): verb(relay.cordon),
        ("POST", "/uncordon"): verb(relay.uncordon),
        ("POST", "/drain"): verb(relay.drain),
        ("POST", "/reload"): lambda: reload(relay),
    }


def status(relay: Relay) -> dict[str, object]:
    """What `GET /status` says."""
    core, pod = relay.core, relay.config.pod
    return {
        "kind": "relay",
        "pod": pod.name,
        "uid": pod.uid,
        "version": __version__,
        "revision": pod.revision,
        "index": relay.lease.lease.index if relay.lease else 0,
        "active": len(core.sessions),
        "capacity": core.config.capacity,
        "transactions": 0,
        "cordoned": core.cordoned,
        "draining": core.draining,
        "empty": core.empty,
        "ready": core.ready,
        "store": {"configured": relay.link is not None, "available": core.store_available},
        "ports": {"mode": "shared" if core.spec.shared else "range", "first": core.spec.first, "last": core.spec.last},
        "interfaces": relay.config.interfaces,
        "speak_first": relay.config.speak_first,
        "datapath": "userspace",
        "restored": core.counters.restored,
        "not_restored": core.counters.not_restored,
    }


def reload(relay: Relay) -> Reply:
    """Take in what may change in place; 409 with the fields that may not. The result is logged."""
    file = relay.file
    if file is None:
        return text(409, "no configuration file was given at start")
    file.replaced(file.next_at)
    try:
        new = file.load()
    except (ConfigError, OSError) as error:
        return _refused(relay, 400, str(error))
    old = relay.config
    fixed = [
        name for name in new.__struct_fields__ if name not in IN_PLACE and getattr(new, name) != getattr(old, name)
    ]
    if fixed:
        return _refused(relay, 409, f"cannot change in place: {', '.join(fixed)}")
    relay.config = new
    relay.log.level = new.log_level
    relay.feed(Configure(new))
    relay.log("info", "reloaded")
    return text(200, "ok")


def _refused(relay: Relay, status: int, why: str) -> Reply:
    relay.log("warning", "reload_refused", error=why)
    return text(status, why)


class Admin(Connection):
    """HTTP on the admin port."""

    def __init__(self, sock: socket.socket, table: Mapping[tuple[str, str], Handler]) -> None:
        super().__init__(sock)
        self._http = AdminConnection(table)

    def receive(self, data: bytes) -> bool:
        self.out += self._http.feed(data)
        return not self._http.closed
