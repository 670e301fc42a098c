"""What controllers and kubelets do, as far as the operator sees it: pods of StatefulSets come up and end, pods of
others are many and change too.

The StatefulSet controller's part: a pod for each ordinal below `replicas`, made of the template, none above; counts in
the status. The kubelet's part: a pod gets an address and runs; one that is being deleted ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from itertools import count

from common import BenchError
from control_plane import Client, Object
from played_pods import PlayedPod, PlayedPods

OURS = "app.kubernetes.io%2Fmanaged-by%3Dsipfleet"
NODES = 50
STAMP = "2026-01-01T00:00:00Z"
PARALLEL = 24
"""Requests at a time while the scene is set."""

Owner = tuple[str, str]
"""Namespace and name of a StatefulSet; pods of another kind of set never have the same."""


def node_name(number: int) -> str:
    return f"node-{number % NODES:02d}"


def node(number: int) -> Object:
    """A node that is ready."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name(number)}, "spec": {}}


NODE_STATUS = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}


def foreign_pod(namespace: str, number: int) -> Object:
    """A pod of somebody else, with what such a pod usually carries."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}",
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": f"web-{number % 40}",
                "app.kubernetes.io/managed-by": "Helm",
                "pod-template-hash": f"{number % 97:08x}",
            },
        },
        "spec": {
            "nodeName": node_name(number),
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "web",
                    "image": "registry.example/web:1",
                    "env": [{"name": f"SETTING_{n}", "value": "x" * 20} for n in range(8)],
                }
            ],
        },
    }


def running(address: str) -> Object:
    """The status of a pod that is up."""
    condition = {"status": "True", "lastTransitionTime": STAMP}
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "127.0.0.1",
            "startTime": STAMP,
            "conditions": [{"type": kind, **condition} for kind in kinds],
            "containerStatuses": [
                {
                    "name": "main",
                    "image": "registry.example/image:1",
                    "imageID": "",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": STAMP}},
                }
            ],
        }
    }


async def in_parallel(jobs: list[Callable[[], object]]) -> None:
    """Coroutine functions, `PARALLEL` at a time."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()  # type: ignore[misc]

    await asyncio.gather(*(work() for _ in range(PARALLEL)))


class PlayedCluster:
    """Controllers and kubelets of everything that the operator made."""

    def __init__(self, client: Client, pods: PlayedPods, scaled: Callable[[Owner, int], None]) -> None:
        """`scaled` is told the replicas of a StatefulSet whenever it is written."""
        self.sets: dict[Owner, Object] = {}
        self.pods: dict[tuple[str, str], Object] = {}
        """Pods of StatefulSets by (namespace, name)."""
        self.failed: BaseException | None = None
        """What ended the play."""
        self._client = client
        self._played = pods
        self._scaled = scaled
        self._numbers = count()
        self._addresses = (f"127.{1 + n // 62500}.{n // 250 % 250}.{1 + n % 250}" for n in count())
        self._busy: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ordered: set[Owner] = set()

    def start(self) -> None:
        self._spawn(self._follow_sets())
        self._spawn(self._follow_pods())

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, job: object) -> None:
        task = asyncio.ensure_future(job)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failed = self.failed or task.exception()

    # -- StatefulSet controller

    async def _follow_sets(self) -> None:
        async for kind, found in self._client.watch("/apis/apps/v1/statefulsets", OURS):
            owner = (found["metadata"]["namespace"], found["metadata"]["name"])
            if kind == "DELETED":
                self.sets.pop(owner, None)
                continue
            if kind != "BOOKMARK":
                self.sets[owner] = found
                self._scaled(owner, found["spec"]["replicas"])
                self._settle(owner)
        raise BenchError("the watch of StatefulSets ended")

    def _settle(self, owner: Owner) -> None:
        """Bring the pods of a set in line in a moment; several changes at once are one."""
        if owner not in self._ordered:
            self._ordered.add(owner)
            self._spawn(self._settled(owner))

    async def _settled(self, owner: Owner) -> None:
        await asyncio.sleep(0.05)
        self._ordered.discard(owner)
        found = self.sets.get(owner)
        if found is None:
            return
        namespace, name = owner
        wanted = found["spec"]["replicas"]
        mine = {}
        for (place, pod_name), pod in self.pods.items():
            if place == namespace and pod_name.rpartition("-")[0] == name:
                mine[int(pod_name.rpartition("-")[2])] = pod
        for ordinal in range(wanted):
            if ordinal not in mine:
                await self._make_pod(found, ordinal)
        for ordinal, pod in mine.items():
            if ordinal >= wanted and "deletionTimestamp" not in pod["metadata"]:
                path = f"/api/v1/namespaces/{namespace}/pods/{name}-{ordinal}"
                await self._client.request("DELETE", path, missing_ok=True)
        ready = sum(bool(pod.get("status", {}).get("podIP")) for pod in mine.values())
        counts = {"replicas": len(mine), "readyReplicas": ready, "availableReplicas": ready}
        status = {"observedGeneration": found["metadata"]["generation"], **counts}
        if any(found.get("status", {}).get(key) != value for key, value in status.items()):
            path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}/status"
            await self._client.request("PATCH", path, {"status": status}, merge=True, missing_ok=True)

    async def _make_pod(self, found: Object, ordinal: int) -> None:
        namespace, name = found["metadata"]["namespace"], f"{found['metadata']['name']}-{ordinal}"
        if (namespace, name) in self._busy:
            return
        self._busy.add((namespace, name))
        template = found["spec"]["template"]
        labels = {
            **template["metadata"]["labels"],
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(ordinal),
            "controller-revision-hash": "bench",
        }
        reference = {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "name": found["metadata"]["name"],
            "uid": found["metadata"]["uid"],
            "controller": True,
        }
        metadata = {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [reference]}
        metadata["annotations"] = template["metadata"].get("annotations", {})
        spec = {**template["spec"], "hostname": name, "nodeName": node_name(next(self._numbers))}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        await self._client.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)

    # -- kubelet

    async def _follow_pods(self) -> None:
        async for kind, pod in self._client.watch("/api/v1/pods", OURS):
            if kind == "BOOKMARK":
                continue
            metadata = pod["metadata"]
            key = (metadata["namespace"], metadata["name"])
            owner = (key[0], key[1].rpartition("-")[0])
            before = self.pods.get(key)
            if kind == "DELETED":
                self.pods.pop(key, None)
                self._busy.discard(key)
                self._settle(owner)
                continue
            self.pods[key] = pod
            if "deletionTimestamp" in metadata:
                if before is None or "deletionTimestamp" not in before["metadata"]:
                    self._spawn(self._end_pod(key, pod))
            elif before is None and "podIP" not in pod.get("status", {}):
                self._spawn(self._run_pod(key, pod))
                self._settle(owner)
            elif before is not None and "podIP" not in before.get("status", {}):
                self._settle(owner)
        raise BenchError("the watch of pods ended")

    async def _run_pod(self, key: tuple[str, str], pod: Object) -> None:
        address = next(self._addresses)
        labels = pod["metadata"]["labels"]
        await self._client.request(
            "PATCH",
            f"/api/v1/namespaces/{key[0]}/pods/{key[1]}/status",
            running(address),
            merge=True,
            missing_ok=True,
        )
        relay = labels["sipfleet.io/kind"] == "MediaPool"
        place = (key[0], labels["sipfleet.io/set"], key[1], pod["metadata"]["uid"])
        self._played.pods[address] = PlayedPod(*place, relay, address, labels["sipfleet.io/revision"])

    async def _end_pod(self, key: tuple[str, str], pod: Object) -> None:
        self._played.remove(pod.get("status", {}).get("podIP", ""))
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self._client.request("DELETE", f"/api/v1/namespaces/{key[0]}/pods/{key[1]}", body, missing_ok=True)


class Churn:
    """One per cent of all pods a minute: they are deleted, and others take their places."""

    def __init__(self, client: Client, cluster: PlayedCluster, foreign: list[tuple[str, int]], share: float) -> None:
        """`foreign` are (namespace, number) of the pods of others; `share` is the part that is replaced in a minute."""
        self.replaced = 0
        """Pods of StatefulSets that were deleted."""
        self.replaced_foreign = 0
        self._client = client
        self._cluster = cluster
        self._foreign = foreign
        self._share = share

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.gather(self._ours(), self._others())

    async def _ours(self) -> None:
        async for _ in _beats(60 / (self._share * len(self._cluster.pods))):
            key = random.choice(list(self._cluster.pods))
            await self._client.request("DELETE", f"/api/v1/namespaces/{key[0]}/pods/{key[1]}", missing_ok=True)
            self.replaced += 1

    async def _others(self) -> None:
        async for _ in _beats(60 / (self._share * len(self._foreign))):
            namespace, number = random.choice(self._foreign)
            await self._client.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/web-{number}")
            await make_foreign(self._client, namespace, number)
            self.replaced_foreign += 1


async def _beats(interval: float) -> AsyncIterator[None]:
    """One each `interval` seconds, however long what is done in between takes."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due += interval
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield


async def make_foreign(client: Client, namespace: str, number: int) -> None:
    """A pod of somebody else, up."""
    await client.request("POST", f"/api/v1/namespaces/{namespace}/pods", foreign_pod(namespace, number))
    status = running(f"10.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}")
    await client.request("PATCH", f"/api/v1/namespaces/{namespace}/pods/web-{number}/status", status, merge=True)
