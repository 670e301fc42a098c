"""`kubectl sipfleet status`."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from rich.console import Console

from sipfleet.local.tables import Column

from .connection import Where, cluster_options, connect
from .output import ago, console, output_option, show, to_json

Object = dict[str, Any]

_SETS = (
    Column("NAME", lambda r: f"{r['kind'].lower()}/{r['name']}"),
    Column("READY", lambda r: f"{r['ready']}/{'?' if r['wanted'] is None else r['wanted']}"),
    Column("CALLS", lambda r: r["calls"]),
    Column("FREE", lambda r: r["free"]),
    Column("VERSION", lambda r: r["version"]),
    Column("ADDRESS", lambda r: r["address"] or _pod_addresses(r)),
    Column("EXPOSURE", lambda r: r["exposure"]),
    Column("DOING", lambda r: r["progress"].partition(":")[0]),
)
_NAMESPACE = Column("NAMESPACE", lambda r: r["namespace"])
_LEAVING = (
    Column("POD", lambda r: r["name"]),
    Column("PHASE", lambda r: r["phase"]),
    Column("CALLS LEFT", lambda r: r["active"]),
    Column("DRAINING FOR", lambda r: ago(r.get("drainingSince"))),
    Column("MESSAGE", lambda r: r.get("message")),
)
_NAMED = 3


def _pod_addresses(row: Object) -> str:
    """Where the pods are, when they share no address."""
    found = [pod["address"] for pod in row["pods"] if pod.get("address")]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


@click.command("status")
@click.argument("name", required=False)
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@output_option
@cluster_options
def status_command(name: str | None, all_namespaces: bool, form: str | None, where: Where) -> None:
    """What stands, what is not as it should be, which pods still have calls, and what to do next.

    NAME is that of a SipCluster or a MediaPool, or both kinds' (sipcluster/NAME: one kind's); without it all are told.
    """
    asyncio.run(_status(name, all_namespaces, form, where))


async def _status(name: str | None, all_namespaces: bool, form: str | None, where: Where) -> None:
    from . import sets
    from .findings import leaving, summary

    async with connect(where) as to:
        if name is not None:
            found = await sets.named(to, name)
        else:
            found = await sets.every(to, None if all_namespaces else to.namespace)
    rows = [summary(one) for one in found]
    if form == "json":
        to_json(rows)
        return
    if not rows:
        place = "any namespace" if all_namespaces else f"namespace {to.namespace}"
        click.echo(f"no SipCluster and no MediaPool in {place}; examples/kubernetes.yaml has one of each", err=True)
        return
    out = console()
    show(out, (_NAMESPACE, *_SETS) if all_namespaces else _SETS, rows)
    for one, row in zip(found, rows, strict=True):
        _details(out, row, leaving(one))
    if not any(row["findings"] for row in rows):
        out.print("\nAll is as it should be." + _try(rows))


def _try(rows: list[Object]) -> str:
    for row in rows:
        if row["kind"] == "SipCluster":
            return f" Try it: kubectl sipfleet call {row['name']} -n {row['namespace']}"
    return ""


def _details(out: Console, row: Object, pods: list[Object]) -> None:
    if not row["findings"] and not pods and not row["progress"]:
        return
    out.print(f"\n[bold]{row['kind'].lower()}/{row['name']}[/]")
    if row["progress"]:
        out.print(f"  {row['progress']}", markup=False)
    for one in row["findings"]:
        reason = f" ({one['reason']})" if one["reason"] else ""
        since = f" for {ago(one['since'])}" if one["since"] else ""
        out.print(f"  {one['what']}{reason}{since}: {one['message']}".rstrip(": "), style="red", markup=False)
        if one["next"]:
            out.print(f"    next: {one['next']}", markup=False)
    if pods:
        show(out, _LEAVING, pods)
