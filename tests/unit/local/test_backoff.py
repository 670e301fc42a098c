"""When a dead pod is started again."""

from __future__ import annotations

from sipfleet.local.backoff import Backoff


def waits(lives: list[float]) -> list[float]:
    """The waits after deaths that came after these lives, in seconds."""
    backoff, now, found = Backoff(), 1000.0, []
    for life in lives:
        found.append(backoff.died(now, now + life))
        now += life + found[-1]
    return found


def test_the_first_restart_is_at_once() -> None:
    assert waits([0.1]) == [0.0]


def test_from_the_second_death_on_the_wait_doubles_up_to_thirty_seconds() -> None:
    assert waits([0.1] * 9) == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_minute_of_life_makes_the_next_restart_immediate_again() -> None:
    assert waits([0.1, 0.1, 0.1, 60.0, 0.1]) == [0.0, 1.0, 2.0, 0.0, 1.0]


def test_59_seconds_of_life_do_not() -> None:
    assert waits([59.0, 59.0]) == [0.0, 1.0]


def test_a_process_that_dies_for_days_does_not_overflow() -> None:
    assert waits([0.0] * 5000)[-1] == 30.0
