"""Clusters behind a Service, where a client hears only the proxy that conntrack brings its packets to (DESIGN 2.2)."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation.clock import Weather
from tests.simulation.world import World

FAIR = Weather()
FOUL = Weather(loss=0.03, duplication=0.03, delay=(0.0002, 0.03))
CALLS = 10
KEEPALIVE = 20.0
REST = 30.0
"""Seconds between the ends of proxies: by then every telephone has shown up elsewhere."""


def play(seed: int, weather: Weather, *, flows: bool) -> World:
    """Three proxies; three of them end while calls come and go, by a kill or a drain, and come back."""
    world = World(seed, weather, proxies=3, service=True, flows=flows, keepalive=KEEPALIVE)
    world.run(30.0)  # the callees' keepalives have come
    script = Random(seed)
    for _ in range(CALLS):
        world.clock.after(script.uniform(0, 60), world.call, script.uniform(5, 60))
    for i in range(3):
        end = world.kill_proxy if script.random() < 0.7 else world.drain_proxy
        world.clock.after(10 + i * REST + script.uniform(0, 5), end, script.randrange(3), script.uniform(0.1, 8.0))
    world.run(200.0)
    world.over = True
    return world


@pytest.mark.parametrize("seed", range(20))
def test_every_call_is_kept_when_proxies_end(seed: int) -> None:
    world = play(seed, FAIR, flows=True)
    assert world.faults() == [], world.story()


@pytest.mark.parametrize("seed", range(100, 140))
def test_every_call_is_kept_in_foul_weather_too(seed: int) -> None:
    world = play(seed, FOUL, flows=True)
    assert world.faults() == [], world.story()


def test_without_flows_the_same_clusters_lose_calls() -> None:
    """The negative control: a world that keeps calls by itself would prove nothing."""
    losing = [seed for seed in range(20) if play(seed, FAIR, flows=False).faults()]
    assert len(losing) >= 10
