"""`sipfleet store`: calls and call detail records of a SipCluster on Kubernetes, read from its store.

It runs where the store can be reached, which is inside of the cluster: `kubectl sipfleet` starts it in the operator's
pod. So it imports nothing that the operator's image lacks.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import sys
import time
from base64 import b64decode
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

import click

PULSE = 10.0
"""Seconds between two lines on the standard input of `cdrs --follow --tied`."""
SILENCE = 3 * PULSE
"""Seconds without one after which nobody listens any more."""
PAGE = 5000
INTERVAL = 1.0
"""Seconds between two looks for new records."""
AFTER_ALL = 2**64 - 1
"""The highest sequence number in a stream id."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STREAM_ID = re.compile(r"\d+-\d+")
_SPAN = re.compile(r"(\d+)([smhd])")


class StoreCommandError(click.ClickException):
    """There is no such SipCluster, or its store does not answer."""


def stream_position(since: str, now: float) -> str:
    """Where reading begins: `10m` before now, an RFC 3339 time, or a stream id after which; empty: at the beginning.

    Raises `ValueError` with what is allowed.
    """
    if not since or since == "-":
        return "-"
    if _STREAM_ID.fullmatch(since):
        return since
    span = _SPAN.fullmatch(since)
    try:
        moment = now - int(span[1]) * _UNITS[span[2]] if span else datetime.fromisoformat(since).timestamp()
    except ValueError:
        raise ValueError(
            f"got {since!r}, expected a time span such as 90s, 10m, 2h or 1d, an RFC 3339 time, or a stream id"
        ) from None
    # What is read comes after this position: one that no record of the millisecond itself comes before.
    return f"{int(moment * 1000) - 1}-{AFTER_ALL}"


async def store_url(namespace: str, name: str) -> str:
    """Where the store of a SipCluster is, as the operator finds it.

    Raises `StoreCommandError`.
    """
    from sipfleet.kubernetes import names
    from sipfleet.kubernetes.client import SECRETS, SIPCLUSTERS, Api, ApiError
    from sipfleet.kubernetes.objects import store

    try:
        api = await Api.connect()
        try:
            cluster = await api.get(SIPCLUSTERS, namespace, name)
            if cluster is None:
                raise StoreCommandError(f"there is no SipCluster {name} in namespace {namespace}")
            url = cluster["spec"].get("store", {}).get("url")
            if url:
                return str(url)
            secret = await api.get(SECRETS, namespace, names.STORE_SECRET)
        finally:
            await api.close()
    except ApiError as error:
        raise StoreCommandError(f"the store of {namespace}/{name} is not known: {error}") from None
    if secret is None:
        raise StoreCommandError(
            f"there is no Secret {names.STORE_SECRET} in namespace {namespace}: no store was made yet"
        )
    password = b64decode(secret["data"][names.STORE_SECRET_KEY]).decode()
    return store.store_url(namespace, store.encoded(password))


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.argument("name"),
        click.option("--namespace", default="default", show_default=True, help="Namespace of the SipCluster."),
        click.option("--url", help="The store [default: what the SipCluster says]."),
        click.option("--limit", type=click.IntRange(min=1), default=10_000, show_default=True, help="The newest ones."),
        click.option("--json", "as_json", is_flag=True, help="A JSON document a line, with all that is known."),
    ):
        command = option(command)
    return command


@click.group("store")
def store_group() -> None:
    """Calls and CDRs of a SipCluster on Kubernetes, read from its store; for use inside of the cluster."""


@store_group.command("calls")
@_options
def calls_command(name: str, namespace: str, url: str | None, limit: int, as_json: bool) -> None:
    """The calls that are up, oldest first."""
    columns = ("callId", "from", "to", "answered", "owner", "relay")
    asyncio.run(_calls(name, namespace, url, limit, _printer(columns, as_json)))


@store_group.command("cdrs")
@click.option("--since", default="", help="10m (s, m, h, d), an RFC 3339 time, or the stream id after which to begin.")
@click.option("--follow", is_flag=True, help="Go on with those that come.")
@click.option(
    "--tied", is_flag=True, help=f"With --follow: end with standard input, or {SILENCE:g} s after its last line."
)
@_options
def cdrs_command(
    name: str, namespace: str, url: str | None, limit: int, as_json: bool, since: str, follow: bool, tied: bool
) -> None:
    """Call detail records, oldest first, each once."""
    try:
        position = stream_position(since, time.time())
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from None
    columns = ("streamId", "call_id", "src_user", "dst_user", "duration", "ended_by", "status")
    asyncio.run(_cdrs(name, namespace, url, limit, position, follow, tied, _printer(columns, as_json)))


Printer = Callable[[Sequence[dict[str, Any]]], None]


def _printer(columns: Sequence[str], as_json: bool) -> Printer:
    def printer(rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if as_json:
                click.echo(json.dumps(row, separators=(",", ":")))
            else:
                click.echo("\t".join("-" if row.get(column) is None else str(row[column]) for column in columns))
        sys.stdout.flush()

    return printer


async def _calls(name: str, namespace: str, url: str | None, limit: int, show: Printer) -> None:
    from sipfleet.store import StoreError

    reader = _reader(url or await store_url(namespace, name))
    try:
        # Leases say which pod an owner's index is.
        await reader.read_leases([(namespace, name)], [], asyncio.get_running_loop().time())
        rows = await reader.calls(namespace, name)
    except StoreError as error:
        raise StoreCommandError(str(error)) from None
    finally:
        await reader.close()
    show(rows[-limit:])


async def _cdrs(
    name: str, namespace: str, url: str | None, limit: int, since: str, follow: bool, tied: bool, show: Printer
) -> None:
    from sipfleet.store import StoreError

    reader = _reader(url or await store_url(namespace, name))
    seen: dict[str, None] = {}
    try:
        rows, since = await _pages(reader, namespace, name, since, seen, limit)
        show(rows)
        async for _ in _ticks(tied) if follow else _never():
            rows, since = await _pages(reader, namespace, name, since, seen)
            show(rows)
    except StoreError as error:
        raise StoreCommandError(str(error)) from None
    finally:
        await reader.close()


async def _pages(
    reader: Any, namespace: str, name: str, since: str, seen: dict[str, None], limit: int | None = None
) -> tuple[list[dict[str, Any]], str]:
    """All records after a position (or the last `limit` of them), and the position after them. Of records with one id
    the first counts: the stream is at least once (DESIGN 2.8)."""
    found: deque[dict[str, Any]] = deque(maxlen=limit)
    while rows := await reader.cdrs(namespace, name, since, PAGE):
        for row in rows:
            mark = str(row.get("id", row["streamId"]))
            if mark not in seen:
                seen[mark] = None
                found.append(row)
        since = rows[-1]["streamId"]
    while len(seen) > 20 * PAGE:
        del seen[next(iter(seen))]
    return list(found), since


async def _never() -> AsyncIterator[None]:
    return
    yield


async def _ticks(tied: bool) -> AsyncIterator[None]:
    """Once each `INTERVAL`, for as long as somebody listens."""
    heard = time.monotonic()
    while True:
        await asyncio.sleep(INTERVAL)
        if tied:
            while select.select([0], [], [], 0)[0]:
                if not os.read(0, 4096):
                    return
                heard = time.monotonic()
            if time.monotonic() - heard > SILENCE:
                return
        yield


def _reader(url: str) -> Any:
    from sipcore.errors import SipcoreError
    from sipcore.store import without_password
    from sipfleet.store import StoreReader

    try:
        return StoreReader(url)
    except (SipcoreError, ValueError) as error:
        raise StoreCommandError(f"the store {without_password(url)} cannot be read: {error}") from None
