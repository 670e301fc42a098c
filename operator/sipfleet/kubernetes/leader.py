"""Leadership by a coordination Lease object: of several operators one acts, the others wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

from sipfleet.kubernetes.client import LEASES, Api, ApiError, Object
from sipfleet.kubernetes.settings import Settings

log = logging.getLogger("sipfleet.leader")

NAME = "sipfleet-operator"
LIFE = 6
"""Seconds after which a leader that does not renew is one no more."""
RENEW = 2.0
RETRY = 1.0


class Leadership:
    """Holds the Lease, or waits for it. `lost` is set when it was held and could not be renewed in time."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.lost = asyncio.Event()
        self._api = api
        self._settings = settings
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def acquire(self) -> None:
        """Returns when we lead."""
        said = ""
        while True:
            try:
                held = await self._try()
            except ApiError as error:
                log.warning("leadership lease: %s", error)
                held = ""
            if held == self._settings.identity:
                log.info("leads as %s", held)
                self._task = asyncio.ensure_future(self._renew())
                return
            if held and held != said:
                log.info("waits: %s leads", held)
                said = held
            await asyncio.sleep(RETRY)

    async def release(self) -> None:
        """Let the next one lead at once."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(ApiError):  # it runs out by itself, a few seconds later
            found = await self._api.get(LEASES, self._settings.namespace, NAME)
            if found is not None and found["spec"].get("holderIdentity") == self._settings.identity:
                await self._write(found, holder="")

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < LIFE - RETRY:
            await asyncio.sleep(RENEW)
            try:
                if await self._try() != self._settings.identity:
                    break
                renewed = loop.time()
            except ApiError as error:
                log.warning("leadership lease: %s", error)
        log.error("lost the leadership lease")
        self.lost.set()

    async def _try(self) -> str:
        """-> who holds the lease now. A holder counts as gone when its lease has not changed for its whole life, by
        our clock."""
        now = asyncio.get_running_loop().time()
        found = await self._api.get(LEASES, self._settings.namespace, NAME)
        if found is None:
            body = {
                "apiVersion": LEASES.api_version,
                "kind": "Lease",
                "metadata": {"name": NAME, "namespace": self._settings.namespace},
                "spec": self._spec(self._settings.identity, 0),
            }
            await self._api.create(LEASES, self._settings.namespace, body)
            return self._settings.identity
        spec = found.get("spec", {})
        holder = str(spec.get("holderIdentity") or "")
        seen = (holder, str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        if holder not in ("", self._settings.identity) and now - self._seen_at < LIFE:
            return holder
        try:
            await self._write(found, holder=self._settings.identity)
        except ApiError as error:
            if error.status == 409:  # another one was quicker
                return holder
            raise
        return self._settings.identity

    async def _write(self, found: Object, *, holder: str) -> None:
        spec = found.get("spec", {})
        changes = spec.get("leaseTransitions", 0) + (spec.get("holderIdentity") != holder)
        body = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "spec": self._spec(holder, changes),
        }
        await self._api.merge(LEASES, self._settings.namespace, NAME, body)

    @staticmethod
    def _spec(holder: str, changes: int) -> Object:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": LIFE,
            "renewTime": stamp,
            "leaseTransitions": changes,
        }
