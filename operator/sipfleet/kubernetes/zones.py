"""The published SRV records of SipClusters: by dynamic updates, through ExternalDNS, or in the cluster alone
(`spec.dns`).

A name server that does not answer must not keep pods from being healed: publishing runs beside the passes, one at a
time for a set, and the next pass sees what stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sipfleet import dns
from sipfleet.api import SipCluster
from sipfleet.dns.externaldns import dns_endpoint
from sipfleet.kubernetes.client import SECRETS, SIPCLUSTERS, Api, ApiError
from sipfleet.kubernetes.events import Events
from sipfleet.kubernetes.sets import SetState
from sipfleet.plan.types import SrvRecord
from sipfleet.setkey import SetKey

log = logging.getLogger("sipfleet.dns")

COMPARE = 300.0
"""Seconds after which a zone is compared with what should stand in it although nothing changed here."""
AGAIN = 10.0
"""Seconds until a publication that failed is tried again."""


class Zones:
    """Publishes for all sets."""

    def __init__(self, api: Api, events: Events, changed: Callable[[SetKey], None]) -> None:
        """`changed` is called when what is published is another than before."""
        self._api = api
        self._events = events
        self._changed = changed
        self._tasks: dict[SetKey, asyncio.Task[bool]] = {}
        self._rest: dict[SetKey, float] = {}
        """Loop time before which a set that failed is not tried again."""
        self._checked: dict[SetKey, float] = {}
        """Loop time of the last publication without a problem."""

    def due(self, state: SetState, cluster: SipCluster) -> bool:
        """Whether an outside zone has to be compared again: what stands there is not known to this operator, or was
        known some time ago and somebody may have changed it."""
        if cluster.spec.dns.rfc2136 is None and cluster.spec.dns.external_dns is None:
            return False
        last = self._checked.get(state.key)
        return last is None or asyncio.get_running_loop().time() - last > COMPARE

    def publish(self, state: SetState, cluster: SipCluster, records: tuple[SrvRecord, ...]) -> None:
        """These records are to be all that this cluster publishes; returns at once."""
        loop = asyncio.get_running_loop()
        if state.key in self._tasks or loop.time() < self._rest.get(state.key, 0.0):
            return
        task = asyncio.ensure_future(self._publish(state, cluster, records))
        self._tasks[state.key] = task
        task.add_done_callback(lambda _: self._tasks.pop(state.key, None))

    async def withdraw(self, state: SetState, cluster: SipCluster) -> bool:
        """Take away what the cluster publishes; -> whether nothing of it is left."""
        task = self._tasks.get(state.key)
        if task is not None:
            await asyncio.wait([task])
        return await self._publish(state, cluster, ())

    def forget(self, key: SetKey) -> None:
        """The set is gone."""
        self._rest.pop(key, None)
        self._checked.pop(key, None)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _publish(self, state: SetState, cluster: SipCluster, records: tuple[SrvRecord, ...]) -> bool:
        """-> whether exactly these records stand now."""
        try:
            stands, problems = await self._write(state, cluster, records)
        except (ApiError, dns.DnsError) as error:
            stands, problems = None, [("DnsFailed", str(error))]
        for reason, message in problems:
            await self._events.add(state.key, state.uid, reason, message, warning=True)
        now = asyncio.get_running_loop().time()
        if problems:
            self._rest[state.key] = now + AGAIN
        elif stands is not None:
            self._checked[state.key] = now
        if stands is not None and stands != state.published:
            state.published = stands
            await self._events.add(state.key, state.uid, "Published", f"{len(stands)} SRV records")
        self._changed(state.key)
        return stands == records and not problems

    async def _write(
        self, state: SetState, cluster: SipCluster, records: tuple[SrvRecord, ...]
    ) -> tuple[tuple[SrvRecord, ...] | None, list[tuple[str, str]]]:
        """-> what stands now (None: nobody knows), and (reason, message) of each problem."""
        if cluster.spec.dns.external_dns is not None:
            await self._api.apply(dns_endpoint(cluster, records))
            return records, []
        if cluster.spec.dns.rfc2136 is None:
            return records, []
        marked = await self._mark(cluster, dns.zones(cluster))
        done = await dns.publish(marked, records, await self._credentials(cluster))
        if not done.problems:
            await self._mark(marked, done.zones)
        return done.records, [(problem.reason, problem.message) for problem in done.problems]

    async def _mark(self, cluster: SipCluster, zones: tuple[str, ...]) -> SipCluster:
        """The annotation that lets an operator find what it published in a zone that the cluster has left."""
        text = " ".join(zones)
        annotations = cluster.metadata.annotations
        if annotations.get(dns.ZONES_ANNOTATION, "") == text:
            return cluster
        body = {"metadata": {"uid": cluster.metadata.uid, "annotations": {dns.ZONES_ANNOTATION: text or None}}}
        await self._api.merge(SIPCLUSTERS, cluster.namespace, cluster.name, body)
        metadata = cluster.metadata.model_copy(update={"annotations": {**annotations, dns.ZONES_ANNOTATION: text}})
        return cluster.model_copy(update={"metadata": metadata})

    async def _credentials(self, cluster: SipCluster) -> dns.Tsig | None:
        server = cluster.spec.dns.rfc2136
        if server is None or server.tsig_secret_ref is None:
            return None
        found = await self._api.get(SECRETS, cluster.namespace, server.tsig_secret_ref.name)
        if found is None:
            raise dns.TsigError(f"spec.dns.rfc2136.tsigSecretRef: there is no Secret {server.tsig_secret_ref.name}")
        return dns.Tsig.of_secret(found.get("data") or {})
