"""`kubectl sipfleet calls` and `kubectl sipfleet cdr`: what stands in the store of a SipCluster."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, NoReturn

import click

from sipfleet.local.tables import COLUMNS, Column

from .connection import Where, cluster_options, connect
from .errors import PluginError
from .output import console, output_option, show, to_json

Row = dict[str, Any]

AGAIN = 2.0
"""Seconds until a stream of records that broke is taken up again."""
ATTEMPTS = 15

operator_option = click.option(
    "--operator-namespace", metavar="NAME", help="Where the operator is [default: looked for in all namespaces]."
)


def _shown(kind: str, unlike: str) -> list[Column]:
    return [column for column in COLUMNS[kind] if column.title != unlike]


@click.command("calls")
@click.argument("name", required=False)
@output_option
@operator_option
@cluster_options
def calls_command(name: str | None, form: str | None, operator_namespace: str | None, where: Where) -> None:
    """The calls that are up: who, since when, through which proxy and relay.

    NAME is that of a SipCluster; it may be left out when there is one.
    """
    rows = asyncio.run(_read(name, operator_namespace, where, ["calls"]))
    if form == "json":
        to_json(rows)
    elif rows:
        show(console(), _shown("calls", "EPOCH"), rows)
    else:
        click.echo("no calls are up", err=True)


@click.command("cdr")
@click.argument("name", required=False)
@click.option(
    "--since",
    default="1h",
    show_default=True,
    metavar="TIME",
    help="10m (s, m, h, d), an RFC 3339 time, or the stream id after which to begin; `-`: all that are kept.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="The newest ones.")
@output_option
@operator_option
@cluster_options
def cdr_command(
    name: str | None,
    since: str,
    follow: bool,
    limit: int,
    form: str | None,
    operator_namespace: str | None,
    where: Where,
) -> None:
    """Call detail records, oldest first, one for each call.

    NAME is that of a SipCluster; it may be left out when there is one. With --follow and -o json each record is a line.
    """
    words = ["cdrs", "--since", since, "--limit", str(limit)]
    if follow:
        try:
            asyncio.run(_follow(name, operator_namespace, where, words, form))
        except KeyboardInterrupt:
            return
    rows = asyncio.run(_read(name, operator_namespace, where, words))
    if form == "json":
        to_json(rows)
    elif rows:
        show(console(), COLUMNS["cdrs"], rows)
    else:
        click.echo(f"no CDRs since {since}", err=True)


async def _read(name: str | None, operator_namespace: str | None, where: Where, words: list[str]) -> list[Row]:
    from . import sets
    from .inside import Inside, operator_pod

    async with connect(where) as to:
        cluster = (await sets.cluster(to, name))["metadata"]["name"]
        pod = await operator_pod(to, to.namespace, operator_namespace)
    place = ("--namespace", to.namespace, "--json", cluster)
    return await Inside(pod, where).rows("store", *words, *place)


async def _follow(
    name: str | None, operator_namespace: str | None, where: Where, words: list[str], form: str | None
) -> NoReturn:
    """Until it is cancelled. A pod of the operator may go meanwhile: the next one is asked from where we stand."""
    from sipfleet.kubernetes.client import ApiError

    from . import sets
    from .inside import Inside, operator_pod

    printer = _Lines(form)
    failures = 0
    since = words[words.index("--since") + 1]
    while True:
        try:
            async with connect(where) as to:
                name = (await sets.cluster(to, name))["metadata"]["name"]
                pod = await operator_pod(to, to.namespace, operator_namespace)
            command = [*words, "--since", since, "--follow", "--tied", "--namespace", to.namespace, "--json", name]
            async with aclosing(Inside(pod, where).follow("store", *command)) as rows:
                async for row in rows:
                    failures, since = 0, row["streamId"]
                    printer.line(row)
        except (PluginError, ApiError) as error:
            failures += 1
            if not printer.began or failures > ATTEMPTS:
                raise
            click.echo(f"{error}; again in {AGAIN:g} s", err=True)
        await asyncio.sleep(AGAIN)


class _Lines:
    """Records as they come; the width of a column is that of its heading or of what stood in it so far."""

    def __init__(self, form: str | None) -> None:
        self.began = False
        self._form = form
        self._columns = COLUMNS["cdrs"]
        self._widths = [max(len(column.title), 8) for column in self._columns]

    def line(self, row: Row) -> None:
        if self._form == "json":
            click.echo(json.dumps(row, separators=(",", ":")))
        else:
            if not self.began:
                self._print([column.title for column in self._columns])
            self._print([str(column.cell(row) or "-") for column in self._columns])
        self.began = True

    def _print(self, cells: list[str]) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]
        padded = (f"{cell:<{width}}" for cell, width in zip(cells, self._widths, strict=True))
        click.echo("   ".join(padded).rstrip())
