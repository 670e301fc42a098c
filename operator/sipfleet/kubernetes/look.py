"""What the planner is told of one set: its pods, their nodes, their leases, and whether calls go through them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from sipfleet.kubernetes import names, observe, outlook, pods, prometheus
from sipfleet.kubernetes.client import Object
from sipfleet.kubernetes.fleet import Fleet
from sipfleet.kubernetes.layout import revision_of_slot
from sipfleet.kubernetes.objects import services
from sipfleet.kubernetes.observe import PodMemory
from sipfleet.kubernetes.outlook import Seen
from sipfleet.kubernetes.sets import Resource, SetState
from sipfleet.plan import LeaseState, Observed, Phase, Probe, SlotObservation


async def look_at(fleet: Fleet, state: SetState, resource: Resource) -> Observed:
    """What stands now, of one set."""
    key = state.key
    relay = key.kind == "MediaPool"
    found = observe.by_ordinal(fleet.of(fleet.pods, key))
    reader, view = fleet.stores.reader(key), fleet.stores.view(key)
    if reader is not None and (view is None or reader.available is None):
        await fleet.stores.read_now(key)
        view = fleet.stores.view(key)
    available = bool(reader is not None and reader.available)
    clock = asyncio.get_running_loop().time()
    for name in set(state.memory) - {pod["metadata"]["name"] for pod in found.values()}:
        del state.memory[name]
    states: dict[int, LeaseState] = {}
    unproved = []
    for ordinal, pod in found.items():
        name, uid = pod["metadata"]["name"], observe.pod_uid(pod)
        memory = state.memory.get(name)
        if memory is None or memory.uid != uid:
            memory = state.memory[name] = PodMemory(uid)
        living = observe.lease_of(view, name, uid)
        states[ordinal] = observe.lease_state(memory, living, view, available, clock, ready=observe.is_ready(pod))
        if observe.never_started(pod):  # whatever the store says or cannot say
            states[ordinal] = LeaseState.NONE
        memory.lease = living or memory.lease
        memory.stored = fleet.stores.stored.get((key, name))
        running = observe.phase_of(pod, fleet.node_of(pod))[0] is Phase.RUNNING
        quiet = living is not None and living.draining
        # While the store is away nobody is judged, and there is nothing to prove.
        silent = states[ordinal] in (LeaseState.LOST, LeaseState.NONE)
        if not running:
            memory.serving, memory.misses = False, 0
        elif not quiet and (not memory.serving or silent) and (observe.is_ready(pod) or memory.serving):
            unproved.append(pods.look(memory, pod, resource))
    if unproved:
        await asyncio.gather(*unproved)
    now = time.time()
    current = fleet.layout_of(state.key)
    named = fleet.named(key)
    slots: list[SlotObservation] = []
    for ordinal, pod in found.items():
        node, name = fleet.node_of(pod), pod["metadata"]["name"]
        memory = state.memory[name]
        if name in named:
            memory.named = now
        evict = observe.must_leave(node) or pod["metadata"].get("annotations", {}).get(names.EVICT) == "true"
        seen = observe.observation(pod, node, memory, states[ordinal], relay, now, evict, available=available)
        gone = seen.phase is Phase.TERMINATING and seen.lease is LeaseState.LOST and not observe.node_ready(node)
        slots.append(replace(seen, phase=Phase.DEAD, message="its node does not answer") if gone else seen)
    assert state.status is not None
    for ordinal in range(current.slots if current is not None else 0):
        if ordinal not in found:
            stored = fleet.stores.stored.get((key, services.slot_name(key, ordinal)))
            slots.append(observe.unborn(ordinal, revision_of_slot(ordinal, state.status, current), stored, relay, now))
    probes: tuple[Probe, ...] = ()
    asked = prometheus.source(resource) if not state.deleting else None
    reading = fleet.measurements.use(key, asked)
    if asked is not None:
        slots = prometheus.measured(slots, reading, key.name)
        probes = (prometheus.verdict(asked, reading, slots, key.name, now),)
    if not relay and not state.deleting:
        probes += outlook.probes(_proxies(state, found), fleet.ground)
    return Observed(
        slots=tuple(sorted(slots, key=lambda slot: slot.ordinal)),
        status=state.status,
        store_available=reader.available if reader is not None else None,
        published=state.published or (),
        address=state.address,
        probes=probes,
    )


def _proxies(state: SetState, found: Mapping[int, Object]) -> list[Seen]:
    """Those that have said something of the world."""
    seen = []
    for pod in found.values():
        memory, address = state.memory[pod["metadata"]["name"]], pods.address_of(pod)
        if memory.lease is not None and address is not None:
            seen.append(Seen(address, state.address or address, memory.lease))
    return seen
