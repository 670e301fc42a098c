"""The four scenarios. Each leaves the cluster as it found it, but for the version after the roll."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sipfleet.calls import CallGenerator

from .cluster import HEARTBEAT, Pod
from .errors import DemoError
from .manifests import CLUSTER, POOL
from .stage import GAP_LIMIT_MS, KILLED_RELAY_LIMIT_MS, Outcome, Scenario, Stage

CALLS_END = 90.0
"""Seconds in which the calls must have ended and been judged, their BYEs' last retransmissions included."""


async def kill_proxy(stage: Stage) -> Outcome:
    """SIGKILL of the busier of two proxies, both carrying at least a fifth of the calls."""
    outcome = Outcome("kill_proxy", GAP_LIMIT_MS)
    await _kill(stage, outcome, "proxy", lambda pods: sum(pod.active for pod in pods) / 5, "a fifth of the calls")
    return outcome


async def kill_relay(stage: Stage) -> Outcome:
    """SIGKILL of the relay that carries most, each carrying at least ten calls."""
    outcome = Outcome("kill_relay", KILLED_RELAY_LIMIT_MS)
    share = min(10.0, stage.settings.calls / 6)
    await _kill(stage, outcome, "relay", lambda pods: share, f"{share:g} calls")
    return outcome


async def _kill(stage: Stage, outcome: Outcome, kind: str, least: Callable[[list[Pod]], float], words: str) -> None:
    chance = stage.chance(outcome.name)
    async with stage.calls(chance) as calls:
        stage.say(f"{calls.status.established} calls up")
        await asyncio.sleep(HEARTBEAT + chance.uniform(*stage.settings.mischief))
        pods = await stage.cluster.pods(kind)
        victim = max(pods, key=lambda pod: pod.active)
        shares = ", ".join(f"{pod.name} {pod.active}" for pod in pods)
        for pod in pods:
            if pod.active < least(pods):
                outcome.problems.append(f"{pod.name} carried {pod.active} calls, at least {words} expected ({shares})")
        _slay(victim)
        calls.mark("SIGKILL", victim.name)
        stage.say(f"SIGKILL to {victim.name} under {calls.status.established} calls ({shares})")
        killed = time.monotonic()
        await stage.cluster.until(lambda now: _is_back(victim, now), 30, f"{victim.name} again")
        stage.say(f"{victim.name} serves again after {time.monotonic() - killed:.1f} s; waiting for the calls to end")
        outcome.report = await calls.finish(CALLS_END)
    outcome.facts |= {"killed": victim.name, "carried": {pod.name: pod.active for pod in pods}}
    stage.check_events(outcome, ("SIGKILL",))


def _slay(pod: Pod) -> None:
    if pod.pid is None:
        raise DemoError(f"{pod.name} has no process to kill")
    os.kill(pod.pid, signal.SIGKILL)


def _is_back(victim: Pod, pods: list[Pod]) -> bool:
    return any(pod.name == victim.name and pod.pid != victim.pid and pod.serving for pod in pods)


async def scale_media(stage: Stage) -> Outcome:
    """The MediaPool from 2 to 3 and back to 2, scaling in while the relay that goes carries calls."""
    outcome = Outcome("scale_media", GAP_LIMIT_MS)
    chance, cluster, settings = stage.chance(outcome.name), stage.cluster, stage.settings
    room = cluster.manifests.capacity * 2
    async with stage.calls(chance, keep_arriving=True, duration=settings.rolling_duration) as calls:
        stage.say(f"{calls.status.established} calls up, more arrive as they end")
        await asyncio.sleep(chance.uniform(*settings.mischief))
        before = await cluster.pods("relay")
        await _scale(stage, calls, 3)
        newcomer = f"{POOL}-2"
        await cluster.until(lambda pods: _serves(newcomer, pods), 30, f"{newcomer} that serves")
        calls.more(room + max(settings.calls // 4, 3))
        least = max(settings.calls // 6, 1)
        stage.say(f"{newcomer} serves; more calls than two relays can carry")
        await cluster.until(lambda pods: _active(newcomer, pods) >= least, 20, f"{newcomer} with {least} calls")
        calls.more(room - cluster.manifests.capacity // 4)
        carried = _active(newcomer, await cluster.pods("relay"))
        await _scale(stage, calls, 2, f" while {newcomer} carries {carried} calls")
        calls.stop()
        await cluster.until(lambda pods: not _exists(newcomer, pods), CALLS_END, f"{newcomer} gone")
        calls.mark("gone", newcomer)
        stage.say(f"{newcomer} was drained and has gone; waiting for the calls to end")
        after = await cluster.pods("relay")
        outcome.report = await calls.finish(CALLS_END)
    restarted = [old.name for old in before if not any((old.uid, old.pid) == (new.uid, new.pid) for new in after)]
    if restarted:
        outcome.problems.append(f"restarted while the pool grew and shrank: {', '.join(restarted)}")
    outcome.facts |= {"carried_at_scale_in": carried, "restarted": restarted}
    stage.check_events(outcome, ("scale",))
    return outcome


async def _scale(stage: Stage, calls: CallGenerator, replicas: int, words: str = "") -> None:
    calls.mark("scale", f"{POOL} to {replicas}")
    stage.say(f"sipfleet scale mediapool/{POOL} --replicas {replicas}{words}, under {calls.status.established} calls")
    await stage.cluster.run("scale", f"mediapool/{POOL}", "--replicas", str(replicas), "--cluster", CLUSTER)


def _serves(name: str, pods: list[Pod]) -> bool:
    return any(pod.name == name and pod.serving for pod in pods)


def _active(name: str, pods: list[Pod]) -> int:
    return next((pod.active for pod in pods if pod.name == name), 0)


def _exists(name: str, pods: list[Pod]) -> bool:
    return any(pod.name == name for pod in pods)


async def roll_version(stage: Stage) -> Outcome:
    """Another release on every proxy and relay while calls keep arriving."""
    outcome = Outcome("roll_version", GAP_LIMIT_MS)
    chance, cluster = stage.chance(outcome.name), stage.cluster
    old, new = cluster.manifests.version, stage.next_version
    settings, room = stage.settings, cluster.manifests.capacity * 2
    floor, ceiling = settings.least + 2, room - 4
    trickle = (ceiling - floor) / settings.rolling_duration[0]
    arriving: dict[str, Any] = {"keep_arriving": True, "calls": floor, "trickle": trickle, "ceiling": ceiling}
    async with stage.calls(chance, duration=settings.rolling_duration, **arriving) as calls:
        stage.say(f"{calls.status.established} calls up, {trickle:.1f} a second keep arriving")
        await asyncio.sleep(chance.uniform(*settings.mischief))
        before = {pod.uid for pod in await cluster.pods()}
        calls.mark("roll", f"{old} to {new}")
        stage.say(f"sipfleet apply with version {new}, under {calls.status.established} calls")
        began = time.monotonic()
        await cluster.apply(replace(cluster.manifests, version=new))
        wanted = cluster.manifests.proxies + cluster.manifests.relays
        await _follow_roll(stage, new, wanted)
        took = time.monotonic() - began
        calls.mark("rolled", new)
        stage.say(f"every pod runs {new} after {took:.0f} s; waiting for the calls to end")
        survivors = before & {pod.uid for pod in await cluster.pods()}
        outcome.report = await calls.finish(CALLS_END)
    if survivors:
        outcome.problems.append(f"{len(survivors)} pods were not replaced")
    outcome.facts |= {"from": old, "to": new, "seconds": round(took, 1)}
    stage.check_events(outcome, ("roll", "rolled"))
    return outcome


async def _follow_roll(stage: Stage, version: str, wanted: int) -> None:
    """Wait until exactly the wanted pods serve with that version; says which pod has it as they get it."""
    told: set[str] = set()

    def done(pods: list[Pod]) -> bool:
        for pod in pods:
            if pod.version == version and pod.serving and pod.uid not in told:
                told.add(pod.uid)
                stage.say(f"  {pod.name} serves with {version}")
        fresh = [pod for pod in pods if pod.version == version and pod.serving and not pod.draining]
        return len(pods) == len(fresh) == wanted

    await stage.cluster.until(done, 2 * CALLS_END, f"{wanted} pods that serve with {version}")


SCENARIOS: dict[str, Scenario] = {
    "kill_proxy": kill_proxy,
    "scale_media": scale_media,
    "roll_version": roll_version,
    "kill_relay": kill_relay,
}
"""In the order in which they are played."""
