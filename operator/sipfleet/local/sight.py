"""What the supervisor sees: leases from the store in one read, the pods' own words while the store is away."""

from __future__ import annotations

import asyncio

import msgspec

from sipcore.record import Lease
from sipfleet import admin
from sipfleet.local import observe
from sipfleet.local.addresses import ADMIN_PORT
from sipfleet.local.events import Events
from sipfleet.local.pods import Pods
from sipfleet.local.sets import Sets
from sipfleet.local.slots import Slot
from sipfleet.plan.types import SlotObservation
from sipfleet.store import StoreReader


class Sight:
    """Keeps `Slot.lease`, `Slot.reported` and `Slot.stored_sessions` true."""

    def __init__(self, sets: Sets, pods: Pods, store: StoreReader, events: Events) -> None:
        self._sets = sets
        self._pods = pods
        self._store = store
        self._events = events
        self._read = 0.0

    def of(self, slot: Slot) -> SlotObservation:
        """What stands now, of one pod."""
        view = self._store.views.get(slot.owner.store)
        clock = asyncio.get_running_loop().time()
        return observe.observation(slot, observe.lease_state(slot, view, bool(self._store.available), clock))

    async def refresh(self, older: float = 0.0) -> None:
        """Read the store once, unless the last read is less than `older` seconds ago; pods of which the store says
        nothing are asked themselves."""
        clock = asyncio.get_running_loop().time()
        if clock - self._read < older:
            return
        self._read = clock
        slots = list(self._pods.slots.values())
        orphans = [(s.owner.store, s.name) for s in slots if s.owner.kind == "MediaPool" and s.pid is None]
        was = self._store.available
        left = await self._store.read_leases([one.key.store for one in self._sets], orphans, clock)
        if was is not None and was != self._store.available:
            self._events.add("Store", "store", "answers again" if self._store.available else "does not answer")
        for slot in slots:
            if (slot.owner.store, slot.name) in left:
                slot.stored_sessions = left[slot.owner.store, slot.name]
        if self._store.available:
            for one in self._sets:
                if (view := self._store.views.get(one.key.store)) is not None:
                    observe.take_in_leases(self._pods.of(one.key), view)
        silent = [slot for slot in slots if slot.pid is not None and slot.ready and not self._speaks(slot)]
        if silent:
            await asyncio.gather(*(self._ask(slot) for slot in silent))

    def _speaks(self, slot: Slot) -> bool:
        """Whether the store says what there is to know of the pod."""
        return bool(self._store.available) and slot.lease_alive

    async def _ask(self, slot: Slot) -> None:
        """A pod says on its admin port what its lease would say."""
        uid = slot.uid
        status, body = await admin.request((slot.address, ADMIN_PORT), "GET", "/status", 1.0)
        if status != 200 or slot.uid != uid:
            return
        try:
            words = msgspec.json.decode(body, type=Words)
        except msgspec.MsgspecError as error:
            self._events.warn("BadStatus", f"pod/{slot.name}", f"GET /status: {error}")
            return
        slot.reported = words.lease(slot)


class Words(msgspec.Struct, kw_only=True):
    """What `GET /status` (docs/decisions/0003) says that a lease says too; the rest is ignored."""

    index: int = 0
    version: str = ""
    revision: str = ""
    capacity: int = 0
    active: int = 0
    transactions: int = 0
    cordoned: bool = False
    draining: bool = False
    empty: bool = False

    def lease(self, slot: Slot) -> Lease:
        """The lease that this pod would write."""
        return Lease(
            kind="proxy" if slot.owner.kind == "SipCluster" else "relay",
            pod=slot.name,
            uid=slot.uid,
            set=slot.owner.name,
            ordinal=slot.ordinal,
            ready=slot.ready,
            **msgspec.structs.asdict(self),
        )
