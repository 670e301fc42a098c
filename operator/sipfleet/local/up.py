"""`sipfleet up`: a cluster in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys

import click

from sipfleet.api import ManifestError, Resource, SipCluster, parse_manifests
from sipfleet.local.commands import read_texts
from sipfleet.local.errors import LocalError
from sipfleet.local.manifests import check_fleet
from sipfleet.local.report import reporter
from sipfleet.local.routes import api_server
from sipfleet.local.sets import Sets
from sipfleet.local.state import StateDirectory
from sipfleet.local.supervisor import Supervisor


@click.command("up")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="Manifests; `-` is standard input.")
@click.option("--cluster", help="Name of the state directory; by default that of the SipCluster.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines.")
@click.option("--plain", is_flag=True, help="Plain lines, also on a terminal.")
def up_command(files: tuple[str, ...], cluster: str | None, as_json: bool, plain: bool) -> None:
    """Run a cluster on this machine until Ctrl-C.

    Without -f the manifests of the last run of --cluster are taken.
    """
    try:
        name, resources = _what_to_run(files, cluster)
        state = StateDirectory(name)
        state.make()
        state.lock()
    except ManifestError as error:
        for line in error.lines:
            click.echo(f"error: {line}", err=True)
        sys.exit(2)
    except LocalError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    style = "json" if as_json else "plain" if plain or not sys.stdout.isatty() else "live"
    try:
        asyncio.run(_run(state, resources, style))
    except LocalError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        pass
    finally:
        state.unlock()


def _what_to_run(files: tuple[str, ...], cluster: str | None) -> tuple[str, list[Resource]]:
    if files:
        resources = parse_manifests([(f["name"], f["text"]) for f in read_texts(files)])
    elif cluster is not None:
        resources = Sets(StateDirectory(cluster)).stored()
        if not resources:
            raise LocalError(f"no earlier run of {cluster} left manifests; give some: sipfleet up -f FILE")
    else:
        raise LocalError("no manifest given: sipfleet up -f FILE (see examples/cluster.yaml)")
    check_fleet([], resources)
    first = next((r for r in resources if isinstance(r, SipCluster)), resources[0])
    return cluster or first.name, resources


async def _run(state: StateDirectory, resources: list[Resource], style: str) -> None:
    supervisor = Supervisor(state, resources)
    with reporter(style, supervisor):
        gc.collect()
        gc.freeze()  # what was imported is never garbage
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor.run(api_server(state, supervisor))
