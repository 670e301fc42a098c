"""A Service on loopback, for tests without a node: one advertised address, and whichever relay is behind it now.

It does what a node's connection tracking does. A client's first packet opens a way to the relay and back. A packet of
the relay's that comes first is lost (it would leave from another address than the one that the client listens to), and
the client's own packets then come from another port.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.integration.peers.probe import Address


@dataclass
class Way:
    """From one socket of a client, by one port of the Service, to the relay."""

    client: Address
    shown: Address
    """The client as the relay sees it."""
    front: socket.socket
    back: socket.socket
    opened: bool = False
    taken: bool = False
    """A packet of the relay's was there first."""
    other: socket.socket | None = None
    """What the client's packets leave from when `taken`."""


@dataclass
class Service:
    """Use as a context manager. What phones send to `address` goes on to `relay`."""

    address: str
    ports: Iterable[int]
    relay: str = ""
    lost: int = 0
    """Packets of the relay's that came before the client's."""
    _ways: dict[tuple[Address, int], Way] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: bool = False

    def __post_init__(self) -> None:
        self._fronts = {port: self._bind((self.address, port)) for port in self.ports}
        for port, sock in self._fronts.items():
            self._selector.register(sock, selectors.EVENT_READ, port)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def admit(self, client: Address, shown: str, port: int) -> None:
        """A socket of a client's that may call this port; the relay sees it at the IP `shown`."""
        back = self._bind((shown, client[1]))
        with self._lock:
            way = self._ways[client, port] = Way(client, (shown, client[1]), self._fronts[port], back)
            self._selector.register(back, selectors.EVENT_READ, way)

    def point(self, relay: str) -> None:
        """Another relay is behind the Service; what was known of the one before is forgotten."""
        with self._lock:
            self.relay = relay
            for way in self._ways.values():
                way.opened = way.taken = False
                if way.other is not None:
                    self._selector.unregister(way.other)
                    way.other.close()
                    way.other = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _bind(self, address: Address) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(address)
        sock.setblocking(False)
        return sock

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.05):
                with self._lock, contextlib.suppress(OSError):
                    assert isinstance(key.fileobj, socket.socket)
                    data, source = key.fileobj.recvfrom(2048)
                    if isinstance(key.data, Way):
                        self._from_relay(key.data, key.fileobj, data, source)
                    else:
                        self._from_client(data, source, key.data)

    def _from_client(self, data: bytes, source: Address, port: int) -> None:
        way = self._ways.get((source, port))
        if way is None:
            return
        way.opened = True
        if way.taken and way.other is None:
            way.other = self._bind((way.shown[0], 0))
            self._selector.register(way.other, selectors.EVENT_READ, way)
        (way.other or way.back).sendto(data, (self.relay, port))

    def _from_relay(self, way: Way, sock: socket.socket, data: bytes, source: Address) -> None:
        if source[0] != self.relay:
            return
        if not way.opened:
            way.taken = True
        if way.taken and sock is not way.other:
            self.lost += 1
            return
        way.front.sendto(data, way.client)
