"""Whole clusters through random failures: whatever the seed, every call ends well and has one CDR."""

from random import Random

import pytest

from tests.simulation.clock import Weather
from tests.simulation.world import World

FAIR = Weather()
FOUL = Weather(loss=0.05, duplication=0.05, delay=(0.0002, 0.05))
CALLS = 8


HEALED = 6.0
"""Seconds between the deaths of a proxy and of the store: what only these two know dies with both (docs/limits.md)."""


def play(seed: int, weather: Weather, disasters: int) -> World:
    """Two proxies, a relay and a store; calls come in the first 8 s, disasters in the first half minute, then peace."""
    world = World(seed, weather)
    world.run(5.0)
    script = Random(seed)
    for _ in range(CALLS):
        world.clock.after(script.uniform(0, 8), world.call, script.uniform(4, 20))
    at, before = 1.0, ""
    for _ in range(disasters):
        victim = script.choice(("proxy", "relay", "store"))
        at += script.uniform(2.0, 8.0)
        if {before, victim} == {"proxy", "store"}:
            at += HEALED
        before = victim
        disaster = {
            "proxy": lambda: world.kill_proxy(script.randrange(2), script.uniform(0.1, 4.0)),
            "relay": lambda: world.kill_relay(0, script.uniform(0.1, 0.5)),
            "store": lambda: world.kill_store(script.uniform(0.1, 2.0)),
        }[victim]
        world.clock.after(at, disaster)
    world.run(90.0)
    world.over = True
    return world


@pytest.mark.parametrize("seed", range(20))
def test_every_call_is_kept_in_fair_weather(seed: int) -> None:
    world = play(seed, FAIR, disasters=0)
    assert world.faults() == [], world.story()


@pytest.mark.parametrize("seed", range(100, 280))
def test_every_call_is_kept_through_failures_and_foul_weather(seed: int) -> None:
    world = play(seed, FOUL, disasters=3)
    assert world.faults() == [], world.story()
