"""The fake cloud: gives Services of type LoadBalancer an address, and routes it to the nodes that can serve it.

It does what a network load balancer that keeps source addresses does (a cloud's, or MetalLB's by BGP): packets reach a
node as they came, addressed to the Service. A node gets them while its health check says so. That is for
`externalTrafficPolicy: Local` the Service's healthCheckNodePort, by which kube-proxy tells whether the node has serving
endpoints, and for `Cluster` kube-proxy's own health.

    python -m e2e.cluster.cloud      (inside the cloud's network namespace)

Decisions are the functions and classes of the first half; the second half does what they say.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from e2e.cluster import layout, volumes
from e2e.cluster.api import Api, ApiError, Object

PERIOD = 1.0
"""Seconds between two health checks of a node."""
PATIENCE = 0.8
"""Seconds that a health check may take."""
FAILURES = 2
"""So many failed checks in a row mean that a node is out; one good one that it is in."""
KUBE_PROXY_PORT = 10256

NOBODY = -1
"""The health check port of a Service that has none."""


@dataclass(frozen=True)
class Service:
    """What matters of a Service of type LoadBalancer."""

    namespace: str
    name: str
    check_port: int
    wanted: str | None
    """The address that its spec asks for."""
    address: str | None
    """The address that its status shows."""

    @property
    def key(self) -> str:
        """Its name in the cluster."""
        return f"{self.namespace}/{self.name}"


def read(item: Object) -> Service | None:
    """A Service that is ours to serve, or None."""
    spec, metadata = item["spec"], item["metadata"]
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") or metadata.get("deletionTimestamp"):
        return None
    local = spec.get("externalTrafficPolicy") == "Local"
    ingress = item.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        check_port=spec.get("healthCheckNodePort", NOBODY) if local else KUBE_PROXY_PORT,
        wanted=spec.get("loadBalancerIP") or None,
        address=ingress[0].get("ip"),
    )


def assign(services: Iterable[Service]) -> dict[str, str]:
    """An address for each Service, by key; none for one whose wanted address another has, or is not ours.

    A Service keeps what its status shows. A new one starts to look at a place that its name determines, so that one
    which is deleted and made again gets the same address.
    """
    ordered = sorted(services, key=lambda service: service.key)
    given: dict[str, str] = {}
    taken: set[str] = set()

    def give(service: Service, address: str) -> None:
        given[service.key] = address
        taken.add(address)

    for service in ordered:
        keeps = service.address is not None and service.wanted in (None, service.address)
        if keeps and service.address is not None and _is_ours(service.address) and service.address not in taken:
            give(service, service.address)
    for service in ordered:
        wanted = service.wanted
        if service.key not in given and wanted is not None and _is_ours(wanted) and wanted not in taken:
            give(service, wanted)
    hosts = list(layout.LOAD_BALANCER_NETWORK.hosts())
    for service in ordered:
        if service.key in given or service.wanted is not None:
            continue
        start = int.from_bytes(hashlib.sha256(service.key.encode()).digest()[:4])
        for step in range(len(hosts)):
            address = str(hosts[(start + step) % len(hosts)])
            if address not in taken:
                give(service, address)
                break
    return given


def _is_ours(address: str) -> bool:
    try:
        return IPv4Address(address) in layout.LOAD_BALANCER_NETWORK
    except ValueError:
        return False


@dataclass
class Health:
    """What the health checks of one port at one node say."""

    serving: bool = False
    failures: int = 0

    def observe(self, good: bool) -> bool:
        """Takes the outcome of a check; returns whether that changed anything."""
        before = self.serving
        self.failures = 0 if good else self.failures + 1
        if good:
            self.serving = True
        elif self.failures >= FAILURES:
            self.serving = False
        return self.serving != before


@dataclass
class State:
    """All that the fake cloud knows."""

    services: dict[str, Service] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    """The nodes' addresses."""
    health: dict[tuple[str, int], Health] = field(default_factory=dict)
    """By node address and port."""

    def checks(self) -> set[tuple[str, int]]:
        """What there is to check: (node address, port)."""
        ports = {service.check_port for service in self.services.values()} - {NOBODY}
        return {(node, port) for node in self.nodes for port in ports}

    def forget(self) -> None:
        """Drops the health of what is not checked any more."""
        wanted = self.checks()
        self.health = {check: health for check, health in self.health.items() if check in wanted}

    def routes(self) -> dict[str, tuple[str, ...]]:
        """The nodes that each address goes to; no entry for an address that no node serves."""
        made: dict[str, tuple[str, ...]] = {}
        for key, address in assign(self.services.values()).items():
            port = self.services[key].check_port
            up = tuple(node for node in self.nodes if (found := self.health.get((node, port))) and found.serving)
            if up:
                made[address] = up
        return made


def route_commands(before: Mapping[str, tuple[str, ...]], after: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The `ip` commands that lead from some routes to others."""
    commands = [f"route delete {address}/32" for address in sorted(before) if address not in after]
    for address, nodes in sorted(after.items()):
        if before.get(address) != nodes:
            commands.append(f"route replace {address}/32 " + " ".join(f"nexthop via {node}" for node in nodes))
    return commands


# --- carrying it out --------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line of the log, with the time."""
    print(f"{time.strftime('%H:%M:%S')}.{int(time.time() * 1000) % 1000:03d} {text}", flush=True)


async def check(node: str, port: int) -> bool:
    """One health check."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(node, port)
            try:
                writer.write(f"GET /healthz HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
            return status.split()[1:2] == [b"200"]
    except (OSError, TimeoutError):
        return False


class Cloud:
    """The running cloud: one loop for the health checks and routes, a thread for each watch."""

    def __init__(self) -> None:
        self.state = State()
        self.routes: dict[str, tuple[str, ...]] = {}
        self.loop = asyncio.get_running_loop()
        self.writer = Api(layout.PKI / "cloud.kubeconfig")
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """For ever."""
        self._in_thread("services", self.watch_services)
        self._in_thread("nodes", self.watch_nodes)
        self._in_thread("volumes", lambda: volumes.recycle(Api(layout.PKI / "cloud.kubeconfig"), say))
        last = 0.0
        while True:
            try:
                async with asyncio.timeout(max(0.0, last + PERIOD - self.loop.time())):
                    await self.changed.wait()
                # A Service that has just come is not left waiting for its turn.
                self.changed.clear()
                await self.observe(self.state.checks() - set(self.state.health))
            except TimeoutError:
                last = self.loop.time()
                await self.observe(self.state.checks())

    async def observe(self, checks: set[tuple[str, int]]) -> None:
        """Makes checks and takes over what they say."""
        outcomes = await asyncio.gather(*(self._observe(*each) for each in checks))
        del outcomes
        self.state.forget()
        self.route()

    async def _observe(self, node: str, port: int) -> None:
        good = await check(node, port)
        if self.state.health.setdefault((node, port), Health()).observe(good):
            say(f"{node} port {port}: {'serving' if good else 'not serving'}")
            self.route()

    def route(self) -> None:
        """Makes the routes what they should be."""
        wanted = self.state.routes()
        commands = route_commands(self.routes, wanted)
        if not commands:
            return
        batch = "\n".join(commands)
        done = subprocess.run(["ip", "-force", "-batch", "-"], input=batch, text=True, capture_output=True)
        for command in commands:
            say(command)
        if done.returncode:
            say(f"ip: {done.stderr.strip()}")
        self.routes = wanted

    def _in_thread(self, what: str, work: Callable[[], None]) -> None:
        def forever() -> None:
            while True:
                try:
                    work()
                except (ApiError, OSError, http.client.HTTPException, ValueError) as error:
                    say(f"{what}: {type(error).__name__}: {error}")
                    time.sleep(1.0)

        threading.Thread(target=forever, daemon=True, name=what).start()

    def watch_services(self) -> None:
        """Lists and then watches the Services of type LoadBalancer, until the watch ends."""
        api = Api(layout.PKI / "cloud.kubeconfig")
        path = "/api/v1/services?fieldSelector=spec.type%3DLoadBalancer"
        listed = api.get(path)
        services = {}
        for item in listed["items"]:
            if (service := read(item)) is not None:
                services[service.key] = service
        self.loop.call_soon_threadsafe(self.replace_services, services)
        for kind, item in api.watch(path, listed["metadata"]["resourceVersion"]):
            if kind == "BOOKMARK":
                continue
            service = None if kind == "DELETED" else read(item)
            key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            self.loop.call_soon_threadsafe(self.put_service, key, service)

    def watch_nodes(self) -> None:
        """Looks every five seconds which nodes there are; whether they are well is told by the health checks."""
        items = Api(layout.PKI / "cloud.kubeconfig").get("/api/v1/nodes")["items"]
        found = [
            address["address"]
            for item in items
            for address in item["status"].get("addresses", [])
            if address["type"] == "InternalIP"
        ]
        self.loop.call_soon_threadsafe(self.put_nodes, tuple(sorted(found)))
        time.sleep(5.0 if found else 0.5)

    def replace_services(self, services: dict[str, Service]) -> None:
        """Takes a whole list."""
        self.state.services = services
        self.serve()

    def put_service(self, key: str, service: Service | None) -> None:
        """Takes one Service, or that it is gone."""
        if service is not None:
            self.state.services[key] = service
        elif self.state.services.pop(key, None) is not None:
            say(f"{key}: gone, its address is taken back")
        self.serve()

    def put_nodes(self, nodes: tuple[str, ...]) -> None:
        """Takes the nodes' addresses."""
        if nodes != self.state.nodes:
            self.state.nodes = nodes
            self.changed.set()

    def serve(self) -> None:
        """Writes addresses into status where they are not what they should be."""
        given = assign(self.state.services.values())
        for key, service in self.state.services.items():
            address = given.get(key)
            if address is None:
                say(f"{key}: no address (wanted {service.wanted})")
            elif service.address != address:
                self.loop.run_in_executor(None, self._publish, service, address)
        self.route()
        self.changed.set()

    def _publish(self, service: Service, address: str) -> None:
        status = {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}}
        path = f"/api/v1/namespaces/{service.namespace}/services/{service.name}/status"
        for _ in range(30):
            try:
                Api(layout.PKI / "cloud.kubeconfig").merge(path, status)
            except ApiError as error:
                say(f"{service.key}: {error}")
                if error.status == 404:
                    return
            except (OSError, http.client.HTTPException) as error:
                say(f"{service.key}: {error}")
            else:
                say(f"{service.key}: {address}")
                return
            time.sleep(1.0)


async def _main() -> None:
    await Cloud().run()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except KeyboardInterrupt:
        sys.exit(130)
