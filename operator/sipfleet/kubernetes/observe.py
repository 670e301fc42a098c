"""What the planner is told of a cluster: pods, nodes and leases as `SlotObservation`s. Pure: nothing is asked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sipcore.lease import LeaseView
from sipcore.record import Lease
from sipfleet.kubernetes import names
from sipfleet.plan.types import LeaseState, Phase, SlotObservation

Object = dict[str, Any]

EVICTING_TAINTS = frozenset({"NoSchedule", "NoExecute"})
OWN_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""A node that does not answer says nothing of its pods; their leases and probes do."""
BROKEN_WAITS = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
    }
)


@dataclass(slots=True)
class PodMemory:
    """What an operator keeps of a pod between two looks; another operator finds it out again."""

    uid: str
    serving: bool = False
    """Calls or media went through it at the last probe."""
    misses: int = 0
    """Probes in a row that got no answer."""
    since: float = 0.0
    signature: tuple[str, bool, bool] = ("", False, False)
    lease: Lease | None = None
    """The last one seen."""
    stored: int | None = None
    """A relay's sessions in the store, counted while no living lease speaks for them."""
    released: float = 0.0
    """Unix time since which it may be evicted; 0 while it may not."""
    opened: float = 0.0
    """Unix time until which a lease from before an uncordon is not believed."""
    named: float = 0.0
    """Unix time at which an EndpointSlice was last seen to name it to DNS."""


def pod_uid(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def ordinal_of(pod: Object) -> int | None:
    """A pod's place in its StatefulSet."""
    tail = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(tail) if tail.isdecimal() else None


def slim_pod(pod: Object) -> Object:
    """What is kept of a pod in memory: what `observation` and the actions read."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    return {
        "metadata": {
            **{
                name: metadata[name]
                for name in (
                    "name",
                    "namespace",
                    "uid",
                    "labels",
                    "deletionTimestamp",
                    "creationTimestamp",
                    "resourceVersion",
                )
                if name in metadata
            },
            "annotations": {
                name: value for name, value in (metadata.get("annotations") or {}).items() if name == names.EVICT
            },
        },
        "spec": {"nodeName": spec.get("nodeName")},
        "status": {
            name: status[name]
            for name in ("phase", "podIP", "hostIP", "conditions", "containerStatuses", "reason", "message")
            if name in status
        },
    }


def slim_node(node: Object) -> Object:
    """What is kept of a node: whether its pods have to leave, whether it answers, and what addresses are its own."""
    metadata, spec = node["metadata"], node.get("spec", {})
    return {
        "metadata": {"name": metadata["name"], "resourceVersion": metadata.get("resourceVersion")},
        "spec": {
            "unschedulable": bool(spec.get("unschedulable")),
            "taints": spec.get("taints") or [],
            "podCIDRs": spec.get("podCIDRs") or [],
        },
        "status": {
            "conditions": [
                {"type": "Ready", "status": c.get("status")}
                for c in node.get("status", {}).get("conditions") or []
                if c["type"] == "Ready"
            ],
            "addresses": node.get("status", {}).get("addresses") or [],
        },
    }


def slim_slice(found: Object) -> Object:
    """What is kept of an EndpointSlice: the pods that DNS in the cluster names."""
    metadata = found["metadata"]
    ready = [one for one in found.get("endpoints") or [] if (one.get("conditions") or {}).get("ready") is not False]
    return {
        "metadata": {
            name: metadata[name] for name in ("name", "namespace", "labels", "resourceVersion") if name in metadata
        },
        "pods": sorted(one["targetRef"]["name"] for one in ready if one.get("targetRef")),
    }


def must_leave(node: Object | None, tolerated: frozenset[str] = frozenset()) -> bool:
    """Whether the pods of this node have to go: it is cordoned, or has a taint that they do not tolerate."""
    if node is None:
        return False
    spec = node["spec"]
    return bool(spec.get("unschedulable")) or any(
        taint.get("effect") in EVICTING_TAINTS
        and not taint["key"].startswith(OWN_TAINTS)
        and taint["key"] not in tolerated
        and taint["key"] != "node.kubernetes.io/unschedulable"
        for taint in spec.get("taints") or []
    )


def node_ready(node: Object | None) -> bool:
    """Whether the node's kubelet reports that it is ready; a node that is gone is not."""
    return node is not None and any(c.get("status") == "True" for c in node["status"]["conditions"])


def node_address(node: Object) -> str | None:
    """The address at which the node's kubelet listens."""
    return next((a["address"] for a in node["status"]["addresses"] if a.get("type") == "InternalIP"), None)


def phase_of(pod: Object, node: Object | None) -> tuple[Phase, str]:
    """The phase of a pod and why, for people."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return Phase.TERMINATING, ""
    if node is None and pod["spec"].get("nodeName"):
        return Phase.DEAD, f"its node {pod['spec']['nodeName']} is gone"
    if status.get("phase") in ("Failed", "Succeeded"):
        return Phase.DEAD, status.get("message") or status.get("reason") or f"the pod has {status['phase'].lower()}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Phase.UNSCHEDULABLE, condition.get("message") or condition.get("reason") or ""
    for container in status.get("containerStatuses") or []:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in BROKEN_WAITS:
            ended = (container.get("lastState", {}).get("terminated") or {}).get("exitCode")
            why = f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ")
            return Phase.FAILED, why + (f" (exit status {ended})" if ended is not None else "")
        if container.get("state", {}).get("running") is None:
            return Phase.PENDING, waiting.get("reason") or ""
    if status.get("phase") != "Running":
        return Phase.PENDING, ""
    return Phase.RUNNING, ""


def never_started(pod: Object) -> bool:
    """No container of this pod has ever run: it cannot have had a lease or a call."""
    containers = pod.get("status", {}).get("containerStatuses") or []
    return pod.get("status", {}).get("phase") in (None, "Pending") and not any(
        one.get("restartCount") or one.get("state", {}).get("running") or one.get("state", {}).get("terminated")
        for one in containers
    )


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or [])


def lease_of(view: LeaseView | None, name: str, uid: str) -> Lease | None:
    """The living lease of this pod: its latest process, when a container was restarted in place."""
    if view is None:
        return None
    found = [lease for lease in view.leases.values() if lease.pod == name and lease.uid.partition(".")[0] == uid]
    return max(found, key=lambda lease: lease.started, default=None)


def lease_state(
    memory: PodMemory, living: Lease | None, view: LeaseView | None, available: bool, now: float, *, ready: bool = False
) -> LeaseState:
    """`now` is the clock of `view` (DESIGN 2.7: a missing lease counts only after a whole life of the same store).

    A pod that was `ready` had a lease, also when we came too late to see it: its node may have died with the operator
    before us.
    """
    if not available or view is None:
        return LeaseState.UNKNOWN
    if living is not None:
        return LeaseState.ALIVE
    if not view.trusted(now):
        return LeaseState.UNKNOWN
    return LeaseState.LOST if memory.lease is not None or ready else LeaseState.NONE


def observation(
    pod: Object,
    node: Object | None,
    memory: PodMemory,
    lease: LeaseState,
    relay: bool,
    now: float,
    evict: bool,
    *,
    available: bool = True,
) -> SlotObservation:
    """One pod as the planner sees it; `now` is Unix time. `memory` is brought up to date.

    A pod whose lease was never in the store, which is `available`, is not found by others: nobody gives it a call.
    """
    phase, message = phase_of(pod, node)
    unlisted = available and memory.lease is None
    if unlisted and memory.serving and phase is Phase.RUNNING:
        message = "its lease is not in the store yet"
    ready = is_ready(pod)
    signature = (phase.value, ready, memory.serving)
    if signature != memory.signature:
        memory.signature, memory.since = signature, now
    said = memory.lease
    opened = now < memory.opened
    active: int | None
    transactions: int | None
    if lease is LeaseState.ALIVE and said is not None:
        active, transactions, empty = said.active, said.transactions, said.empty
    elif lease in (LeaseState.NONE, LeaseState.LOST) and phase is not Phase.RUNNING:
        # No process: a relay's sessions wait in the store, a proxy's dialogs for another proxy.
        active = memory.stored if relay else 0
        transactions, empty = 0, active == 0
    elif lease is LeaseState.NONE and relay:
        active, transactions, empty = memory.stored, 0, memory.stored == 0
    else:
        active, transactions, empty = (said.active if said else None), (said.transactions if said else None), False
    if lease is LeaseState.NONE and not relay:
        empty = True
    return SlotObservation(
        ordinal=ordinal_of(pod) or 0,
        uid=memory.uid,
        revision=pod["metadata"].get("labels", {}).get(names.REVISION, ""),
        version=said.version if said is not None else None,
        phase=phase,
        ready=ready,
        serving=memory.serving and not (unlisted and lease is LeaseState.UNKNOWN),
        lease=lease,
        cordoned=said is not None and said.cordoned and not opened,
        draining=said is not None and said.draining and not opened,
        active=active,
        transactions=transactions,
        capacity=said.capacity if said is not None else None,
        empty=empty and not opened,
        address=pod.get("status", {}).get("podIP"),
        since=memory.since,
        evict=evict,
        message=message,
        named=memory.named,
    )


def unborn(ordinal: int, revision: str, stored: int | None, relay: bool, since: float) -> SlotObservation:
    """A slot that was ordered and has no pod yet: the StatefulSet controller is about to make it."""
    active = stored if relay else 0
    return SlotObservation(
        ordinal=ordinal,
        uid="",
        revision=revision,
        phase=Phase.PENDING,
        lease=LeaseState.NONE if active is not None else LeaseState.UNKNOWN,
        active=active,
        empty=active == 0,
        since=since,
        message="waits for the StatefulSet controller",
    )


def unix(time: str | None) -> float:
    """Unix time of an RFC 3339 time, 0 without one."""
    return datetime.fromisoformat(time).timestamp() if time else 0.0


def by_ordinal(pods: Mapping[str, Object]) -> dict[int, Object]:
    """The pods of one set by their place."""
    return {ordinal: pod for pod in pods.values() if (ordinal := ordinal_of(pod)) is not None}
