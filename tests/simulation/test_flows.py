"""Clusters behind a Service, where a client hears only the proxy that conntrack brings its packets to (DESIGN 2.2)."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation.clock import Weather
from tests.simulation.world import World

FAIR = Weather()
FOUL = Weather(loss=0.03, duplication=0.03, delay=(0.0002, 0.03))
CALLS = 15
KEEPALIVE = 20.0
REST = 30.0
"""Seconds between the ends of proxies: by then every telephone has shown up elsewhere."""


def play(seed: int, weather: Weather, *disasters: str, flows: bool = True, keepalive: float = KEEPALIVE) -> World:
    """Three proxies, and calls that come and go; each disaster has half a minute for itself."""
    world = World(seed, weather, proxies=3, service=True, flows=flows, keepalive=keepalive)
    assert world.service is not None
    world.run(25.0)  # the callees' keepalives have come
    script = Random(seed)
    for _ in range(CALLS):
        world.clock.after(script.uniform(0, 60), world.call, script.uniform(5, 60))
    for i, disaster in enumerate(disasters):
        at = 10 + i * REST + script.uniform(0, 5)
        victim, down = script.randrange(3), script.uniform(0.1, 8.0)
        act = {"kill": world.kill_proxy, "drain": world.drain_proxy}.get(disaster)
        if act is not None:
            world.clock.after(at, act, victim, down)
        else:
            world.clock.after(at, world.service.flush)
    world.run(165.0)
    world.over = True
    return world


@pytest.mark.parametrize("seed", range(8))
def test_every_call_is_kept_when_proxies_end(seed: int) -> None:
    world = play(seed, FAIR, "kill", "drain", "kill")
    assert world.faults() == [], world.story()


@pytest.mark.parametrize("seed", range(100, 108))
def test_every_call_is_kept_in_foul_weather_too(seed: int) -> None:
    # Where one in thirty keepalives is lost, the next one has to come before a BYE has ended (timer F, 32 s).
    world = play(seed, FOUL, "drain", "kill", "kill", keepalive=10.0)
    assert world.faults() == [], world.story()


@pytest.mark.parametrize("seed", range(200, 208))
def test_every_call_is_kept_when_the_node_forgets_all_its_connections(seed: int) -> None:
    world = play(seed, FAIR, "flush", "kill", "flush")
    assert world.faults() == [], world.story()


def test_without_flows_the_same_clusters_lose_calls() -> None:
    """The negative control: a world that keeps calls by itself would prove nothing."""
    losing = [seed for seed in range(4) if play(seed, FAIR, "kill", "drain", "kill", flows=False).faults()]
    assert len(losing) >= 3
