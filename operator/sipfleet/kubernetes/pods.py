"""What is said to pods and asked of them: orders on the admin port, and whether calls or media go through them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from sipfleet import admin, probes
from sipfleet.api import SipCluster
from sipfleet.kubernetes import names
from sipfleet.kubernetes.client import Object
from sipfleet.kubernetes.observe import PodMemory
from sipfleet.kubernetes.sets import Resource, SetState

log = logging.getLogger("sipfleet.pods")

PROBE_TIMEOUT = 1.0
STRIKES = 2
"""Probes in a row without an answer after which a pod does not serve any more."""
TELLING = 1.2
"""Seconds until the next heartbeat shows what a pod was told; it is not told again before."""


def own_address(toward: str) -> str:
    """Our address as a pod at `toward` sees it, where nothing translates it."""
    family = socket.AF_INET6 if ":" in toward else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((toward, 9))
        except OSError:
            return "::" if family == socket.AF_INET6 else "0.0.0.0"
        return str(probe.getsockname()[0])


def address_of(pod: Object) -> str | None:
    return pod.get("status", {}).get("podIP") or None


async def look(memory: PodMemory, pod: Object, resource: Resource) -> None:
    """Probe the pod once, and note what came of it."""
    address = address_of(pod)
    answers = False
    if address is not None:
        source = own_address(address)
        if isinstance(resource, SipCluster):
            target = (address, resource.spec.listeners[0].port)
            answers = await probes.options(target, source, PROBE_TIMEOUT)
        elif memory.serving or resource.spec.exposure.type == "hostNetwork":
            # On host network our packets may be translated on the way, and no relay learns a source that nobody named.
            answers = await probes.ping((address, names.NG_PORT), source, PROBE_TIMEOUT)
        else:
            answers = await probes.rtp_echo((address, names.NG_PORT), source, PROBE_TIMEOUT, through=address)
    if answers:
        memory.serving, memory.misses = True, 0
    else:
        memory.misses += 1
        if memory.misses >= STRIKES:
            memory.serving = False


class Orders:
    """Orders that are given to pods over their admin port."""

    def __init__(self, done: Callable[[SetState], None]) -> None:
        """`done` is called when a pod has answered."""
        self._done = done
        self._tasks: set[asyncio.Task[None]] = set()

    def give(self, state: SetState, memory: PodMemory, address: str | None, path: str) -> bool:
        """Tell a pod `/cordon`, `/drain` or `/uncordon`; -> False when it was just told, or has no address."""
        mark = (memory.uid, path)
        if address is None or mark in state.busy:
            return False
        state.busy.add(mark)
        task = asyncio.ensure_future(self._give(state, mark, address, path))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _give(self, state: SetState, mark: tuple[str, str], address: str, path: str) -> None:
        try:
            port = names.ADMIN_PORTS[state.key.kind]
            status, answer = await admin.request((address, port), "POST", path)
            if not 200 <= status < 300:
                said = answer.decode("utf-8", "replace").strip()[:200]
                log.warning(
                    "%s: POST http://%s:%d%s: %s %s",
                    state.key.qualified,
                    address,
                    port,
                    path,
                    status or "no answer",
                    said,
                )
            await asyncio.sleep(TELLING)
        finally:
            state.busy.discard(mark)
            self._done(state)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
