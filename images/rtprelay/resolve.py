"""Names looked up beside the loop: the C library's resolver waits for its servers, and nothing in the loop may wait."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque
from ipaddress import ip_address

Address = tuple[str, int]


def is_numeric(host: str) -> bool:
    """Whether there is nothing to look up."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Resolver:
    """One thread for each name that is being looked up; `fd` can be read when there is news."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.fd = -1
        self._done: deque[tuple[Address, list[Address]]] = deque()
        self._busy: set[Address] = set()

    def start(self, name: Address) -> None:
        """Look up (host, port), unless that is being done already."""
        import threading

        if self.fd < 0:
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._epoll.register(self.fd, select.EPOLLIN)
        if name not in self._busy:
            self._busy.add(name)
            threading.Thread(target=self._look_up, args=(name,), daemon=True).start()

    def take(self) -> list[tuple[Address, list[Address]]]:
        """The names that are done, with their addresses; none for a name that nobody knows."""
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):  # nothing was counted since
                os.eventfd_read(self.fd)
        found = []
        while self._done:
            found.append(self._done.popleft())
            self._busy.discard(found[-1][0])
        return found

    def _look_up(self, name: Address) -> None:
        """In the thread."""
        try:
            answer = socket.getaddrinfo(*name, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answer = []
        self._done.append((name, [(str(address[0]), int(address[1])) for *_, address in answer]))
        os.eventfd_write(self.fd, 1)
