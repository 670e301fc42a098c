"""`sipfleet logs`: the JSON lines that a pod wrote."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sipfleet.local.client import running
from sipfleet.local.commands import cluster_option, state_of
from sipfleet.local.errors import LocalError

FOLLOW_INTERVAL = 0.2


@click.command("logs")
@click.argument("pod")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("--tail", type=int, default=None, metavar="N", help="Only the last N lines.")
@click.option("--call-id", metavar="TEXT", help="Only lines with this Call-ID.")
@cluster_option
def logs_command(pod: str, follow: bool, tail: int | None, call_id: str | None, cluster: str | None) -> None:
    """Print the log of a pod, or of the store: sipfleet logs demo-0, sipfleet logs store."""
    state = state_of(cluster)
    name = pod.split("/")[-1]
    path = state / "logs" / f"{name}.log"
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in (state / "logs").glob("*.log"))) or "none"
        raise LocalError(f"cluster {state.cluster} has no log of {name!r}; there is: {have}")
    lines = [line for part in (path.with_name(path.name + ".1"), path) for line in _lines(part)]
    if call_id is not None:
        lines = [line for line in lines if call_id in line]
    for line in lines if tail is None else lines[-tail:] if tail > 0 else []:
        click.echo(line)
    if follow:
        _follow(path, state.cluster, call_id)


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.is_file() else []


def _follow(path: Path, cluster: str, call_id: str | None) -> None:
    """Print what is appended until the cluster ends."""
    with path.open(errors="replace") as file:
        file.seek(0, 2)
        part = ""
        while True:
            if path.stat().st_size < file.tell():  # it was copied away and emptied
                file.seek(0)
            part += file.read()
            *whole, part = part.split("\n")
            for line in whole:
                if call_id is None or call_id in line:
                    click.echo(line)
            if not whole:
                if cluster not in running():
                    return
                time.sleep(FOLLOW_INTERVAL)
