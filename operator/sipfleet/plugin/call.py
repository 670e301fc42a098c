"""`kubectl sipfleet call`: calls through a SipCluster's address, answered by our own callee, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING, Any

import click

from sipfleet.calls import CallsError, CdrSource
from sipfleet.calls.cli import call_options, make_calls, make_plan
from sipfleet.calls.message import Address, hostport
from sipfleet.calls.plan import address

from .connection import Where, cluster_options, connect
from .errors import PluginError
from .records import operator_option
from .routes import objection, patch, routes_of, target_through

if TYPE_CHECKING:
    from .inside import Inside

Object = dict[str, Any]


@click.command("call")
@click.argument("name", required=False)
@click.argument("target", required=False)
@click.option("--listen", metavar="ADDR:PORT", help="Our own callee [default: a route's target that is this machine].")
@click.option("--proxy", metavar="ADDR:PORT", help="Where to call [default: the address that the status tells].")
@click.option("--cdr", "count_cdrs", is_flag=True, help="Also look for exactly one CDR of each call.")
@call_options
@operator_option
@cluster_options
def call_command(
    name: str | None,
    target: str | None,
    listen: str | None,
    proxy: str | None,
    count_cdrs: bool,
    operator_namespace: str | None,
    where: Where,
    **options: Any,
) -> None:
    """Call through the SipCluster NAME, talk both ways, and say which calls were kept.

    The calls are answered by our own callee at --listen. The cluster has to send TARGET (a SIP URI of one of its
    domains) there: a route of the manifest names the callee's address. Without TARGET one is made of such a route. Exit
    status 0 only when every call was kept, 1 when one was not, 2 for wrong settings.
    """
    if name is not None and target is None and name.startswith("sip:"):
        name, target = None, name
    cluster, inside = asyncio.run(_prepare(name, operator_namespace if count_cdrs else None, count_cdrs, where))
    try:
        callee = address(listen) if listen else _local_target(cluster, options["callee_netns"])
        called = target or target_through(routes_of(cluster), cluster["spec"]["domains"], callee)
        problem = objection(cluster, called or f"sip:test@{cluster['spec']['domains'][0]}", callee)
        if problem is not None:
            raise click.UsageError(problem)
        assert called is not None
        plan = make_plan(called, address(proxy) if proxy else address_of(cluster), callee, options)
    except CallsError as error:
        raise click.UsageError(str(error)) from None
    if cluster.get("status", {}).get("exposure") == "clusterIP" and not proxy:
        click.echo("exposure clusterIP: the address can be called from nodes and pods of the cluster only", err=True)
    try:
        sys.exit(make_calls(plan, _cdrs(inside, cluster), options))
    except CallsError as error:
        raise click.ClickException(str(error)) from None


async def _prepare(
    name: str | None, operator_namespace: str | None, count_cdrs: bool, where: Where
) -> tuple[Object, Inside | None]:
    from . import sets
    from .inside import Inside, operator_pod

    async with connect(where) as to:
        cluster = await sets.cluster(to, name)
        pod = await operator_pod(to, to.namespace, operator_namespace) if count_cdrs else None
    return cluster, Inside(pod, where) if pod is not None else None


def address_of(cluster: Object) -> Address:
    """Where the cluster is called: its address, or that of a pod which serves where they share none.

    Raises `PluginError` when there is neither.
    """
    status, listeners = cluster.get("status") or {}, cluster["spec"].get("listeners") or [{}]
    port = int(listeners[0].get("port", 5060))
    if status.get("address"):
        return status["address"], port
    for pod in status.get("pods") or []:
        if pod.get("phase") == "Serving" and pod.get("address"):
            return pod["address"], port
    name = cluster["metadata"]["name"]
    raise PluginError(f"sipcluster/{name} has no address yet: kubectl sipfleet status {name} says what it waits for")


def _local_target(cluster: Object, netns: str) -> Address:
    """The first target of a route that is an address of this machine (in that network namespace).

    Raises `PluginError` when there is none.
    """
    from sipfleet.calls.netns import place

    routes = routes_of(cluster)
    with place(netns)():
        for route in routes:
            if route.targets and _is_here(route.targets[0]):
                return route.targets[0]
    named = ", ".join(f"{one.name} to {hostport(one.targets[0])}" for one in routes if one.targets) or "there is none"
    raise PluginError(
        f"no route of sipcluster/{cluster['metadata']['name']} sends calls to this machine ({named}); say with "
        "--listen which address of ours the cluster can reach, and add a route to it, which needs no restart; with "
        "192.0.2.7:7070 for that address:\n  " + patch(cluster["metadata"], cluster, ("192.0.2.7", 7070))
    )


def _is_here(target: Address) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((target[0], 0))
        except OSError:
            return False
        return True


@contextlib.asynccontextmanager
async def _cdrs(inside: Inside | None, cluster: Object) -> AsyncIterator[CdrSource | None]:
    """Counts the CDRs of these calls in the cluster's store, where they are to be counted."""
    if inside is None:
        yield None
        return
    metadata = cluster["metadata"]
    since = f"{int((time.time() - 60) * 1000)}-0"  # clocks differ

    async def count(call_ids: Collection[str]) -> Mapping[str, int]:
        words = ("--namespace", metadata["namespace"], "--since", since, "--json", metadata["name"])
        try:
            rows = await inside.rows("store", "cdrs", *words)
        except PluginError as error:
            raise CallsError(f"CDRs cannot be counted: {error}") from None
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(str(row.get("call_id")), set()).add(str(row.get("id")))
        return {call_id: len(found[call_id]) for call_id in call_ids if call_id in found}

    yield count
