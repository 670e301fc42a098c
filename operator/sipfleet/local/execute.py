"""The planner's actions, carried out on processes: the one place where a decision becomes a deed.

Each is idempotent: what is under way already is not begun again, and an action for an incarnation that is gone does
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipfleet import admin
from sipfleet.local.addresses import ADMIN_PORT
from sipfleet.local.errors import AddressError
from sipfleet.local.events import Events
from sipfleet.local.pods import Pods
from sipfleet.local.slots import Slot
from sipfleet.plan.types import (
    Action,
    Cordon,
    CreateSlot,
    Cut,
    Drain,
    PublishSrv,
    RemoveSlot,
    Replace,
    SrvRecord,
    Uncordon,
)
from sipfleet.setkey import SetKey

TELLING = 1.2
"""Seconds until the next heartbeat shows what a pod was told; it is not told again before."""


class Executor:
    """Carries out actions; what it cannot do shows in the next observation."""

    def __init__(
        self,
        pods: Pods,
        events: Events,
        address_of: Callable[[str], str],
        cut: Callable[[Slot], None],
        skip_drains: bool = False,
    ) -> None:
        """`address_of` gives the address of a slot by name; `cut` ends what the store keeps for a pod; `skip_drains` is
        the switch of docs/decisions/0005: a planned removal kills the pod at once."""
        self.published: dict[SetKey, tuple[SrvRecord, ...]] = {}
        self._pods = pods
        self._events = events
        self._address_of = address_of
        self._cut_stored = cut
        self._skip_drains = skip_drains

    def carry_out(self, owner: SetKey, action: Action) -> None:
        """Begin one action; returns at once."""
        if isinstance(action, PublishSrv):
            self.published[owner] = action.records
            self._events.add("Published", str(owner), f"{len(action.records)} SRV records")
        elif isinstance(action, CreateSlot):
            self._create(owner, action)
        else:
            slot = self._pods.slots.get((owner, action.ordinal))
            if slot is None or slot.uid != action.uid or slot.leave is not None:
                return
            match action:
                case Cordon():
                    self._tell(slot, "/cordon", "Cordoned", "takes no new calls")
                case Uncordon():
                    slot.skip_drain = False
                    self._tell(slot, "/uncordon", "Uncordoned", "takes new calls")
                case Drain():
                    self._drain(slot)
                case RemoveSlot():
                    self._events.add("Removing", f"pod/{slot.name}", "is empty and ends")
                    self._pods.end(slot, None)
                case Replace(revision=revision):
                    self._events.add("Replacing", f"pod/{slot.name}", f"ends for revision {revision}")
                    self._pods.end(slot, revision)
                case Cut():
                    self._cut(slot)

    def _create(self, owner: SetKey, action: CreateSlot) -> None:
        if (owner, action.ordinal) in self._pods.slots:
            return
        name = f"{owner.name}-{action.ordinal}"
        try:
            address = self._address_of(name)
        except AddressError as error:
            self._events.warn("NoAddress", f"pod/{name}", str(error))
            return
        slot = Slot(owner, action.ordinal, action.revision, address)
        self._events.add("Created", f"pod/{name}", f"at {address}, revision {action.revision}")
        self._pods.create(slot)

    def _drain(self, slot: Slot) -> None:
        if self._skip_drains:
            if not slot.skip_drain:
                slot.skip_drain = True
                self._events.warn("DrainSkipped", f"pod/{slot.name}", "SIPFLEET_BREAK=drain: its calls will be cut")
            return
        self._tell(slot, "/drain", "Draining", "finishes or hands over what it has")

    def _cut(self, slot: Slot) -> None:
        said = slot.said
        count = said.active if said is not None else "?"
        self._events.warn("Cut", f"pod/{slot.name}", f"drainTimeout is over: {count} calls are ended")
        self._cut_stored(slot)
        self._pods.kill(slot)

    def _tell(self, slot: Slot, path: str, reason: str, message: str) -> None:
        if path in slot.busy or slot.pid is None:
            return
        slot.busy.add(path)
        self._pods.spawn(self._post(slot, slot.uid, path, reason, message))

    async def _post(self, slot: Slot, uid: str, path: str, reason: str, message: str) -> None:
        try:
            status, answer = await admin.request((slot.address, ADMIN_PORT), "POST", path)
            if slot.uid != uid:
                return
            if 200 <= status < 300:
                if path not in slot.told:
                    self._events.add(reason, f"pod/{slot.name}", message)
                slot.told = {path} if path == "/uncordon" else slot.told - {"/uncordon"} | {path}
                await asyncio.sleep(TELLING)
            else:
                said = answer.decode("utf-8", "replace").strip()[:200]
                self._events.warn("AdminFailed", f"pod/{slot.name}", f"POST {path}: {status or 'no answer'} {said}")
        finally:
            slot.busy.discard(path)
