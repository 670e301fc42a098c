"""Our own redis-server as a process: started first, started again when it dies, ended last."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from sipfleet.local.backoff import Backoff
from sipfleet.local.children import Child, bound_log, exit_text, stop_all
from sipfleet.local.errors import StoreServerError
from sipfleet.local.events import Events
from sipfleet.local.state import StateDirectory
from sipfleet.local.store import prepare_server
from sipfleet.store import StoreReader

START_LIMIT = 5.0


class StoreServer:
    """Keeps one redis-server running; it comes back empty."""

    def __init__(self, state: StateDirectory, events: Events, net: str, ended: Callable[[], None]) -> None:
        """`ended` is called at each death. Raises `StoreServerError` when there is no redis-server to run."""
        self.url, self._argv = prepare_server(state, net)
        self.child: Child | None = None
        self.restarts = 0
        self._log = state / "logs" / "store.log"
        self._events = events
        self._told_ended = ended
        self._backoff = Backoff()
        self._retry: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child is not None and self.child.alive else None

    async def start(self, reader: StoreReader) -> None:
        """Start it and wait until it answers.

        Raises `StoreServerError` with the end of its log when it does not.
        """
        self._spawn()
        deadline = time.monotonic() + START_LIMIT
        while not await reader.ping():
            if self.child is None or time.monotonic() > deadline:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
                raise StoreServerError(
                    f"the store {' '.join(self._argv)} does not start; its log {self._log} ends:\n{tail}"
                )
            await asyncio.sleep(0.01)

    def _spawn(self) -> None:
        bound_log(self._log)
        try:
            self.child = Child(self._argv, self._log, self._ended)
        except OSError as error:
            raise StoreServerError(f"{self._argv[0]}: {error}") from None

    def _ended(self, child: Child, status: int) -> None:
        self.child = None
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        delay = self._backoff.died(child.started, loop.time())
        self.restarts += 1
        if delay:
            self._retry = loop.call_later(delay, self._again)
        else:
            self._again()
        self._events.warn(
            "StoreDied",
            "store",
            f"{exit_text(status)}; " + (f"next start in {delay:g} s" if delay else "started empty"),
        )
        self._told_ended()

    def _again(self) -> None:
        try:
            self._spawn()
        except StoreServerError as error:
            self._events.warn("CannotStart", "store", str(error))
            self._retry = asyncio.get_running_loop().call_later(self._backoff.died(0.0, 0.0) or 1.0, self._again)

    async def stop(self) -> None:
        """End it without saving anything."""
        self._stopping = True
        if self._retry is not None:
            self._retry.cancel()
        if self.child is not None:
            await stop_all([self.child], signal.SIGKILL, 2.0)
