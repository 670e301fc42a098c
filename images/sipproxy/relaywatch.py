"""A TCP connection to the ng port of each relay: its reset says at once that the relay is dead (DESIGN 3.5)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

Address = tuple[str, int]

CONNECT_LIMIT = 1.0
FIRST_RETRY = 0.02
LAST_RETRY = 1.0
MAX_RELAYS = 4096


class RelayWatch:
    """Keeps the connections that `watch` names and tells `changed(address, up)`."""

    def __init__(self, changed: Callable[[Address, bool], None]) -> None:
        self._changed = changed
        self._tasks: dict[Address, asyncio.Task[None]] = {}

    def watch(self, addresses: Iterable[Address]) -> None:
        wanted = set(list(addresses)[:MAX_RELAYS])
        for address in self._tasks.keys() - wanted:
            self._tasks.pop(address).cancel()
        loop = asyncio.get_running_loop()
        for address in wanted - self._tasks.keys():
            self._tasks[address] = loop.create_task(self._keep(address))

    def close(self) -> None:
        self.watch(())

    async def _keep(self, address: Address) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(*address), CONNECT_LIMIT)
            except (OSError, TimeoutError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY)
                continue
            delay = FIRST_RETRY
            try:
                self._changed(address, True)
                with contextlib.suppress(OSError):
                    while await reader.read(4096):
                        pass
                self._changed(address, False)
            finally:
                writer.close()
            await asyncio.sleep(delay)
