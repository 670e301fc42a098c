"""The supervisor of one cluster on one machine: observe, plan, carry out, again and again.

It wakes when a pod ends or becomes ready and when a manifest changes, and otherwise once a second for one read of the
store. It decides nothing itself: `sipfleet.plan` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable

from sipfleet.api import Resource, SipCluster, desired
from sipfleet.local import addresses
from sipfleet.local.apiserver import ApiServer
from sipfleet.local.configs import Configs
from sipfleet.local.errors import AddressError
from sipfleet.local.events import Events
from sipfleet.local.execute import Executor
from sipfleet.local.manifests import check_fixed, check_fleet, unused
from sipfleet.local.pods import Pods
from sipfleet.local.releases import installed, missing_text
from sipfleet.local.sets import Sets, SetState
from sipfleet.local.sight import Sight
from sipfleet.local.slots import Slot
from sipfleet.local.state import StateDirectory
from sipfleet.local.storeserver import StoreServer
from sipfleet.local.tables import URGENT
from sipfleet.plan import plan
from sipfleet.plan.types import Observed, Phase, SetStatus
from sipfleet.store import StoreReader

INTERVAL = 1.0
STORE_INTERVAL, STORE_LOOKS = 0.02, 100
"""Seconds between looks for a store that was just started, and how many there are."""
HURRY = 0.25
"""Seconds between looks while something is under way."""


class Supervisor:
    """Runs until it is told to stop."""

    def __init__(self, state: StateDirectory, resources: list[Resource]) -> None:
        self.state = state
        self.events = Events(time.time)
        self.started = time.time()
        self.sets = Sets(state)
        self.changed = asyncio.Event()
        """Set when the planner should look again."""
        self.stopped = asyncio.Event()
        self.on_look: list[Callable[[], None]] = []
        """Called after each turn, for the display."""
        cluster = next((r for r in resources if isinstance(r, SipCluster)), None)
        self.address = cluster.spec.exposure.address if cluster is not None else None
        self.net = addresses.network(state.cluster, self.address)
        if self.address is None:
            self.address = f"{self.net}.{addresses.CLUSTER_HOST}"
        self.addresses = addresses.Addresses(self.net)
        self._recorded: list[int] | None = None
        self._broken = [word.strip() for word in os.environ.get("SIPFLEET_BREAK", "").split(",") if word.strip()]
        self.store_server: StoreServer | None = None
        url = next((r.spec.store.url for r in resources if r.spec.store.url), None)
        if url is None:
            self.store_server = StoreServer(state, self.events, self.net, self._store_ended)
            url = self.store_server.url
        self.store = StoreReader(url)
        self.configs = Configs(state, self.sets, self.events, self.address, url)
        probe_source = f"{self.net}.{addresses.CLUSTER_HOST}"
        self.pods = Pods(state, self.events, self.configs.of, self.changed.set, probe_source)
        self.executor = Executor(self.pods, self.events, self._address_of, self._cut, "drain" in self._broken)
        self.sight = Sight(self.sets, self.pods, self.store, self.events)
        for resource in resources:
            self.sets.apply(resource)
        self.sets.drop_strangers()

    async def run(self, api: ApiServer) -> None:
        """Bring the cluster up and keep it until `stopped` is set; ends everything that it started.

        Raises `LocalError` when it cannot begin.
        """
        for switch in self._broken:
            self.events.warn("Broken", "cluster", f"SIPFLEET_BREAK={switch} takes away what keeps calls")
        killed = self.state.bury_last_run()
        if killed:
            self.events.warn("TookOver", "cluster", f"ended {len(killed)} processes that an earlier run left behind")
        self._check_free()
        self.addresses = addresses.Addresses(self.net, self.state.read_json("addresses.json"), _is_free)
        self.state.cluster_key()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self.stopped.set)
        watch = asyncio.ensure_future(self.pods.watch())
        try:
            if self.store_server is not None:
                await self.store_server.start(self.store)
            await api.start()
            self._record_run()
            self.events.add("Started", "cluster", f"SIP address {self.address}, state in {self.state.path}")
            await self._turns()
        finally:
            watch.cancel()
            await api.close()
            await self._stop()

    async def _turns(self) -> None:
        stop = asyncio.ensure_future(self.stopped.wait())
        try:
            while not self.stopped.is_set():
                self.changed.clear()
                try:
                    await self._turn()
                except Exception as error:  # calls are up: one bad turn must not end the cluster
                    self.events.warn("InternalError", "cluster", traceback.format_exc(limit=-3).strip() or str(error))
                pause = HURRY if self._busy() else INTERVAL
                change = asyncio.ensure_future(self.changed.wait())
                await asyncio.wait([stop, change], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
        finally:
            stop.cancel()

    async def _stop(self) -> None:
        again = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, again.set)
        stopping = asyncio.ensure_future(self.pods.stop())
        impatient = asyncio.ensure_future(again.wait())
        await asyncio.wait([stopping, impatient], return_when=asyncio.FIRST_COMPLETED)
        for slot in self.pods.slots.values():
            self.pods.kill(slot)
        await stopping
        impatient.cancel()
        if self.store_server is not None:
            await self.store_server.stop()
        with contextlib.suppress(Exception):
            await self.store.close()
        self.state.remove("run.json")
        self.events.add("Stopped", "cluster", "everything that was started has ended")

    async def _turn(self) -> None:
        """Observe, plan, carry out: once."""
        await self.sight.refresh()
        self.configs.reload_changed(self.pods)
        now = time.time()
        for one in self.sets:
            self._follow(one, now)
        self._record_run()
        for listener in self.on_look:
            listener()

    def _follow(self, one: SetState, now: float) -> None:
        one.observed = self.observe(one)
        resource = self._accepted(one)
        one.desired = desired(
            resource,
            generation=one.generation,
            deleting=one.deleting,
            shared_address=True,
            problem=one.problem,
            remark=unused(resource),
        )
        decided = plan(one.desired, one.observed, now)
        before = one.status
        one.status = decided.status
        one.keep_revisions({slot.revision for slot in self.pods.of(one.key)})
        self.sets.save(one)  # before the actions: whoever comes after us must know what we began
        self._tell_conditions(one, before)
        for action in decided.actions:
            self.executor.carry_out(one.key, action)
        if one.deleting and not self.pods.of(one.key):
            self.sets.forget(one)
            self.executor.published.pop(one.key, None)
            self.events.add("Deleted", str(one.key), "drained and gone")

    def observe(self, one: SetState) -> Observed:
        """What stands now, of one set."""
        return Observed(
            slots=tuple(self.sight.of(slot) for slot in self.pods.of(one.key)),
            status=one.status,
            store_available=self.store.available,
            published=self.executor.published.get(one.key, ()),
            address=self.address if one.key.kind == "SipCluster" else None,
        )

    def apply(self, resources: list[Resource]) -> list[dict[str, str]]:
        """Take manifests in; -> kind, name and result of each."""
        results = []
        for resource in resources:
            result = self.sets.apply(resource)
            results.append({"kind": resource.kind, "name": resource.name, "result": result})
            if result != "unchanged":
                self.events.add("Applied", f"{resource.kind.lower()}/{resource.name}", result)
        self.configs.dirty = True
        self.changed.set()
        return results

    def check(self, resources: list[Resource]) -> None:
        """Whether these manifests can be applied here and now.

        Raises `ManifestError` with all that stands against it.
        """
        check_fleet([one.resource for one in self.sets if not one.deleting], resources)
        check_fixed(resources, self.address, self.store.url if self.store_server is None else None)

    def delete(self, one: SetState) -> None:
        """Drain a set, then remove it."""
        if not one.deleting:
            one.deleting = True
            one.generation += 1
            self.sets.save(one)
            self.events.add("Deleting", str(one.key), "drains first")
            self.changed.set()

    def evict(self, slot: Slot) -> None:
        """Drain a pod and put a new one in its place, as the planner sees fit."""
        if not slot.evict:
            slot.evict = True
            self.events.add("Evicting", f"pod/{slot.name}", "asked for: drained, then replaced")
            self.changed.set()

    def _accepted(self, one: SetState) -> Resource:
        """The manifest to follow: that of today, or the last good one when its release is not installed."""
        version = one.resource.spec.version
        found = installed(self.state) if version is not None else {}
        if version is None or version in found:
            one.problem = None
            return one.resource
        one.problem = ("ReleaseNotInstalled", missing_text(version, list(found)))
        return one.revisions.get(one.status.revision, one.resource)

    def _tell_conditions(self, one: SetState, before: SetStatus) -> None:
        old = {c.type: (c.status, c.reason) for c in before.conditions}
        for condition in one.status.conditions:
            told, new = old.get(condition.type), (condition.status, condition.reason)
            if told != new and (told is not None or (condition.type, condition.status) in URGENT):
                text = f"{condition.type}={condition.status} {condition.reason}: {condition.message}"
                self.events.add("Condition", str(one.key), text.rstrip(": "))

    def _store_ended(self) -> None:
        self.store.lost(asyncio.get_running_loop().time())
        self.changed.set()
        self.pods.spawn(self._await_store())

    async def _await_store(self) -> None:
        """Look again as soon as the next store answers."""
        for _ in range(STORE_LOOKS):
            await asyncio.sleep(STORE_INTERVAL)
            if await self.store.ping():
                self.changed.set()
                return

    def _busy(self) -> bool:
        """Whether something is under way that a look a second would slow down."""
        return (
            not self.store.available
            or any(one.status.rolling or one.status.drains or one.deleting for one in self.sets)
            or any(
                slot.leave is not None or not slot.serving or slot.evict or slot.skip_drain
                for slot in self.pods.slots.values()
                if slot.phase is not Phase.FAILED
            )
        )

    def _address_of(self, slot: str) -> str:
        address = self.addresses.of(slot, {s.name for s in self.pods.slots.values()})
        self.state.write_json("addresses.json", self.addresses.table)
        return address

    def _cut(self, slot: Slot) -> None:
        if slot.owner.kind == "MediaPool":
            self.pods.spawn(self.store.forget_sessions(*slot.owner.store, slot.name))

    def _check_free(self) -> None:
        """Refuse to share the cluster's address with a stranger, which SO_REUSEPORT would let happen silently."""
        for cluster in self.sets.clusters():
            for listener in cluster.spec.listeners:
                family = socket.AF_INET6 if ":" in str(self.address) else socket.AF_INET
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    try:
                        probe.bind((self.address, listener.port))
                    except OSError as error:
                        raise AddressError(
                            f"listener {listener.name}: {self.address}:{listener.port}: {error.strerror}.\n"
                            "End what uses it, or choose another: spec.exposure {type: virtualIP, address: 127.x.y.1}"
                        ) from None

    def _record_run(self) -> None:
        pids = self.pods.pids()
        if self.store_server is not None and self.store_server.pid is not None:
            pids.append(self.store_server.pid)
        if pids != self._recorded:
            self._recorded = pids
            self.state.record_run(pids, store=self.store.url, address=self.address)


def _is_free(address: str) -> bool:
    """Whether no pod of another cluster lives at this loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, addresses.ADMIN_PORT))
        except OSError:
            return False
    return True
