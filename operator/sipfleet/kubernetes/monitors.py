"""Whether the API server has ServiceMonitors: they come and go with the Prometheus operator, and without them nothing
else changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sipfleet.kubernetes.client import SERVICEMONITORS, Api, ApiError

log = logging.getLogger("sipfleet.monitors")

INTERVAL = 180.0
"""Seconds between two looks; each also has every ServiceMonitor applied again, for they are not watched."""
AGAIN = 10.0
"""The same while nothing is known."""


class Monitors:
    """What the last look found."""

    def __init__(self, api: Api, changed: Callable[[], None]) -> None:
        """`changed` is called when ServiceMonitors have to be applied (again), or can no longer be."""
        self.served: bool | None = None
        """Whether the API server has the kind; None while it has not said."""
        self.looks = 0
        """Goes up with each call of `changed`."""
        self._api = api
        self._changed = changed

    async def run(self) -> None:
        """Look again now and then, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL if self.served is not None else AGAIN)
            await self.look()

    async def look(self) -> None:
        """Ask the API server; when it does not say, what was known stands."""
        try:
            found = await self._api.request("GET", f"/apis/{SERVICEMONITORS.api_version}")
            served = any(one.get("name") == SERVICEMONITORS.plural for one in found.get("resources") or [])
        except ApiError as error:
            if error.status != 404:
                log.warning("are there ServiceMonitors? %s", error)
                return
            served = False
        if served != bool(self.served):
            log.info("ServiceMonitors %s", "are made" if served else "are not known here any more")
        if served or self.served:
            self._set(served)
        self.served = served

    def gone(self) -> None:
        """One could not be applied: there is no such kind any more."""
        if self.served:
            self._set(False)

    def _set(self, served: bool) -> None:
        self.served = served
        self.looks += 1
        self._changed()
