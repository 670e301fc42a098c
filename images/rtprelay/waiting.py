"""Before a relay has an address: its admin port answers (alive, not ready) while the slots file is looked at.

A relay that finds its address at once, as each does that is started again, pays for none of this.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from pathlib import Path

from rtprelay.core.slots import address_of, advertise
from rtprelay.log import Logger
from rtprelay.streams import Connection, Streams
from sipcore.config import RelayConfig, endpoint
from sipcore.errors import ConfigError

POLL = 0.5
"""Seconds between two looks at the file."""
SAY_EVERY = 10.0
"""Seconds between two lines in the log."""


def wait_for_slot(config: RelayConfig, log: Logger) -> str | None:
    """The address of our slot, as soon as the slots file has one that we can advertise; None when we are to end.

    Raises `ConfigError` or `OSError` for an admin address that cannot be had.
    """
    path, slot = Path(config.slots_file), config.pod.slot
    address, _ = _look(path, slot, config.interfaces)
    if address is not None:
        return address
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    streams = Streams(epoll)
    say_at = 0.0
    try:
        if config.admin:
            streams.listen(endpoint(config.admin), _admin)
        while not ended:
            address, why = _look(path, slot, config.interfaces)
            if address is not None:
                log("info", "slot_address", slot=slot, address=address)
                return address
            now = time.monotonic()
            if now >= say_at:
                say_at = now + SAY_EVERY
                log("warning", "waiting_for_slot_address", slot=slot, file=str(path), reason=why)
            _serve(epoll, streams, now + POLL)
        log("info", "stopped", sessions=0)
        return None
    finally:
        streams.close()
        epoll.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _look(path: Path, slot: int, interfaces: list[str]) -> tuple[str | None, str]:
    """(address, "") or (None, why there is none)."""
    try:
        address = address_of(path.read_text("utf-8"), slot)
        if address is not None:
            advertise(interfaces, address)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        return None, str(error)
    return address, "" if address is not None else f"slot {slot} is not in it"


def _serve(epoll: select.epoll, streams: Streams, until: float) -> None:
    """Answer on the admin port until then, or until a signal came."""
    while (left := until - time.monotonic()) > 0:
        for fd, mask in epoll.poll(left):
            if not streams.handle(fd, mask):
                return


def _admin(sock: socket.socket) -> Connection:
    from rtprelay.admin import Admin
    from sipcore.admin import Handler, text

    def not_ready(what: str) -> Handler:
        return lambda: text(503, f"{what}: the slots file has no address for this slot yet")

    return Admin(
        sock,
        {
            ("GET", "/livez"): lambda: text(200, "ok"),
            ("GET", "/readyz"): not_ready("not ready"),
            ("GET", "/status"): not_ready("no status"),
            ("GET", "/metrics"): not_ready("no metrics"),
            ("POST", "/cordon"): not_ready("not cordoned"),
            ("POST", "/uncordon"): not_ready("not uncordoned"),
            ("POST", "/drain"): not_ready("not drained"),
            ("POST", "/reload"): not_ready("not reloaded"),
        },
    )
