"""`sipfleet demo`: the command."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from sipfleet.calls import CallsError
from sipfleet.calls.report import to_json

from . import wheels
from .cluster import Cluster
from .errors import DemoError
from .manifests import CLUSTER, Manifests
from .scenarios import SCENARIOS
from .stage import Outcome, Settings, Stage


@click.command("demo")
@click.option("--seed", type=int, default=None, help="Of everything random [default: another each time, printed].")
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="Play these; may be repeated.")
@click.option(
    "--plot", metavar="DIRECTORY", type=click.Path(file_okay=False, path_type=Path), help="Timelines, as PNG."
)
@click.option("--keep", is_flag=True, help="Leave logs and state behind.")
def demo_command(seed: int | None, only: tuple[str, ...], plot: Path | None, keep: bool) -> None:
    """Kill, scale and roll a cluster under calls, and judge the calls.

    Brings a cluster of two proxies and two relays up on this machine. The last line is JSON; exit status 0 only when
    every call was kept in every scenario and no gap was above its limit.
    """
    console = Console(highlight=False, soft_wrap=True)
    seed = int(time.time()) if seed is None else seed
    console.print(f"seed {seed} (to play the same again: sipfleet demo --seed {seed})")
    work = Path(tempfile.mkdtemp(prefix="sipfleet-demo-"))
    outcomes: list[Outcome] = []
    began = time.monotonic()
    try:
        asyncio.run(_play(work, seed, only or tuple(SCENARIOS), outcomes, plot, console))
    except (DemoError, CallsError) as error:
        console.print(f"error: {error}", style="red", markup=False)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted", style="red")
    passed = len(outcomes) == len(only or SCENARIOS) and all(outcome.passed for outcome in outcomes)
    if outcomes:
        console.print(_table(outcomes))
    if keep or not passed:
        console.print(f"logs and state: {work}")
    else:
        shutil.rmtree(work, ignore_errors=True)
    told = {
        "scenarios": {outcome.name: outcome.as_json() for outcome in outcomes},
        "passed": passed,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }
    click.echo(json.dumps(told, separators=(",", ":")))
    sys.exit(0 if passed else 1)


async def _play(
    work: Path, seed: int, names: tuple[str, ...], outcomes: list[Outcome], plot: Path | None, console: Console
) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def say(text: str) -> None:
        console.print(text, markup=False)

    old, new = wheels.versions()
    say(f"building releases {old} and {new}")
    built = await asyncio.gather(wheels.build(old, work), wheels.build(new, work))
    cluster = Cluster(work, Manifests(network(seed), old))
    for wheel in built:
        await cluster.run("release", "install", str(wheel), "--cluster", CLUSTER)
    async with cluster:
        stage = Stage(cluster, Settings(), seed, new, say)
        say(f"the cluster is up: SIP address {cluster.manifests.address}")
        for name in names:
            console.print(f"\n[bold]{name}[/]: {(SCENARIOS[name].__doc__ or '').strip()}")
            outcome = await _one(stage, name)
            outcomes.append(outcome)
            _tell(outcome, console)
            if outcome.report is not None:
                (work / f"{name}.json").write_text(to_json(outcome.report))
                if plot is not None:
                    _draw(outcome, plot)


async def _one(stage: Stage, name: str) -> Outcome:
    """A scenario that cannot be played to its end has failed; the next one is played all the same."""
    try:
        await stage.cluster.until_serving()
        return await SCENARIOS[name](stage)
    except (DemoError, CallsError) as error:
        outcome = Outcome(name, 0.0)
        outcome.problems.append(str(error))
        return outcome


def _tell(outcome: Outcome, console: Console) -> None:
    text = f"{outcome.kept} of {outcome.calls} calls kept, longest gap {outcome.max_gap_ms:.0f} ms"
    console.print(text, style="green" if outcome.passed else "red")
    for complaint in outcome.complaints():
        console.print(f"  {complaint}", style="red", markup=False)
    for call in [call for call in outcome.report.calls if not call.kept][:10] if outcome.report else []:
        console.print(f"  call {call.number} {call.call_id}: {call.reason}, {call.detail}", style="red", markup=False)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(
        Column("scenario", no_wrap=True),
        "calls",
        "kept",
        "gap ms",
        "beyond control",
        "limit",
        "lost packets",
        "",
        box=SIMPLE,
    )
    for column in table.columns[1:-1]:
        column.justify = "right"
    for outcome in outcomes:
        report = outcome.report
        table.add_row(
            outcome.name,
            str(outcome.calls),
            str(outcome.kept),
            f"{outcome.max_gap_ms:.0f}",
            f"{outcome.extra_gap_ms:.0f}",
            f"{outcome.gap_limit_ms:.0f}",
            str(sum(call.lost for call in report.calls)) if report else "",
            "[green]passed[/]" if outcome.passed else "[red]failed[/]",
        )
    return table


def _draw(outcome: Outcome, directory: Path) -> None:
    from sipfleet.calls.plot import draw

    directory.mkdir(parents=True, exist_ok=True)
    if outcome.report is not None:
        draw(outcome.report, str(directory / f"{outcome.name}.png"), outcome.name)


def network(seed: int) -> str:
    """First three octets of loopback addresses that no other demo of this machine is likely to have."""
    return f"127.{96 + os.getpid() % 32}.{seed % 256}"
