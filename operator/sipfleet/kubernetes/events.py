"""Events: what was done or refused, where `kubectl describe` and `kubectl get events` show it. No secret is ever in
one.

They are written beside the passes: whoever does something does not wait until it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import OrderedDict
from datetime import UTC, datetime

from sipfleet.kubernetes.client import EVENTS, Api, ApiError, Object
from sipfleet.setkey import SetKey

log = logging.getLogger("sipfleet.events")

SAME = 60.0
"""Seconds in which the same event is not told again."""
REMEMBERED = 4096
WAITING = 1000
"""So many events wait to be written; more are only logged."""
WRITERS = 4
"""Events of one set are written by one of them, in their order."""
FLUSH = 2.0
"""Seconds that those which wait get when the operator ends."""
MESSAGE = 1000
"""Kubernetes refuses events whose message is longer than 1,024 bytes."""


class Events:
    """Writes events; one that cannot be written is logged and forgotten."""

    def __init__(self, api: Api, identity: str) -> None:
        self._api = api
        self._identity = identity
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._waiting: list[asyncio.Queue[tuple[SetKey, Object]]] = [asyncio.Queue(WAITING) for _ in range(WRITERS)]
        self._writers: list[asyncio.Task[None]] = []

    async def close(self) -> None:
        """Write what waits."""
        if self._writers:
            with contextlib.suppress(TimeoutError):  # an event is worth no late end: the log has it too
                async with asyncio.timeout(FLUSH):
                    await asyncio.gather(*(queue.join() for queue in self._waiting))
        for writer in self._writers:
            writer.cancel()

    async def add(self, key: SetKey, uid: str, reason: str, message: str, *, warning: bool = False) -> None:
        """An event about a set; `reason` is a word in CamelCase."""
        now = datetime.now(UTC)
        mark = (uid, reason, message)
        if now.timestamp() - self._told.get(mark, 0.0) < SAME:
            return
        self._told[mark] = now.timestamp()
        self._told.move_to_end(mark)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        log.log(logging.WARNING if warning else logging.INFO, "%s: %s: %s", key.qualified, reason, message)
        if not self._writers:
            self._writers = [asyncio.ensure_future(self._write(queue)) for queue in self._waiting]
        try:
            self._waiting[hash(key) % WRITERS].put_nowait((key, self._event(key, uid, reason, message, warning, now)))
        except asyncio.QueueFull:
            log.warning("%s: event %s was not written: %d others wait", key.qualified, reason, WAITING)

    async def _write(self, waiting: asyncio.Queue[tuple[SetKey, Object]]) -> None:
        while True:
            key, event = await waiting.get()
            try:
                await self._api.create(EVENTS, key.namespace, event)
            except ApiError as error:
                log.warning("%s: event %s was not written: %s", key.qualified, event["reason"], error)
            waiting.task_done()

    def _event(self, key: SetKey, uid: str, reason: str, message: str, warning: bool, now: datetime) -> Object:
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{secrets.token_hex(8)}", "namespace": key.namespace},
            "involvedObject": {
                "apiVersion": "sipfleet.io/v1alpha1",
                "kind": key.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": uid,
            },
            "reason": reason,
            "message": message[:MESSAGE],
            "type": "Warning" if warning else "Normal",
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "source": {"component": "sipfleet", "host": self._identity},
            "reportingComponent": "sipfleet.io/operator",
            "reportingInstance": self._identity,
        }
