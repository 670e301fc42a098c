"""Whole clusters through random failures: whatever the seed, every call ends well and has one CDR."""

from random import Random

import pytest

from tests.simulation.clock import Weather
from tests.simulation.world import World

FAIR = Weather()
FOUL = Weather(loss=0.05, duplication=0.05, delay=(0.0002, 0.05))
CALLS = 8


def play(seed: int, weather: Weather, disasters: int) -> World:
    """Two proxies, a relay and a store; calls come in the first 8 s, disasters in the first 20 s, then peace."""
    world = World(seed, weather)
    world.run(5.0)
    script = Random(seed)
    for _ in range(CALLS):
        world.clock.after(script.uniform(0, 8), world.call, script.uniform(4, 20))
    at = 1.0
    for _ in range(disasters):
        at += script.uniform(2.0, 8.0)
        disaster = script.choice(
            [
                lambda: world.kill_proxy(script.randrange(2), script.uniform(0.1, 4.0)),
                lambda: world.kill_relay(0, script.uniform(0.1, 0.5)),
                lambda: world.kill_store(script.uniform(0.1, 2.0)),
            ]
        )
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
