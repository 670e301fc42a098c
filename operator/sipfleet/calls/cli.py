"""`sipfleet call`: calls through a cluster of which only the address is known, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .errors import CallsError
from .generator import CallGenerator
from .judge import Limits
from .plan import CallPlan, address, proxy_of, span
from .report import progress, show, to_json
from .results import Report

_PLAIN_INTERVAL = 3.0
_LIVE_INTERVAL = 0.25


@click.command("call")
@click.argument("target")
@click.option("--proxy", metavar="ADDR:PORT", help="The cluster's address [default: the host of TARGET].")
@click.option("--listen", metavar="ADDR:PORT", default="127.0.0.1:7070", show_default=True, help="Our own callee.")
@click.option("--calls", default=10, show_default=True, help="How many; with --keep-arriving, how many at once.")
@click.option("--rate", default=10.0, show_default=True, help="New calls a second.")
@click.option("--duration", metavar="MIN-MAX", default="15-30", show_default=True, help="Seconds from answer to BYE.")
@click.option("--keep-arriving", is_flag=True, help="Calls keep coming until Ctrl-C.")
@click.option("--setup-time", default=60.0, show_default=True, help="Seconds that a call may take to be answered.")
@click.option("--seed", type=int, default=None, help="Of durations and tags [default: another each time, printed].")
@click.option("--keepalive", default=0.0, metavar="SECONDS", help="Between two CRLF keepalives, caller and callee.")
@click.option("--caller-netns", metavar="PATH", default="", help="Network namespace of the callers, /run/netns/NAME.")
@click.option("--callee-netns", metavar="PATH", default="", help="That of our own callee.")
@click.option("--cdr", metavar="URL", help="Where CDRs are read after the calls: redis://HOST:PORT or unix:///PATH.")
@click.option("--max-gap", default=20.0, show_default=True, help="Seconds of silence that a kept call may have.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output at the end.")
@click.option("--plot", metavar="FILE", help="A timeline picture (png, svg or pdf).")
def call_command(
    target: str,
    proxy: str | None,
    listen: str,
    calls: int,
    rate: float,
    duration: str,
    keep_arriving: bool,
    setup_time: float,
    seed: int | None,
    keepalive: float,
    caller_netns: str,
    callee_netns: str,
    cdr: str | None,
    max_gap: float,
    as_json: bool,
    plot: str | None,
) -> None:
    """Call TARGET (a SIP URI) many times at once, talk both ways, and say which calls were kept.

    The calls are answered by our own callee at --listen: the cluster must route TARGET there. Exit status 0 only when
    every call was kept, 1 when one was not, 2 for wrong settings.
    """
    console = Console(stderr=as_json, highlight=False)
    try:
        plan = CallPlan(
            target=target,
            proxy=address(proxy) if proxy else proxy_of(target),
            listen=address(listen),
            calls=calls,
            rate=rate,
            duration=span(duration),
            keep_arriving=keep_arriving,
            setup_time=setup_time,
            seed=int(time.time()) if seed is None else seed,
            keepalive=keepalive,
            caller_netns=caller_netns,
            callee_netns=callee_netns,
        )
    except CallsError as error:
        raise click.UsageError(str(error)) from None
    try:
        report = asyncio.run(_run(plan, cdr, Limits(silence=max_gap), console))
        if plot:
            from .plot import draw

            draw(report, plot)
    except CallsError as error:
        raise click.ClickException(str(error)) from None
    show(report, console)
    if as_json:
        click.echo(to_json(report))
    sys.exit(0 if report.all_kept else 1)


async def _run(plan: CallPlan, cdr: str | None, limits: Limits, console: Console) -> Report:
    console.print(f"{plan.target} through {plan.proxy[0]} port {plan.proxy[1]}, seed {plan.seed}")
    async with contextlib.AsyncExitStack() as stack:
        source = None
        if cdr:
            from .cdr import RedisCdrs

            source = RedisCdrs(cdr)
            stack.push_async_callback(source.close)
        calls = await stack.enter_async_context(CallGenerator(plan, source, limits))
        stack.enter_context(_interrupts(calls))
        watcher = asyncio.create_task(_watch(calls, console))
        try:
            if plan.keep_arriving:
                await calls.until(lambda status: not status.more, None, "end of arrivals")
            return await calls.finish()
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher


@contextlib.contextmanager
def _interrupts(calls: CallGenerator) -> Iterator[None]:
    """Ctrl-C and SIGTERM hang up what is up; the results are printed as ever."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, calls.hang_up)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _watch(calls: CallGenerator, console: Console) -> None:
    wanted = None if calls.plan.keep_arriving else calls.plan.calls
    if not console.is_terminal:
        while True:
            await asyncio.sleep(_PLAIN_INTERVAL)
            console.print(progress(calls.status, wanted))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(progress(calls.status, wanted)), refresh=True)
            await asyncio.sleep(_LIVE_INTERVAL)
