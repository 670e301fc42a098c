"""`sipfleet get` and `sipfleet describe`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from sipfleet.local.client import connect, running
from sipfleet.local.commands import cluster_option
from sipfleet.local.names import resource_name
from sipfleet.local.tables import COLUMNS, describe_pod, describe_set, table

KINDS = ("sipclusters", "mediapools", "pods", "calls", "cdrs", "srv", "events", "releases")


def _name(row: dict[str, Any]) -> Any:
    return row["metadata"]["name"] if "metadata" in row else row.get("name")


def _rows(kind: str, name: str | None, cluster: str | None, limit: int) -> list[dict[str, Any]]:
    """Rows of one kind; those of all clusters that run when none is named and clusters are asked for."""
    if kind == "sipclusters" and name is None and cluster is None and len(running()) > 1:
        return [row for one in running() for row in connect(one).get("/v1/sipclusters")]
    client = connect(cluster)
    if name is not None and kind in ("sipclusters", "mediapools", "pods"):
        return [client.get(f"/v1/{kind}/{name}")]
    if kind != "cdrs":
        rows: list[dict[str, Any]] = client.get(f"/v1/{kind}?limit={limit}")
        return rows
    return _all_cdrs(client.get, limit)


def _all_cdrs(get: Any, limit: int) -> list[dict[str, Any]]:
    """The stream is at least once: one row for each id, the first wins (DESIGN 2.8)."""
    found: dict[str, dict[str, Any]] = {}
    since = "-"
    while rows := get(f"/v1/cdrs?since={since}&limit=5000"):
        for row in rows:
            found.setdefault(row.get("id", row["streamId"]), row)
        since = rows[-1]["streamId"]
    return list(found.values())[-limit:]


def _print(kind: str, rows: list[dict[str, Any]], form: str, single: bool) -> None:
    if form == "json":
        click.echo(json.dumps(rows[0] if single else rows, indent=2))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump_all(rows, sort_keys=False), nl=False)
    elif form == "name":
        for row in rows:
            click.echo(f"{kind.removesuffix('s')}/{_name(row)}")
    elif rows:
        click.echo(table(COLUMNS[kind], rows, wide=form == "wide"))
    else:
        click.echo(f"no {kind}", err=True)


@click.command("get")
@click.argument("what", nargs=-1, required=True, metavar="KIND[/NAME]")
@click.option(
    "-o", "--output", "form", type=click.Choice(["json", "yaml", "wide", "name"]), help="Another form than the table."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON list, also for one name.")
@click.option("-w", "--watch", is_flag=True, help="Print again whenever something changed.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="At most so many rows.")
@cluster_option
def get_command(
    what: tuple[str, ...], form: str | None, as_json: bool, watch: bool, limit: int, cluster: str | None
) -> None:
    """List clusters, mediapools, pods, calls, cdrs, srv, events or releases."""
    kind, name = resource_name(what, KINDS, name_needed=False)
    last: list[dict[str, Any]] | None = None
    while True:
        rows = _rows(kind, name, cluster, limit)
        if rows != last:
            _print(kind, rows, "json" if as_json else form or "", single=name is not None and not as_json)
            last = rows
        if not watch:
            return
        time.sleep(0.5)


@click.command("describe")
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME")
@cluster_option
def describe_command(what: tuple[str, ...], cluster: str | None) -> None:
    """Tell all about one cluster, mediapool or pod: what is wanted, what is, and what happened."""
    kind, name = resource_name(what, ("sipclusters", "mediapools", "pods"))
    client = connect(cluster)
    row = client.get(f"/v1/{kind}/{name}")
    events = [e for e in client.get("/v1/events") if e["object"].partition("/")[2] == name]
    if kind == "pods":
        click.echo(describe_pod(row, events))
        return
    pods = [pod for pod in client.get("/v1/pods") if pod["set"] == name and pod["kind"] == row["kind"]]
    click.echo(describe_set(row, pods, events))
