"""`make bench-operator`: what the Kubernetes operator costs with a large fleet, and how soon it acts on a change.

    python bench/operator_bench.py [--seconds 60] [--edits 200] [--namespaces 40] [--foreign 10000]

A real API server and a real Redis; 200 SipClusters and 40 MediaPools in 40 namespaces with 1,000 pods, which are API
objects with an address, a heartbeat lease and answers to probes (`played_cluster.py`, `played_pods.py`); 10,000 pods
of others; 1 % of all pods replaced each minute. Everything lives in a network namespace of its own. The operator has
core 0 to itself, all others share core 1; only while edits are made the API server may use both. In this order:

  with heartbeats      CPU over a minute while every pod's number of calls moves each second
  reaction             edits of `spec.replicas`: until the StatefulSet is written, or the pod that leaves is cordoned
  without heartbeats   CPU over a minute while there is no store

Prints one JSON line last; exit 1 above a bar (2 s at the 99th percentile, 15 % and 5 % of a core, 300 MB).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop
import yaml

from common import LOAD_CORE, PROGRAM_CORE, BenchError, cpu_seconds, memory_mb, pin_self, program, wait_until
from control_plane import ROOT, Client, ControlPlane, Object, binaries, control_plane
from played_cluster import NODE_STATUS, NODES, Churn, Owner, PlayedCluster, in_parallel, make_foreign, node, node_name
from played_pods import SIP_PORT, PlayedPods

REACTION_BAR_S, IDLE_BAR, HEARTBEATS_BAR, MEMORY_BAR_MB = 2.0, 0.05, 0.15, 300.0
REDIS_PORT = 6379
API = "/apis/sipfleet.io/v1alpha1"
PLURALS = {"SipCluster": "sipclusters", "MediaPool": "mediapools"}
CLUSTERS, CLUSTER_PODS, POOL_PODS = 5, 4, 5
"""SipClusters in a namespace, pods of each, pods of its MediaPool: 25 pods."""
BASE = {"SipCluster": CLUSTER_PODS, "MediaPool": POOL_PODS}
FOREIGN_NAMESPACES = 20
CHURN = 0.01
"""Of all pods, each minute."""
EDIT_INTERVAL_S = 0.4
EDIT_LIMIT_S = 60.0
EDIT_REST_S = 8.0
INSIDE = "SIPFLEET_BENCH_NAMESPACE"


def clusters(namespace: str) -> list[Object]:
    """What a user applies in one namespace: five SipClusters over one MediaPool, every other pool autoscaled."""
    head = {"apiVersion": "sipfleet.io/v1alpha1"}
    common = {"store": {"url": f"redis://127.0.0.1:{REDIS_PORT}"}, "exposure": {"type": "clusterIP"}, "capacity": 1000}
    autoscaled = int(namespace.rpartition("-")[2]) % 2 == 0
    scale: Object = {"autoscale": {"min": POOL_PODS, "max": POOL_PODS + 5, "freeCapacity": 500}}
    pool = {
        **head,
        "kind": "MediaPool",
        "metadata": {"name": "media", "namespace": namespace},
        "spec": {
            **common,
            **(scale if autoscaled else {"replicas": POOL_PODS}),
            "ports": {"mode": "shared", "base": 30000, "count": 2},
        },
    }
    return [
        pool,
        *(
            {
                **head,
                "kind": "SipCluster",
                "metadata": {"name": f"sip-{number}", "namespace": namespace},
                "spec": {
                    **common,
                    "replicas": CLUSTER_PODS,
                    "domains": [f"{number}.{namespace}.example"],
                    "listeners": [{"name": "udp", "transport": "UDP", "port": SIP_PORT}],
                    "routing": {
                        "routes": [
                            {
                                "name": "all",
                                "domain": f"{number}.{namespace}.example",
                                "targets": ["sip:192.0.2.7:5060"],
                            }
                        ]
                    },
                    "mediaPools": ["media"],
                    "dns": {"ttl": 5},  # a pod that leaves stays as long as caches may name it
                },
            }
            for number in range(CLUSTERS)
        ),
    ]


@dataclass
class Edit:
    """One edit of `spec.replicas` and what came of it; times are of the loop's clock."""

    owner: Owner
    kind: str
    before: int
    after: int
    at: str = ""
    """Time of day, to be found in the operator's log."""
    sent: float = 0.0
    accepted: float = 0.0
    """The API server has answered."""
    acted: asyncio.Future[float] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The StatefulSet has more replicas, or the pod that leaves was told so."""
    written: asyncio.Future[float] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The StatefulSet has the new count: a smaller one only when the pod that leaves is empty."""


class Edits:
    """Edits under way, and what is seen of them."""

    def __init__(self) -> None:
        self.open: dict[Owner, Edit] = {}
        self.places: dict[str, Owner] = {}
        """StatefulSet by the address of a pod that is about to leave."""

    def scaled(self, owner: Owner, replicas: int) -> None:
        edit = self.open.get(owner)
        if edit is not None and replicas == edit.after:
            for future in (edit.acted, edit.written):
                if not future.done():
                    future.set_result(asyncio.get_running_loop().time())

    def ordered(self, address: str, path: str) -> None:
        edit = self.open.get(self.places.get(address, ("", "")))
        if edit is not None and not edit.acted.done():
            edit.acted.set_result(asyncio.get_running_loop().time())


class Bench:
    """The scene, once it is set."""

    def __init__(self, plane: ControlPlane, client: Client, options: argparse.Namespace, work: Path) -> None:
        self.plane = plane
        self.client = client
        self.options = options
        self.work = work
        self.log = work / "operator.log"
        self.edits = Edits()
        self.pods = PlayedPods(("127.0.0.1", REDIS_PORT), self.edits.ordered)
        self.cluster = PlayedCluster(client, self.pods, self.edits.scaled)
        self.namespaces = [f"fleet-{n}" for n in range(options.namespaces)]
        self.foreign = [(f"other-{n % FOREIGN_NAMESPACES}", n) for n in range(options.foreign)]
        self.replicas: dict[tuple[str, Owner], int] = {}
        self.memory = 0.0

    async def set_scene(self) -> None:
        """Definitions, nodes, namespaces, pods of others."""
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
                await self.client.request("POST", path, document)
        others = [f"other-{n}" for n in range(FOREIGN_NAMESPACES)]
        for name in [*self.namespaces, *others]:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await self.client.request("POST", "/api/v1/namespaces", body)
        for number in range(NODES):
            await self.client.request("POST", "/api/v1/nodes", node(number))
            path = f"/api/v1/nodes/{node_name(number)}/status"
            await self.client.request("PATCH", path, NODE_STATUS, merge=True)
        await in_parallel([partial(make_foreign, self.client, *one) for one in self.foreign])

    async def apply_sets(self) -> None:
        """All SipClusters and MediaPools."""
        jobs = []
        for namespace in self.namespaces:
            for body in clusters(namespace):
                owner = (namespace, body["metadata"]["name"])
                if "replicas" in body["spec"]:
                    self.replicas[body["kind"], owner] = body["spec"]["replicas"]
                path = f"{API}/namespaces/{namespace}/{PLURALS[body['kind']]}"
                jobs.append(partial(self.client.request, "POST", path, body))
        await in_parallel(list(jobs))

    async def ready(self) -> bool:
        """Every set is Ready and has settled; every pod has its lease."""
        for plural in PLURALS.values():
            for one in (await self.client.request("GET", f"{API}/{plural}"))["items"]:
                told = {c["type"]: c["status"] for c in one.get("status", {}).get("conditions", [])}
                if told.get("Ready") != "True" or told.get("Progressing") != "False":
                    return False
        return True

    def check(self, operator: subprocess.Popen[bytes]) -> None:
        """Raises `BenchError` when somebody has ended who should not."""
        if operator.poll() is not None:
            raise BenchError(f"the operator ended:\n{self.log.read_text()[-2000:]}")
        failed = self.cluster.failed or self.pods.failed
        if failed is not None:
            raise BenchError(f"the play ended: {failed!r}")

    async def cpu(self, operator: subprocess.Popen[bytes]) -> float:
        """Of the operator, as a fraction of a core."""
        before, began = cpu_seconds(operator.pid), time.monotonic()
        for _ in range(int(self.options.seconds)):
            await asyncio.sleep(1.0)
            self.check(operator)
        used = (cpu_seconds(operator.pid) - before) / (time.monotonic() - began)
        self.memory = max(self.memory, memory_mb(operator.pid))
        return used

    async def edit_all(self, operator: subprocess.Popen[bytes]) -> list[Edit]:
        """Edits one after the other, each on a set that has none under way."""
        loop = asyncio.get_running_loop()
        done: list[Edit] = []
        for _ in range(self.options.edits):
            free = [one for one in self.replicas if one[1] not in self.edits.open]
            grown = [one for one in free if self.replicas[one] > BASE[one[0]]]
            kind, owner = random.choice(grown if len(done) % 2 and grown else free)
            before = self.replicas[kind, owner]
            edit = Edit(owner, kind, before, before - 1 if before > BASE[kind] else before + 1)
            self.edits.open[owner] = edit
            if edit.after < edit.before:
                leaving = self.cluster.pods[owner[0], f"{owner[1]}-{edit.before - 1}"]
                self.edits.places[leaving["status"]["podIP"]] = owner
            self.replicas[kind, owner] = edit.after
            edit.at, edit.sent = time.strftime("%H:%M:%S"), loop.time()
            path = f"{API}/namespaces/{owner[0]}/{PLURALS[kind]}/{owner[1]}"
            await self.client.request("PATCH", path, {"spec": {"replicas": edit.after}}, merge=True)
            edit.accepted = loop.time()
            edit.written.add_done_callback(partial(self._over, owner))
            done.append(edit)
            self.check(operator)
            await asyncio.sleep(EDIT_INTERVAL_S * random.uniform(0.5, 1.5))
        waiting = [future for edit in done for future in (edit.acted, edit.written)]
        _, late = await asyncio.wait(waiting, timeout=EDIT_LIMIT_S)
        if late:
            missing = [edit for edit in done if not edit.written.done()]
            raise BenchError(f"{len(missing)} edits were not carried out, such as {missing[0]}")
        return done

    def _over(self, owner: Owner, _: object) -> None:
        """The set may be edited again once it has had time to settle."""
        asyncio.get_running_loop().call_later(EDIT_REST_S, self.edits.open.pop, owner, None)


@contextlib.contextmanager
def redis_server(work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The store of all sets."""
    argv = ["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    log = work / "redis.log"
    with program([*argv, "--dir", str(work)], core=LOAD_CORE, log=log) as process:
        wait_until(takes_connections, process, "redis-server", log)
        yield process


def takes_connections() -> bool:
    """Whether the store is up."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", REDIS_PORT), 1.0):
        return True
    return False


@contextlib.asynccontextmanager
async def playing(bench: Bench) -> AsyncIterator[None]:
    """Controllers, kubelets and pods act within the block."""
    await bench.pods.start()
    bench.cluster.start()
    try:
        yield
    finally:
        await bench.cluster.close()


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed; 0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)]


@contextlib.asynccontextmanager
async def churning(bench: Bench) -> AsyncIterator[Churn]:
    """Pods come and go within the block. Raises `BenchError` when that ended by itself."""
    churn = Churn(bench.client, bench.cluster, bench.foreign, CHURN)
    task = asyncio.ensure_future(churn.run())
    try:
        yield churn
        if task.done():
            raise BenchError(f"the churn ended: {task.exception()!r}")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def start_operator(bench: Bench, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    """The one that is measured, alone on its core."""
    environment = {
        "KUBECONFIG": str(bench.plane.kubeconfig),
        "POD_NAME": "bench",
        "POD_NAMESPACE": "default",
        "PYTHONUNBUFFERED": "1",
    }
    argv = [*bench.options.under, sys.executable, "-m", "sipfleet", "operator"]
    argv += ["--liveness", "http://127.0.0.1:8080/healthz"]
    return stack.enter_context(program(argv, core=PROGRAM_CORE, log=bench.log, env=environment))


async def all_serve(bench: Bench, operator: subprocess.Popen[bytes]) -> float:
    """Returns when every pod serves: after so many seconds."""
    began = time.monotonic()
    await bench.apply_sets()
    while not await bench.ready():
        bench.check(operator)
        if time.monotonic() - began > bench.options.patience:
            made = f"{len(bench.cluster.sets)} StatefulSets, {len(bench.cluster.pods)} pods"
            raise BenchError(f"not everything was ready in time ({made}):\n{bench.log.read_text()[-2000:]}")
        await asyncio.sleep(1.0)
    return time.monotonic() - began


async def measure(bench: Bench, stack: contextlib.ExitStack) -> dict[str, object]:
    """The three phases; -> what the JSON line says."""
    say("definitions, nodes and the pods of others")
    await bench.client.ready()
    await bench.set_scene()
    redis = stack.enter_context(redis_server(bench.work))
    operator = start_operator(bench, stack)
    async with playing(bench):
        bench.pods.begin()
        say("SipClusters and MediaPools; waiting for every pod to serve")
        start = await all_serve(bench, operator)
        bench.plane.pin({LOAD_CORE})
        pin_self(LOAD_CORE)
        say(f"{len(bench.cluster.pods)} pods serve after {start:.0f} s; {bench.options.settle:g} s to settle")
        async with churning(bench) as churn:
            await asyncio.sleep(bench.options.settle)
            beats = bench.pods.beats
            heartbeats = await bench.cpu(operator)
            beats = bench.pods.beats - beats
            say(f"CPU with {beats / bench.options.seconds:.0f} heartbeats a second: {heartbeats:.2%}")
            # An edit is some thirty requests of all who play: with one core for the API server it would be the API
            # server that is measured.
            bench.plane.pin({PROGRAM_CORE, LOAD_CORE})
            bench.pods.lag = 0.0
            edits = await bench.edit_all(operator)
            lag = bench.pods.lag
            bench.plane.pin({LOAD_CORE})
            bench.memory = max(bench.memory, memory_mb(operator.pid))
            slowest(edits)
            await bench.pods.end()
            redis.terminate()
            await asyncio.sleep(bench.options.settle)
            idle = await bench.cpu(operator)
            say(f"CPU without a store: {idle:.2%}")
    reactions = [edit.acted.result() - edit.sent for edit in edits]
    removals = [edit.written.result() - edit.sent for edit in edits if edit.after < edit.before]
    return {
        "reaction_p99_s": round(quantile(reactions, 0.99), 3),
        "cpu_idle": round(idle, 4),
        "cpu_heartbeats": round(heartbeats, 4),
        "memory_mb": round(bench.memory, 1),
        "reaction_median_s": round(quantile(reactions, 0.5), 3),
        "removal_p99_s": round(quantile(removals, 0.99), 3),
        "edit_request_p99_s": round(quantile([edit.accepted - edit.sent for edit in edits], 0.99), 3),
        "play_lag_max_s": round(lag, 3),
        "edits": len(edits),
        "sets": len(bench.namespaces) * (CLUSTERS + 1),
        "pods": len(bench.namespaces) * (CLUSTERS * CLUSTER_PODS + POOL_PODS),
        "foreign_pods": len(bench.foreign),
        "heartbeats_per_s": round(beats / bench.options.seconds),
        "replaced": churn.replaced,
        "replaced_foreign": churn.replaced_foreign,
        "start_s": round(start, 1),
        "log_errors": bench.log.read_text().count(" ERROR "),
    }


def slowest(edits: list[Edit]) -> None:
    """Print where to look when reactions are slow."""
    reactions = [edit.acted.result() - edit.sent for edit in edits]
    for waited, edit in sorted(zip(reactions, edits, strict=True), key=lambda pair: -pair[0])[:3]:
        what = f"{edit.kind} {'/'.join(edit.owner)} {edit.before} to {edit.after}"
        say(f"slowest: {what} at {edit.at}: {waited:.2f} s")
    say(f"{len(edits)} edits: p99 {quantile(reactions, 0.99):.2f} s, median {quantile(reactions, 0.5):.2f} s")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def isolate() -> None:
    """Go on in a network namespace of our own: the ports of pods are fixed, and another program may have them."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("ip") is None:
        raise BenchError("unshare (util-linux) and ip (iproute2) are needed")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    os.environ[INSIDE] = "1"
    os.execv(unshare, [unshare, *user, "--net", "--", sys.executable, *sys.argv])


async def run(options: argparse.Namespace) -> int:
    paths = binaries()
    with contextlib.ExitStack() as stack:
        work = Path(options.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="sipfleet-bench-")))
        work.mkdir(exist_ok=True)
        plane = stack.enter_context(control_plane(paths, work, LOAD_CORE))
        plane.pin({PROGRAM_CORE, LOAD_CORE})  # while the scene is set nobody is measured
        client = Client(plane)
        try:
            result = await measure(Bench(plane, client, options, work), stack)
        finally:
            await client.close()
    print(json.dumps(result))
    good = (
        float(str(result["reaction_p99_s"])) <= REACTION_BAR_S
        and float(str(result["cpu_idle"])) <= IDLE_BAR
        and float(str(result["cpu_heartbeats"])) <= HEARTBEATS_BAR
        and float(str(result["memory_mb"])) <= MEMORY_BAR_MB
        and not result["log_errors"]
    )
    return 0 if good else 1


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0, help="of each measurement of CPU")
    options.add_argument("--settle", type=float, default=15.0, help="seconds before each of them")
    options.add_argument("--edits", type=int, default=200)
    options.add_argument("--namespaces", type=int, default=40, help="of 6 sets and 25 pods each")
    options.add_argument("--foreign", type=int, default=10_000)
    options.add_argument("--patience", type=float, default=300.0, help="seconds until all pods have to serve")
    options.add_argument("--keep", metavar="DIRECTORY", help="work there and leave logs and kubeconfig")
    options.add_argument(
        "--under", type=str.split, default=[], help="a command that runs the operator, such as a profiler"
    )
    arguments = options.parse_args()
    isolate()
    return uvloop.run(run(arguments))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"bench operator: {error}", file=sys.stderr)
        sys.exit(2)
