"""What all sets share: the connection, what is watched, the stores, and applying an object only when that changes
something."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence

from sipfleet.kubernetes import names, observe
from sipfleet.kubernetes.client import (
    BUDGETS,
    BY_KIND,
    CONFIGMAPS,
    ENDPOINTSLICES,
    NODES,
    PODS,
    POLICIES,
    SECRETS,
    SERVICES,
    STATEFULSETS,
    Api,
    ApiError,
    Object,
    Resource,
)
from sipfleet.kubernetes.events import Events
from sipfleet.kubernetes.layout import SetLayout
from sipfleet.kubernetes.monitors import Monitors
from sipfleet.kubernetes.objects import store
from sipfleet.kubernetes.outlook import Ground
from sipfleet.kubernetes.pods import Orders
from sipfleet.kubernetes.prometheus import Measurements
from sipfleet.kubernetes.sets import SetState
from sipfleet.kubernetes.settings import Settings
from sipfleet.kubernetes.stores import Stores
from sipfleet.kubernetes.watch import Watch
from sipfleet.kubernetes.workqueue import WorkQueue
from sipfleet.kubernetes.zones import Zones
from sipfleet.setkey import SetKey

log = logging.getLogger("sipfleet")

GENERATED = frozenset({"StatefulSet", "PodDisruptionBudget", "NetworkPolicy"})
"""Kinds whose `metadata.generation` changes with their spec only; of the others the resourceVersion is looked at."""
UNREAD = frozenset({"StatefulSet", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"})
"""Kinds of which a pass reads nothing but what was applied: that they are as applied needs no pass."""
STATUS_INTERVAL = 10.0
"""Seconds at least between two writes of a status in which only numbers changed."""
SCALE_INTERVAL = 1.0
"""Seconds until the autoscaler looks at numbers that moved."""


class Fleet:
    """Everything that a pass over one set may need."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.api = api
        self.settings = settings
        self.queue: WorkQueue[SetKey] = WorkQueue()
        self.sets: dict[SetKey, SetState] = {}
        self.events = Events(api, settings.identity)
        self.orders = Orders(lambda state: self.queue.add(state.key))
        self.zones = Zones(api, self.events, self._again)
        self.stores = Stores(self._again, self._moved, self._orphans)
        self.measurements = Measurements(self._again)
        self.monitors = Monitors(api, self._monitors_changed)
        self.templates: dict[SetKey, dict[str, Object]] = {}
        """Pod template by revision."""
        self.members = 0
        """Goes up with each set that comes or goes."""
        self.keyed: set[SetKey] = set()
        """Clusters whose key is known to be there."""
        self._passwords: dict[str, str] = {}
        self._store_applied: dict[tuple[str, str, str], str] = {}
        self.pods = self._watch(PODS, self._owned("Pod"), observe.slim_pod)
        self.nodes = Watch(api, NODES, self._node_changed, keep=observe.slim_node)
        self._nodes_seen: dict[str, object] = {}
        self._ground: Ground | None = None
        self.statefulsets = self._watch(STATEFULSETS, self._owned("StatefulSet"))
        self.services = self._watch(SERVICES, self._owned("Service"))
        self.configmaps = self._watch(CONFIGMAPS, self._owned("ConfigMap"))
        self.budgets = self._watch(BUDGETS, self._owned("PodDisruptionBudget"))
        self.policies = self._watch(POLICIES, self._owned("NetworkPolicy"))
        self.slices = self._watch(ENDPOINTSLICES, self._slice_changed, observe.slim_slice, names.NAMING)
        self._watches = [
            self.pods,
            self.statefulsets,
            self.services,
            self.configmaps,
            self.budgets,
            self.policies,
            self.slices,
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def _watch(
        self,
        resource: Resource,
        listener: Callable[[str, Object], None],
        keep: Callable[[Object], Object] | None = None,
        selector: str = names.OURS,
    ) -> Index:
        return Index(self.api, resource, listener, self.settings.namespaces, keep, selector)

    # -- what stands

    def of(self, index: Index, key: SetKey) -> dict[str, Object]:
        """The objects of one set in a watched kind, by name."""
        return index.by_set.get(key, {})

    def layout_of(self, key: SetKey) -> SetLayout | None:
        """What the StatefulSet of a set says now."""
        found = self.statefulsets.get(key.namespace, key.name)
        if found is None:
            return None
        spec = found["spec"]
        partition = spec.get("updateStrategy", {}).get("rollingUpdate", {}).get("partition", 0)
        label = spec["template"]["metadata"].get("labels", {}).get(names.REVISION, "")
        return SetLayout(int(spec.get("replicas", 0)), label, int(partition))

    def node_of(self, pod: Object) -> Object | None:
        name = pod["spec"].get("nodeName")
        return self.nodes.get("", name) if name else None

    @property
    def ground(self) -> Ground:
        """The addresses that belong to the cluster; made again when a node has changed."""
        if self._ground is None:
            self._ground = Ground.of(self.nodes)
        return self._ground

    def named(self, key: SetKey) -> set[str]:
        """The pods of a set that DNS in the cluster names now."""
        return {pod for found in self.of(self.slices, key).values() for pod in found["pods"]}

    def name_taken(self, key: SetKey) -> bool:
        """Whether a set of the other kind had this name before."""
        other = SetKey("MediaPool" if key.kind == "SipCluster" else "SipCluster", key.namespace, key.name)
        if other not in self.sets or key not in self.sets:
            return False
        born = [(self.sets[one].manifest["metadata"].get("creationTimestamp", ""), one.kind) for one in (key, other)]
        return born[0] > born[1]

    @staticmethod
    def now() -> float:
        return time.time()

    # -- life

    async def start(self) -> None:
        """Begin to watch; returns when everything that stands is known."""
        watches = [self.nodes, *(watch for index in self._watches for watch in index.watches)]
        self._tasks = [asyncio.ensure_future(watch.run()) for watch in watches]
        await asyncio.gather(*(watch.synced.wait() for watch in watches))

    async def blind(self) -> None:
        """Returns when a watch has ended, which only a fault in it can do: who does not see must not act."""
        ended, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            log.error("a watch ended: %r", task.exception())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.orders.close()
        await self.zones.close()
        await self.stores.close()
        await self.measurements.close()
        await self.events.close()

    # -- what changed

    def set_changed(self, kind: str, manifest: Object) -> None:
        """From the watch of SipClusters and MediaPools: `ADDED`, `MODIFIED`, `DELETED` (or None for what stands)."""
        metadata = manifest["metadata"]
        key = SetKey(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        state = self.sets.get(key)
        if kind == "DELETED":
            if state is not None and state.uid == metadata["uid"]:
                del self.sets[key]
                self.members += 1
                self.queue.forget(key)
                self.stores.forget(key)
                self.measurements.forget(key)
                self.zones.forget(key)
                self.templates.pop(key, None)
                self.keyed.discard(key)
                if not any(other.namespace == key.namespace for other in self.sets):
                    self._forget_store(key.namespace)
            return
        if state is None or state.uid != metadata["uid"]:
            self.sets[key] = SetState(key, manifest)
            self.members += 1
        else:
            old, state.manifest = state.manifest["metadata"], manifest
            relevant = ("generation", "deletionTimestamp", "finalizers")
            if all(old.get(name) == metadata.get(name) for name in relevant):
                return
        self.queue.add(key)

    def _forget_store(self, namespace: str) -> None:
        """The managed store of a namespace goes with its last set, or somebody took a part of it away."""
        self._passwords.pop(namespace, None)
        for mark in [mark for mark in self._store_applied if mark[0] == namespace]:
            del self._store_applied[mark]
        self.members += 1

    def _owned(self, kind: str) -> Callable[[str, Object], None]:
        def changed(event: str, found: Object) -> None:
            metadata = found["metadata"]
            namespace = metadata.get("namespace", "")
            key = names.owner_of(metadata.get("labels", {}), namespace)
            if event == "DELETED" and metadata.get("labels", {}).get(names.APP_NAME) == store.NAME and kind != "Pod":
                self._forget_store(namespace)
                for other in self.sets:
                    if other.namespace == namespace:
                        self.queue.add(other)
            if key is None or (state := self.sets.get(key)) is None:
                return
            mark = (kind, metadata["name"])
            if mark in state.applied:
                if event == "DELETED" or _mark(kind, found) != state.applied[mark][1]:
                    # Somebody changed what is ours, or the API server filled something in: it is applied again.
                    del state.applied[mark]
                    state.drift += 1
                elif kind in UNREAD:
                    return
            self.queue.add(key)

        return changed

    def _node_changed(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        if event == "DELETED":
            self._nodes_seen.pop(name, None)
        else:
            said = (node["spec"], node["status"])
            if self._nodes_seen.get(name) == said:
                return  # kubelets report again and again that they are well
            self._nodes_seen[name] = said
        self._ground = None
        for pod in self.pods:
            if pod["spec"].get("nodeName") == name:
                key = names.owner_of(pod["metadata"].get("labels", {}), pod["metadata"]["namespace"])
                if key in self.sets:
                    self.queue.add(key)

    def _slice_changed(self, event: str, found: Object) -> None:
        metadata = found["metadata"]
        self._again(names.owner_of(metadata.get("labels", {}), metadata["namespace"]))

    def _again(self, key: SetKey | None) -> None:
        if key in self.sets:
            self.queue.add(key)

    def _monitors_changed(self) -> None:
        for key, state in self.sets.items():
            state.applied.pop(("ServiceMonitor", key.name), None)
            self.queue.add(key)

    def _moved(self, key: SetKey) -> None:
        """Calls came and went: the status tells of it in a while, the autoscaler wants to know soon."""
        state = self.sets.get(key)
        if state is not None and state.resource is not None:
            manual = state.resource.spec.autoscale is None
            self.queue.add_after(key, STATUS_INTERVAL if manual else SCALE_INTERVAL)

    def _orphans(self, key: SetKey) -> list[str]:
        """Relays of which no living lease speaks, and slots without a pod."""
        if key.kind != "MediaPool":
            return []
        view = self.stores.view(key)
        found = self.statefulsets.get(key.namespace, key.name)
        count = int(found["spec"].get("replicas", 0)) if found is not None else 0
        alive = {lease.pod for lease in view.leases.values()} if view is not None else set()
        return [name for n in range(count) if (name := f"{key.name}-{n}") not in alive]

    # -- deeds

    async def ensure(self, state: SetState, body: Object) -> bool:
        """Apply an object of a set unless it stands as it is; -> whether it was applied."""
        kind, name = body["kind"], body["metadata"]["name"]
        text = _digest(body)
        applied = state.applied.get((kind, name))
        if applied is not None and applied[0] == text:
            return False
        found = await self.api.apply(body)
        state.applied[kind, name] = (text, _mark(kind, found))
        return True

    async def remove(self, state: SetState, kind: str, name: str) -> None:
        """Delete an object of a set that is not needed any more."""
        found = await self.api.get(BY_KIND[kind], state.key.namespace, name)
        if found is not None and names.owner_of(found["metadata"].get("labels", {}), state.key.namespace) == state.key:
            await self.api.delete(BY_KIND[kind], state.key.namespace, name, found["metadata"]["uid"])
        state.applied.pop((kind, name), None)

    async def create_once(self, body: Object) -> None:
        """Create an object unless one of its name is there already."""
        try:
            await self.api.create(BY_KIND[body["kind"]], body["metadata"]["namespace"], body)
        except ApiError as error:
            if error.status != 409:
                raise

    async def warm(self) -> None:
        """What a standby does: it reads the stores, so that it can tell at once whose lease is lost when it leads."""
        for key, state in list(self.sets.items()):
            state.read()
            wanted = state.resource.spec.store if state.resource is not None else None
            if wanted is None or self.stores.reader(key) is not None:
                continue
            if wanted.url is not None:
                self.stores.use(key, wanted.url)
            elif (password := await self._password(key.namespace)) is not None:
                self.stores.use(key, store.store_url(key.namespace, store.encoded(password)))

    async def _password(self, namespace: str) -> str | None:
        """The managed store's password; None while there is none."""
        if namespace not in self._passwords:
            found = await self.api.get(SECRETS, namespace, names.STORE_SECRET)
            if found is None:
                return None
            self._passwords[namespace] = b64decode(found["data"][names.STORE_SECRET_KEY]).decode()
        return self._passwords[namespace]

    async def _store_secret(self, namespace: str, owners: Sequence[Object]) -> str | None:
        """The secret with the store's password is there and these sets own it; -> the password. With other sets than
        before it is looked at again: it may have gone with the last of those, or be about to."""
        mark = (namespace, "Secret", names.STORE_SECRET)
        text = json.dumps(owners, sort_keys=True)
        if self._store_applied.get(mark) == text:
            return self._passwords[namespace]
        references = [dict(owner, controller=False, blockOwnerDeletion=False) for owner in owners]
        body = store.password_secret(namespace, secrets.token_hex(24))
        body["metadata"]["ownerReferences"] = references
        await self.create_once(body)
        found = await self.api.get(SECRETS, namespace, names.STORE_SECRET)
        if found is None:
            return None
        owned = {"metadata": {"uid": found["metadata"]["uid"], "ownerReferences": references}}
        await self.api.merge(SECRETS, namespace, names.STORE_SECRET, owned)
        self._passwords[namespace] = b64decode(found["data"][names.STORE_SECRET_KEY]).decode()
        self._store_applied[mark] = text
        return self._passwords[namespace]

    async def managed_store(self, namespace: str) -> str | None:
        """The store of a namespace is there, owned by all sets that use it; -> its password."""
        owners = [
            store.owner_references(key, state.uid)
            for key, state in sorted(self.sets.items())
            if key.namespace == namespace
            and state.resource is not None
            and state.resource.spec.store.managed is not None
        ]
        if not owners:
            return self._passwords.get(namespace)
        password = await self._store_secret(namespace, owners)
        if password is None:
            return None
        for body in store.store_objects(namespace, owners, self.settings):
            mark = (namespace, body["kind"], body["metadata"]["name"])
            text = _digest(body)
            if self._store_applied.get(mark) != text:
                await self.api.apply(body)
                self._store_applied[mark] = text
        return password


class Index:
    """The watches of one kind, one for each watched namespace, and its objects by the set that they belong to."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        listener: Callable[[str, Object], None],
        namespaces: tuple[str, ...],
        keep: Callable[[Object], Object] | None,
        selector: str,
    ) -> None:
        self.by_set: dict[SetKey, dict[str, Object]] = {}
        self._listener = listener
        more = {"keep": keep} if keep is not None else {}
        self.watches = [
            Watch(api, resource, self._changed, namespace=one, selector=selector, **more)
            for one in namespaces or (None,)
        ]

    def get(self, namespace: str, name: str) -> Object | None:
        return next((found for watch in self.watches if (found := watch.get(namespace, name)) is not None), None)

    def __iter__(self) -> Iterator[Object]:
        return (found for watch in self.watches for found in watch)

    def _changed(self, event: str, found: Object) -> None:
        metadata = found["metadata"]
        key = names.owner_of(metadata.get("labels", {}), metadata.get("namespace", ""))
        if key is not None:
            if event == "DELETED":
                left = self.by_set.get(key, {})
                left.pop(metadata["name"], None)
                if not left:
                    self.by_set.pop(key, None)
            else:
                self.by_set.setdefault(key, {})[metadata["name"]] = found
        self._listener(event, found)


def _mark(kind: str, found: Object) -> str:
    metadata = found["metadata"]
    return str(metadata.get("generation") if kind in GENERATED else metadata.get("resourceVersion"))


def _digest(body: Object) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(text, digest_size=12).hexdigest()
