"""`sipfleet call`: calls through a cluster of which only the address is known, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .errors import CallsError
from .generator import CallGenerator, CdrSource
from .judge import Limits
from .message import Address
from .plan import CallPlan, address, proxy_of, span
from .report import progress, show, to_json
from .results import Report

_PLAIN_INTERVAL = 3.0
_LIVE_INTERVAL = 0.25


def call_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a run of calls; `make_plan` and `make_calls` take what they give."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option("--calls", default=10, show_default=True, help="How many; with --keep-arriving, how many at once."),
    click.option("--rate", default=10.0, show_default=True, help="New calls a second."),
    click.option(
        "--duration", metavar="MIN-MAX", default="15-30", show_default=True, help="Seconds from answer to BYE."
    ),
    click.option("--keep-arriving", is_flag=True, help="Calls keep coming until Ctrl-C."),
    click.option("--setup-time", default=60.0, show_default=True, help="Seconds that a call may take to be answered."),
    click.option("--seed", type=int, help="Of durations and tags [default: another each time, printed]."),
    click.option("--keepalive", default=0.0, metavar="SECONDS", help="Between two CRLF keepalives, caller and callee."),
    click.option(
        "--caller-netns", metavar="PATH", default="", help="Network namespace of the callers, /run/netns/NAME."
    ),
    click.option("--callee-netns", metavar="PATH", default="", help="That of our own callee."),
    click.option("--max-gap", default=20.0, show_default=True, help="Seconds of silence that a kept call may have."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output at the end."),
    click.option("--plot", metavar="FILE", help="A timeline picture (png, svg or pdf)."),
)


def make_plan(target: str, proxy: Address, listen: Address, options: Mapping[str, Any]) -> CallPlan:
    """The plan that the options make. Raises `PlanError`."""
    same = ("calls", "rate", "keep_arriving", "setup_time", "keepalive", "caller_netns", "callee_netns")
    seed = options["seed"]
    return CallPlan(
        target=target,
        proxy=proxy,
        listen=listen,
        duration=span(options["duration"]),
        seed=int(time.time()) if seed is None else seed,
        **{name: options[name] for name in same},
    )


def make_calls(plan: CallPlan, cdrs: AbstractAsyncContextManager[CdrSource | None], options: Mapping[str, Any]) -> int:
    """Make the calls, print the verdict; -> exit status. Raises `CallsError`."""
    console = Console(stderr=options["as_json"], highlight=False)
    report = asyncio.run(_run(plan, cdrs, Limits(silence=options["max_gap"]), console))
    if options["plot"]:
        from .plot import draw

        draw(report, options["plot"])
    show(report, console)
    if options["as_json"]:
        click.echo(to_json(report))
    return 0 if report.all_kept else 1


@click.command("call")
@click.argument("target")
@click.option("--proxy", metavar="ADDR:PORT", help="The cluster's address [default: the host of TARGET].")
@click.option("--listen", metavar="ADDR:PORT", default="127.0.0.1:7070", show_default=True, help="Our own callee.")
@click.option("--cdr", metavar="URL", help="Where CDRs are read after the calls: redis://HOST:PORT or unix:///PATH.")
@call_options
def call_command(target: str, proxy: str | None, listen: str, cdr: str | None, **options: Any) -> None:
    """Call TARGET (a SIP URI) many times at once, talk both ways, and say which calls were kept.

    The calls are answered by our own callee at --listen: the cluster must route TARGET there. Exit status 0 only when
    every call was kept, 1 when one was not, 2 for wrong settings.
    """
    try:
        plan = make_plan(target, address(proxy) if proxy else proxy_of(target), address(listen), options)
    except CallsError as error:
        raise click.UsageError(str(error)) from None
    try:
        sys.exit(make_calls(plan, _redis_cdrs(cdr), options))
    except CallsError as error:
        raise click.ClickException(str(error)) from None


@contextlib.asynccontextmanager
async def _redis_cdrs(url: str | None) -> AsyncIterator[CdrSource | None]:
    """Counts CDRs there; without a URL nobody counts."""
    if not url:
        yield None
        return
    from .cdr import RedisCdrs

    source = RedisCdrs(url)
    try:
        yield source
    finally:
        await source.close()


async def _run(
    plan: CallPlan, cdrs: AbstractAsyncContextManager[CdrSource | None], limits: Limits, console: Console
) -> Report:
    console.print(f"{plan.target} through {plan.proxy[0]} port {plan.proxy[1]}, seed {plan.seed}")
    async with contextlib.AsyncExitStack() as stack:
        source = await stack.enter_async_context(cdrs)
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
