"""Three `sipproxy` in pods behind a Service: calls from outside while proxies are killed, drained and replaced."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sipfleet.calls import CallGenerator, CallPlan, Report
from sipfleet.calls.cdr import RedisCdrs
from tests.integration.peers.netns import Namespace
from tests.integration.proxy.node import DOMAINS, HOME, OFFICE, SERVICE, Node, Pod
from tests.unit.proxy.harness import header, request

CALLS = 12
"""At once, from each of the two places."""
KEEPALIVE = 3.0
NOTICED = 1.0
"""Seconds from the end of a proxy until it is no endpoint any more."""
SETTLED = 4.0
"""Seconds after which no call is being set up whose INVITE left before the proxies knew of the callees' keepalives."""
GIVE_UP = 10.0
"""Seconds that phones of the control repeat a BYE: longer than it takes with flows."""
MOVED = KEEPALIVE + 2.0
"""Seconds until all phones have shown up elsewhere."""


def plan(domain: str, place: Namespace, office: Namespace, t1: float) -> CallPlan:
    return CallPlan(
        f"sip:echo@{domain}",
        (SERVICE, 5060),
        (OFFICE, DOMAINS[domain]),
        CALLS,
        8.0,
        (3.0, 15.0),
        (0.2, 2.0),
        keep_arriving=True,
        seed=7,
        t1=t1,
        keepalive=KEEPALIVE,
        caller_netns=place.path,
        callee_netns=office.path,
    )


class Run:
    """Calls from home and from behind the NAT, and what happens to the proxies meanwhile."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.generators: list[CallGenerator] = []

    def mark(self, name: str, pod: Pod) -> None:
        for calls in self.generators:
            calls.mark(name, pod.proxy.name)

    async def gone(self, pod: Pod) -> None:
        """It is noticed that the pod is gone; later it comes back."""
        await asyncio.sleep(NOTICED)
        self.node.endpoints(*(other for other in self.node.pods if other is not pod))
        await asyncio.sleep(MOVED)
        pod.start()
        self.node.endpoints(*self.node.pods)
        await asyncio.sleep(1.0)

    async def kill(self, pod: Pod) -> None:
        self.mark("kill", pod)
        pod.kill()
        await self.gone(pod)

    async def drain(self, pod: Pod) -> None:
        self.mark("drain", pod)
        pod.terminate()
        for _ in range(100):
            if not pod.proxy.running:
                break
            await asyncio.sleep(0.1)
        assert pod.proxy.wait(1) == 0
        await self.gone(pod)

    async def flush(self) -> None:
        """The node forgets its connections: for a keepalive's time nothing reaches the phones."""
        for calls in self.generators:
            calls.mark("flush", "conntrack")
        self.node.flush()
        await asyncio.sleep(MOVED)


async def calls_during(node: Node, act: Callable[[Run], Awaitable[None]], t1: float = 0.5) -> list[Report]:
    """Calls from both places, up and arriving, while something happens; they end by themselves."""
    run = Run(node)
    async with AsyncExitStack() as stack:
        for domain, place in (("home.test", node.home), ("private.test", node.private)):
            cdrs = RedisCdrs(node.redis.url)
            stack.push_async_callback(cdrs.close)
            calls = CallGenerator(plan(domain, place, node.office, t1), cdrs)
            run.generators.append(await stack.enter_async_context(calls))
        for calls in run.generators:
            await calls.until_established(CALLS // 2, 30)
        await asyncio.sleep(SETTLED)
        await act(run)
        for calls in run.generators:
            calls.stop()
        return [await calls.finish(60) for calls in run.generators]


async def end_proxies(run: Run) -> None:
    zero, one, two = run.node.pods
    await run.kill(zero)
    await run.drain(one)
    await run.kill(two)


async def kill_two(run: Run) -> None:
    await run.kill(run.node.pods[0])
    await run.kill(run.node.pods[1])


async def flush_connections(run: Run) -> None:
    await run.flush()


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Node:
    return Node(tmp_path, 3, flows=request.param)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("node", [True], indirect=True)
@pytest.mark.parametrize("act", [end_proxies, flush_connections])
def test_all_calls_are_kept(node: Node, act: Callable[[Run], Awaitable[None]]) -> None:
    with node:
        reports = asyncio.run(calls_during(node, act))
        flows = [pod.status()["flows"] for pod in node.pods]
    for report in reports:
        assert report.reasons() == {}, [(c.detail, c.call_id) for c in report.calls if not c.kept][:5]
        assert all(report.up_at(event.at) for event in report.events)
    assert sum(flow["held"] for flow in flows) > 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("node", [False], indirect=True)
def test_without_flows_calls_are_lost(node: Node) -> None:
    """The control: who hears only the Service's address hears nothing from a proxy that does not hold its entry."""
    with node:
        reports = asyncio.run(calls_during(node, kill_two, GIVE_UP / 64))
    assert sum(sum(report.reasons().values()) for report in reports) > 0


def phone(place: Namespace, address: str, port: int) -> socket.socket:
    with place.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(5)
    return sock


@pytest.mark.parametrize("node", [True], indirect=True)
def test_a_target_that_is_spoken_to_first_is_seen_under_its_own_port_afterwards(node: Node) -> None:
    """What leaves before the target's own packets have come must not take the place of their conntrack entry."""
    port = DOMAINS["home.test"]
    with node, phone(node.home, HOME, 5060) as caller, phone(node.office, OFFICE, port) as target:
        node.endpoints(node.pods[0])
        caller.sendto(request("INVITE", "sip:echo@home.test", source=(HOME, 5060)), (SERVICE, 5060))
        invite, seen = target.recvfrom(4096)
        assert invite.startswith(b"INVITE sip:echo@")
        assert seen[0] != SERVICE, "nobody held it, so the packet cannot come from the Service's address"
        options = request("OPTIONS", "sip:home.test", branch="own", call_id="own", source=(OFFICE, port))
        target.sendto(options, (SERVICE, 5060))
        while True:
            answer, source = target.recvfrom(4096)
            if answer.startswith(b"SIP/2.0 "):
                break
        assert source == (SERVICE, 5060)
        assert f"rport={port}" in header(answer, "Via")[0]
