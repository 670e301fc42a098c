"""`kubectl sipfleet drain`: ask for a pod to be drained and replaced, and follow it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import click

from .connection import Connection, Where, cluster_options, connect
from .errors import PluginError

Object = dict[str, Any]

INTERVAL = 1.0


@click.command("drain")
@click.argument("pod")
@click.option(
    "--wait", is_flag=True, help="Return when the pod is gone and its calls have ended; tell how many are left."
)
@click.option("--timeout", metavar="SECONDS", type=float, help="With --wait: at most so long; then exit status 1.")
@cluster_options
def drain_command(pod: str, wait: bool, timeout: float | None, where: Where) -> None:
    """Drain POD and put a new one in its place. Its calls go on; new ones go to others.

    The operator does it, as it replaces pods in a rollout: first another pod takes its place where there is room.
    """
    sys.exit(asyncio.run(_drain(pod.removeprefix("pod/").removeprefix("pods/"), wait, timeout, where)))


async def _drain(name: str, wait: bool, timeout: float | None, where: Where) -> int:
    from sipfleet.kubernetes import names
    from sipfleet.kubernetes.client import PODS

    async with connect(where) as to:
        pod = await to.api.get(PODS, to.namespace, name)
        if pod is None:
            raise PluginError(f"there is no pod {name} in namespace {to.namespace}")
        key = names.owner_of(pod["metadata"].get("labels") or {}, to.namespace)
        if key is None:
            raise PluginError(f"pod {name} is of no SipCluster and no MediaPool")
        uid = pod["metadata"]["uid"]
        if (pod["metadata"].get("annotations") or {}).get(names.EVICT) == "true":
            click.echo(f"pod/{name} is to be drained already")
        else:
            await to.api.merge(
                PODS, to.namespace, name, {"metadata": {"uid": uid, "annotations": {names.EVICT: "true"}}}
            )
            click.echo(f"pod/{name} is to be drained")
        if not wait:
            return 0
        return await _gone(to, key, name, uid, timeout)


async def _gone(to: Connection, key: Any, name: str, uid: str, timeout: float | None) -> int:
    """Wait until this incarnation of the pod is gone; -> exit status."""
    from sipfleet.kubernetes.client import PODS, SETS

    began = time.monotonic()
    told = ""
    while True:
        pod = await to.api.get(PODS, to.namespace, name)
        if pod is None or pod["metadata"]["uid"] != uid:
            click.echo(f"pod/{name} is gone after {time.monotonic() - began:.0f} s")
            return 0
        resource = await to.api.get(SETS[key.kind], to.namespace, key.name)
        now = progress(resource, name, uid)
        if now != told:
            click.echo(f"pod/{name}: {now}")
            told = now
        if timeout is not None and time.monotonic() - began > timeout:
            click.echo(f"pod/{name} is still there after {timeout:g} s; it goes on draining", err=True)
            return 1
        await asyncio.sleep(INTERVAL)


def progress(resource: Object | None, name: str, uid: str) -> str:
    """How a drain stands, from the status of the pod's set: its phase, the calls left, and what stops it."""
    status = (resource or {}).get("status") or {}
    pod = next((one for one in status.get("pods") or [] if one["name"] == name and one["uid"] == uid), None)
    if pod is None:
        return "not in the status"
    active = pod.get("active")
    text = f"{pod['phase']}, {'unknown' if active is None else active} {'call' if active == 1 else 'calls'} left"
    if pod["phase"] == "Serving":
        text = f"waits for its turn, {text}"
    for one in status.get("conditions") or []:
        if one["type"] == "DrainBlocked" and one["status"] == "True":
            text += f"; {one.get('message', '')}"
    return text
