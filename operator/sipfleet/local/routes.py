"""What a supervisor answers on its socket: the table of paths, and what is asked and told behind each."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

import sipcore
from sipfleet.api import ManifestError, parse_manifests, scaled
from sipfleet.local import releases
from sipfleet.local.apiserver import Answer, ApiServer, Handler, Request, problem
from sipfleet.local.sets import SetState
from sipfleet.local.slots import Slot
from sipfleet.local.state import StateDirectory
from sipfleet.local.supervisor import Supervisor
from sipfleet.local.view import pod_row, resource_row, srv_rows
from sipfleet.store import MAX_ROWS, StoreError

FRESH = 0.2
"""Seconds: what is told of pods is not older than this, or than their own last heartbeat."""

KINDS = {"sipclusters": "SipCluster", "mediapools": "MediaPool"}

_SET = r"/v1/(?P<kind>sipclusters|mediapools)/(?P<name>[^/]+)"
_POD = r"/v1/pods/(?P<name>[^/]+)"


class Routes:
    """The handlers, bound to one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", r"/v1", self.info),
            ("GET", r"/v1/(?P<kind>sipclusters|mediapools)", self.list_sets),
            ("GET", _SET, self.get_set),
            ("DELETE", _SET, self.delete_set),
            ("POST", _SET + "/scale", self.scale),
            ("PUT", r"/v1/manifests", self.apply),
            ("GET", r"/v1/pods", self.list_pods),
            ("GET", _POD, self.get_pod),
            ("POST", _POD + "/drain", self.drain),
            ("GET", r"/v1/calls", self.calls),
            ("GET", r"/v1/cdrs", self.cdrs),
            ("GET", r"/v1/srv", self.srv),
            ("GET", r"/v1/events", self.list_events),
            ("GET", r"/v1/releases", self.list_releases),
            ("POST", r"/v1/stop", self.stop),
        ]

    async def info(self, request: Request) -> Answer:
        up = self._supervisor
        server = up.store_server
        return 200, {
            "cluster": up.state.cluster,
            "pid": os.getpid(),
            "version": sipcore.__version__,
            "started": up.started,
            "uptime": time.time() - up.started,
            "address": up.address,
            "network": f"{up.net}.0/24",
            "state": str(up.state.path),
            "store": {
                "url": up.store.url,
                "available": up.store.available,
                "pid": server.pid if server is not None else None,
                "restarts": server.restarts if server is not None else 0,
            },
        }

    async def list_sets(self, request: Request) -> Answer:
        kind = KINDS[request.path["kind"]]
        return 200, [resource_row(one) for one in self._supervisor.sets if one.key.kind == kind]

    async def get_set(self, request: Request) -> Answer:
        one = self._find(request)
        return (200, resource_row(one)) if one is not None else self._no_set(request)

    async def delete_set(self, request: Request) -> Answer:
        one = self._find(request)
        if one is None:
            return self._no_set(request)
        users = [
            c.name
            for c in self._supervisor.sets.clusters()
            if one.key.kind == "MediaPool" and one.key.name in c.spec.media_pools
        ]
        if users:
            return problem(
                409, f"{one.key} is in use by sipcluster/{users[0]} (spec.mediaPools); take it out there first"
            )
        self._supervisor.delete(one)
        return 200, {"kind": one.key.kind, "name": one.key.name, "result": "deleting"}

    async def scale(self, request: Request) -> Answer:
        one = self._find(request)
        if one is None:
            return self._no_set(request)
        wanted = request.body.get("replicas") if isinstance(request.body, dict) else None
        if not isinstance(wanted, int):
            return problem(400, 'the body is {"replicas": N}')
        try:
            resource = scaled(one.resource, wanted)
        except ManifestError as error:
            return problem(422, *error.lines)
        return 200, self._supervisor.apply([resource])[0]

    async def apply(self, request: Request) -> Answer:
        body = request.body
        files = body.get("files") if isinstance(body, dict) else None
        if not isinstance(files, list) or not all(_is_file(f) for f in files):
            return problem(400, 'the body is {"files": [{"name": ..., "text": ...}]}')
        try:
            resources = parse_manifests([(f["name"], f["text"]) for f in files])
            self._supervisor.check(resources)
        except ManifestError as error:
            return problem(422, *error.lines)
        return 200, self._supervisor.apply(resources)

    async def list_pods(self, request: Request) -> Answer:
        up = self._supervisor
        await up.sight.refresh(FRESH)
        return 200, [pod_row(up, slot) for one in up.sets for slot in up.pods.of(one.key)]

    async def get_pod(self, request: Request) -> Answer:
        slot = self._supervisor.pods.named(request.path["name"])
        if slot is None:
            return self._no_pod(request)
        await self._supervisor.sight.refresh(FRESH)
        return 200, pod_row(self._supervisor, slot)

    async def drain(self, request: Request) -> Answer:
        slot = self._supervisor.pods.named(request.path["name"])
        if slot is None:
            return self._no_pod(request)
        self._supervisor.evict(slot)
        return 200, {"kind": "Pod", "name": slot.name, "result": "draining"}

    async def calls(self, request: Request) -> Answer:
        rows: list[dict[str, Any]] = []
        try:
            for one in self._supervisor.sets.clusters():
                rows += await self._supervisor.store.calls(one.namespace, one.name, _limit(request))
        except StoreError as error:
            return problem(503, str(error))
        return 200, rows

    async def cdrs(self, request: Request) -> Answer:
        rows: list[dict[str, Any]] = []
        since = request.query.get("since", "-")
        try:
            for one in self._supervisor.sets.clusters():
                rows += await self._supervisor.store.cdrs(one.namespace, one.name, since, _limit(request))
        except StoreError as error:
            return problem(503, str(error))
        return 200, rows

    async def srv(self, request: Request) -> Answer:
        return 200, srv_rows(self._supervisor)

    async def list_events(self, request: Request) -> Answer:
        since = float(request.query.get("since", 0.0))
        return 200, [asdict(event) for event in self._supervisor.events.kept if event.time > since]

    async def list_releases(self, request: Request) -> Answer:
        found = releases.installed(self._supervisor.state)
        return 200, [{"version": version, "path": str(path)} for version, path in found.items()]

    async def stop(self, request: Request) -> Answer:
        self._supervisor.stopped.set()
        return 200, {"result": "stopping"}

    def _find(self, request: Request) -> SetState | None:
        kind, name = KINDS[request.path["kind"]], request.path["name"]
        return self._supervisor.sets.find(kind, name, request.query.get("namespace"))

    def _no_set(self, request: Request) -> Answer:
        kind = KINDS[request.path["kind"]]
        have = [one.key.name for one in self._supervisor.sets if one.key.kind == kind]
        return problem(404, f"no {kind} is called {request.path['name']}; there is: {', '.join(have) or 'none'}")

    def _no_pod(self, request: Request) -> Answer:
        have: list[Slot] = list(self._supervisor.pods.slots.values())
        names = ", ".join(sorted(slot.name for slot in have))
        return problem(404, f"no pod is called {request.path['name']}; there is: {names or 'none'}")


def api_server(state: StateDirectory, supervisor: Supervisor) -> ApiServer:
    return ApiServer(state.api_socket, Routes(supervisor).table())


def _is_file(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("text"), str)


def _limit(request: Request) -> int:
    try:
        return max(1, min(MAX_ROWS, int(request.query.get("limit", 1000))))
    except ValueError:
        return 1000
