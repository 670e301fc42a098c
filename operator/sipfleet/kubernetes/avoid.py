"""A node that died a moment ago and that Kubernetes still takes for Ready: no pod of ours may be put there again.

The node's own lease is missed only after some 40 s, and until then the scheduler likes a node that has just become
empty. So a *tombstone* is put on it: a pod that is bound to the node and never starts, and that every pod of ours
refuses to share a node with (`podAntiAffinity` in the template). It goes when Kubernetes knows, or when the kubelet
answers again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING

import aiohttp

from sipfleet.kubernetes import names, observe
from sipfleet.kubernetes.client import PODS, ApiError, Object
from sipfleet.kubernetes.objects import security

if TYPE_CHECKING:
    from sipfleet.kubernetes.fleet import Fleet

log = logging.getLogger("sipfleet.nodes")

KUBELET_PORT = 10250
TIMEOUT = 0.7
"""Seconds that a kubelet may take for an answer."""
LIFE = 100.0
"""Seconds after which a tombstone goes in any case: by then Kubernetes has its own opinion of the node."""
SWEEP = 5.0


def _unverified() -> ssl.SSLContext:
    """Only whether somebody answers is asked, nothing is told and nothing is believed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def kubelet_answers(node: Object) -> bool:
    """Whether a node's kubelet says anything at all, a refusal included."""
    address = observe.node_address(node)
    if address is None:
        return True
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session,
            session.get(f"https://{host}:{KUBELET_PORT}/healthz", ssl=_unverified()),
        ):
            return True
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def avoid(fleet: Fleet, namespace: str, node: Object, image: str) -> None:
    """Put a tombstone on a node whose kubelet does not answer, while Kubernetes takes it for Ready."""
    name = node["metadata"]["name"]
    if not observe.node_ready(node) or await kubelet_answers(node):
        return
    log.warning("node %s: its kubelet does not answer; no pod of ours is put there for a while", name)
    try:
        await fleet.api.create(PODS, namespace, tombstone(namespace, name, image, fleet.settings.pull_policy))
    except ApiError as error:
        if error.status != 409:  # it is there already
            log.warning("node %s: %s", name, error)


def tombstone(namespace: str, node: str, image: str, pull_policy: str) -> Object:
    """A pod that is bound to a dead node. Should the node come back, it ends at once."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"sipfleet-avoid-{node}"[:253],
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.FIELD_MANAGER, names.AVOID: "true"},
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": security.POD,
            "containers": [
                {
                    "name": "tombstone",
                    "image": image,
                    "imagePullPolicy": pull_policy,
                    "command": ["/bin/true"],
                    "resources": {"requests": {"cpu": "0", "memory": "0"}},
                    "securityContext": security.CONTAINER,
                }
            ],
        },
    }


async def sweep(fleet: Fleet) -> None:
    """Take tombstones away that are not needed any more; runs for ever."""
    while True:
        await asyncio.sleep(SWEEP)
        for pod in fleet.pods:
            metadata = pod["metadata"]
            if metadata.get("labels", {}).get(names.AVOID) != "true":
                continue
            node = fleet.node_of(pod)
            old = time.time() - observe.unix(metadata.get("creationTimestamp")) > LIFE
            if old or node is None or not observe.node_ready(node) or await kubelet_answers(node):
                try:
                    await fleet.api.delete(PODS, metadata["namespace"], metadata["name"], metadata["uid"], grace=0)
                except ApiError as error:
                    log.warning("pod/%s: %s", metadata["name"], error)
