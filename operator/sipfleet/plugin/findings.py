"""What is not as it should be with a SipCluster or MediaPool, and what to do next. Pure: manifest and status in,
findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

EXPECTED = {
    "Accepted": "True",
    "Ready": "True",
    "Degraded": "False",
    "StoreAvailable": "True",
    "MetricsAvailable": "True",
    "DrainBlocked": "False",
    "SurgeBlocked": "False",
    "EgressAddress": "True",
    "SourceAddressPreserved": "True",
    "CallsKept": "True",
}
"""Condition -> the status that is good. `Progressing` is neither; `Unknown` is not looked at yet."""

OPERATOR = "kubectl get pods --all-namespaces -l app.kubernetes.io/name=sipfleet-operator"
LEAVING = frozenset({"Cordoned", "Draining", "Empty", "Lost", "Terminating", "Dead"})
"""Phases of a pod that takes no calls any more."""

_PODS = "kubectl -n {namespace} describe pods -l sipfleet.io/kind={kind},sipfleet.io/set={name}"
_NEXT = {
    "Accepted": "correct the manifest and apply it again; what was accepted before is followed meanwhile",
    "Ready/AddressPending": (
        "something in the cluster has to give addresses to Services of type LoadBalancer (a cloud, MetalLB); else set "
        "spec.exposure.type to clusterIP or hostNetwork"
    ),
    "Ready/PodsMissing": _PODS,
    "Degraded/RolloutFailed": (
        "the revision from before serves; correct what was changed (spec.version?) and apply again: "
        "kubectl -n {namespace} get events --field-selector involvedObject.name={name}"
    ),
    "Degraded/LeaseLost": (
        "these pods do not reach the store, or hang; it takes none of their calls: " + _PODS.replace("describe", "get")
    ),
    "Degraded": _PODS,
    "DrainBlocked": (
        "wait until these calls have ended (kubectl sipfleet calls), or set spec.rollout.drainTimeoutAction to Cut, "
        "which cuts them"
    ),
    "MetricsAvailable": (
        "does spec.autoscale.prometheus.url answer, and does its query give a sample with the label pod for each pod? "
        "Calls are not touched; the number of pods does not go down meanwhile"
    ),
    "SurgeBlocked": "no node has room for a pod of the new revision: add one; the roll goes on without it",
    "EgressAddress": (
        "a target that takes SIP only from known addresses has to know this one too; docs/exposure.md says what each "
        "spec.exposure keeps"
    ),
    "SourceAddressPreserved": (
        "the load balancer has to keep source addresses, as one that honours externalTrafficPolicy: Local does; "
        "docs/exposure.md says what each spec.exposure keeps"
    ),
    "CallsKept": "docs/exposure.md says what each spec.exposure keeps",
}
"""Condition, or condition and reason -> what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know."""

    what: str
    """`Ready=False`, or words."""
    reason: str
    message: str
    since: str
    """RFC 3339; empty: not known."""
    next: str
    """What to do; empty: nothing."""


def findings(resource: Object) -> list[Finding]:
    """All of one SipCluster or MediaPool, the most urgent first."""
    return [*_unseen(resource), *_conditions(resource)]


def _unseen(resource: Object) -> Iterator[Finding]:
    metadata, status = resource["metadata"], resource.get("status") or {}
    generation, seen = metadata.get("generation", 0), status.get("observedGeneration", 0)
    if not status:
        yield Finding("no status", "", "no operator has looked at it", metadata.get("creationTimestamp", ""), OPERATOR)
    elif seen < generation:
        text = f"the operator has seen generation {seen} of {generation}"
        yield Finding("status is old", "", text, "", OPERATOR)
    if metadata.get("deletionTimestamp"):
        text = "it goes when its last call has ended"
        yield Finding("being deleted", "", text, metadata["deletionTimestamp"], "")


def _conditions(resource: Object) -> Iterator[Finding]:
    status = resource.get("status") or {}
    told = {one["type"]: one for one in status.get("conditions") or []}
    wrong = [kind for kind, good in EXPECTED.items() if kind in told and told[kind]["status"] not in (good, "Unknown")]
    for kind in wrong:
        # Another condition tells the cause.
        if kind == "CallsKept" and ("EgressAddress" in wrong or "SourceAddressPreserved" in wrong):
            continue
        if kind == "Ready" and "Accepted" in wrong and told["Ready"]["reason"] == told["Accepted"]["reason"]:
            continue
        one = told[kind]
        yield Finding(
            f"{kind}={one['status']}",
            one.get("reason", ""),
            one.get("message", ""),
            one.get("lastTransitionTime", ""),
            _next(resource, kind, one.get("reason", "")),
        )


def _next(resource: Object, kind: str, reason: str) -> str:
    metadata = resource["metadata"]
    if kind == "StoreAvailable":
        url = resource.get("spec", {}).get("store", {}).get("url")
        if url:
            return f"is {url} there, and may the pods reach it?"
        return f"kubectl -n {metadata['namespace']} get pods -l app.kubernetes.io/name=sipfleet-store"
    text = _NEXT.get(f"{kind}/{reason}") or _NEXT.get(kind, "")
    return text.format(namespace=metadata["namespace"], name=metadata["name"], kind=resource["kind"])


def progress(resource: Object) -> str:
    """What is under way, empty when nothing is."""
    for one in (resource.get("status") or {}).get("conditions") or []:
        if one["type"] == "Progressing" and one["status"] == "True":
            return f"{one.get('reason', '')}: {one.get('message', '')}".rstrip(": ")
    return ""


def leaving(resource: Object) -> list[Object]:
    """The pods that take no new calls, as the status has them."""
    pods = (resource.get("status") or {}).get("pods") or []
    return [pod for pod in pods if pod.get("drainingSince") or pod.get("phase") in LEAVING]


def summary(resource: Object) -> Object:
    """One set as `status -o json` prints it."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    return {
        "kind": resource["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "ready": status.get("readyReplicas", 0),
        "wanted": status.get("desiredReplicas"),
        "calls": status.get("activeDialogs" if resource["kind"] == "SipCluster" else "activeSessions"),
        "free": status.get("freeCapacity"),
        "version": status.get("version"),
        "address": status.get("address"),
        "exposure": status.get("exposure"),
        "progress": progress(resource),
        "findings": [
            {
                "what": one.what,
                "reason": one.reason,
                "message": one.message,
                "since": one.since or None,
                "next": one.next,
            }
            for one in findings(resource)
        ],
        "pods": [
            {
                name: pod.get(name)
                for name in ("name", "phase", "active", "capacity", "version", "address", "drainingSince", "message")
            }
            for pod in status.get("pods") or []
        ],
    }
