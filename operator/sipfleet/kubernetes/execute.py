"""The planner's actions, carried out on Kubernetes: the one place where a decision becomes a deed.

Each is idempotent: what is under way already is not begun again, and an action for an incarnation that is gone does
nothing.
"""

from __future__ import annotations

from sipfleet.api import SipCluster
from sipfleet.kubernetes import names, observe, pods
from sipfleet.kubernetes.avoid import avoid
from sipfleet.kubernetes.client import PODS, ApiError, Object
from sipfleet.kubernetes.fleet import Fleet
from sipfleet.kubernetes.layout import SetLayout, layout
from sipfleet.kubernetes.objects.statefulset import stateful_set
from sipfleet.kubernetes.sets import Resource, SetState
from sipfleet.plan import (
    Action,
    Cordon,
    CreateSlot,
    Cut,
    Drain,
    LeaseState,
    Observed,
    Phase,
    Plan,
    PublishSrv,
    RemoveSlot,
    Replace,
    SlotObservation,
    Uncordon,
)
from sipfleet.plan.slots import dead, drained

EVICTION_WAIT = 12.0
"""Seconds in which an eviction may end a pod that has to leave its node; `kubectl drain` tries every 5 s."""
OPENED = 1.5
"""Seconds after an uncordon in which a lease from before is not believed."""


class Execution:
    """One plan of one set."""

    def __init__(
        self,
        fleet: Fleet,
        state: SetState,
        resource: Resource,
        seen: Observed,
        decided: Plan,
        current: SetLayout | None,
    ) -> None:
        self._fleet = fleet
        self._state = state
        self._resource = resource
        self._seen = {slot.ordinal: slot for slot in seen.slots}
        self._decided = decided
        self._current = current
        self._pods = observe.by_ordinal(fleet.of(fleet.pods, state.key))

    async def run(self) -> None:
        """Labels, DNS and the StatefulSet first, then what ends pods. Raises `ApiError`."""
        actions = self._decided.actions
        cluster = self._resource
        if isinstance(cluster, SipCluster) and (
            any(isinstance(action, PublishSrv) for action in actions) or self._fleet.zones.due(self._state, cluster)
        ):
            self._fleet.zones.publish(self._state, cluster, self._decided.status.srv_records)
        await self._labels()
        for action in actions:
            if isinstance(action, Cordon | Drain | Uncordon):
                await self._order(action)
        if not await self._apply_set():
            return
        for action in actions:
            if isinstance(action, Replace | Cut):
                await self._end(action)

    async def _apply_set(self) -> bool:
        """-> False when a template is not known: then nothing is ended either."""
        state, key = self._state, self._state.key
        slots = self._current.slots if self._current is not None else 0
        revisions = {
            ordinal: pod["metadata"].get("labels", {}).get(names.REVISION, "")
            for ordinal, pod in self._pods.items()
            if not pod["metadata"].get("deletionTimestamp")
        }
        wanted = layout(self._decided.status, self._decided.actions, slots, revisions)
        made_of = self._fleet.templates.get(key, {}).get(wanted.template)
        if made_of is None:
            if wanted.slots or self._current is not None:
                message = f"nothing is known of revision {wanted.template}: its ConfigMap is gone"
                await self._fleet.events.add(key, state.uid, "RevisionLost", message, warning=True)
            return not self._decided.actions
        if wanted == self._current and ("StatefulSet", key.name) in state.applied and not self._decided.actions:
            return True
        body = stateful_set(key, state.uid, slots=wanted.slots, partition=wanted.partition, template=made_of)
        if await self._fleet.ensure(state, body):
            if wanted.slots != slots:
                await self._tell("Scaled", f"from {slots} to {wanted.slots} pods")
            if self._current is not None and wanted.template != self._current.template:
                await self._tell(
                    "Template", f"pods are made of revision {wanted.template} from slot {wanted.partition} on"
                )
        for action in self._decided.actions:
            if isinstance(action, CreateSlot) and not (self._current and action.ordinal < self._current.slots):
                await self._tell("Created", f"pod/{key.name}-{action.ordinal} of revision {action.revision}")
            elif isinstance(action, RemoveSlot) and action.ordinal >= wanted.slots:
                await self._tell("Removed", f"pod/{key.name}-{action.ordinal} is empty and ends with its slot")
        return True

    async def _order(self, action: Cordon | Drain | Uncordon) -> None:
        pod = self._pods.get(action.ordinal)
        if pod is None or observe.pod_uid(pod) != action.uid:
            return
        name = pod["metadata"]["name"]
        memory = self._state.memory[name]
        path, reason, message = _ORDERS[type(action)]
        if self._fleet.orders.give(self._state, memory, pods.address_of(pod), path):
            if isinstance(action, Uncordon):
                memory.opened = self._fleet.now() + OPENED
            await self._tell(reason, f"pod/{name} {message}")

    async def _end(self, action: Replace | Cut) -> None:
        pod = self._pods.get(action.ordinal)
        slot = self._seen.get(action.ordinal)
        if pod is None or slot is None or observe.pod_uid(pod) != action.uid:
            return
        name = pod["metadata"]["name"]
        forced = isinstance(action, Cut) or slot.phase is Phase.DEAD or dead(slot)
        if slot.phase is Phase.TERMINATING and not forced:
            return
        if slot.evict and not forced and not self._patience_is_over(name):
            return
        if isinstance(action, Cut):
            reader = self._fleet.stores.reader(self._state.key)
            if reader is not None and self._state.key.kind == "MediaPool":
                await reader.forget_sessions(*self._state.key.store, name)
            why = f"drainTimeout is over: {slot.active if slot.active is not None else '?'} calls are ended"
            await self._tell("Cut", f"pod/{name}: {why}", warning=True)
        elif forced:
            await self._tell("Replacing", f"pod/{name} is dead ({slot.message or 'no lease, no answer'})", warning=True)
        else:
            await self._tell("Replacing", f"pod/{name} ends for revision {action.revision}")
        node = self._fleet.node_of(pod)
        if forced and node is not None and not isinstance(action, Cut):
            made_of = self._fleet.templates[self._state.key][self._decided.status.revision]
            await avoid(self._fleet, self._state.key.namespace, node, made_of["spec"]["containers"][0]["image"])
        await self._fleet.api.delete(PODS, self._state.key.namespace, name, action.uid, grace=0 if forced else None)

    def _patience_is_over(self, name: str) -> bool:
        """Whether a pod that may be evicted now has had its time. Whoever drains the node tries again every few
        seconds, by the pod's name: were the next pod of the slot there before that, it would try to evict that one."""
        memory, now = self._state.memory[name], self._fleet.now()
        memory.released = memory.released or now
        return now - memory.released >= EVICTION_WAIT

    async def _labels(self) -> None:
        """Labels follow what a pod is: whether DNS names it, packets reach it, an eviction may take it."""
        ordered = {a.ordinal for a in self._decided.actions if isinstance(a, Cordon | Drain | RemoveSlot | Replace)}
        opened = {a.ordinal for a in self._decided.actions if isinstance(a, Uncordon)}
        leaving = {drain.ordinal for drain in self._decided.status.drains} | ordered
        for ordinal, pod in self._pods.items():
            slot = self._seen.get(ordinal)
            if slot is None or slot.phase is Phase.DEAD:
                continue
            wanted = wanted_labels(slot, leaving=ordinal in leaving, opened=ordinal in opened)
            found = pod["metadata"].get("labels", {})
            changes = {name: value for name, value in wanted.items() if found.get(name) != value}
            if changes:
                await self._relabel(pod, changes)

    async def _relabel(self, pod: Object, changes: dict[str, str | None]) -> None:
        metadata = pod["metadata"]
        body: Object = {"metadata": {"uid": metadata["uid"], "labels": changes}}
        try:
            await self._fleet.api.merge(PODS, metadata["namespace"], metadata["name"], body)
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another pod has its name
                raise
            return
        pod["metadata"] = {**metadata, "labels": {**metadata.get("labels", {}), **changes}}

    async def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        await self._fleet.events.add(self._state.key, self._state.uid, reason, message, warning=warning)


_ORDERS: dict[type[Action], tuple[str, str, str]] = {
    Cordon: ("/cordon", "Cordoned", "takes no new calls"),
    Drain: ("/drain", "Draining", "finishes or hands over what it has"),
    Uncordon: ("/uncordon", "Uncordoned", "takes new calls"),
}


def wanted_labels(slot: SlotObservation, *, leaving: bool, opened: bool) -> dict[str, str | None]:
    """The three labels of a pod that say what others may do with it (DESIGN 4.4, 4.6)."""
    out = (leaving or slot.cordoned or slot.draining) and not opened
    gone = slot.lease is LeaseState.LOST and not slot.serving
    empty = drained(slot) and not opened
    return {
        names.LISTED: None if out or gone else "true",
        names.TRAFFIC: None if gone else "on",
        names.PROTECTED: None if empty or slot.phase is Phase.FAILED else "true",
    }
