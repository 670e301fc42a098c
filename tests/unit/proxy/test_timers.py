"""Timers of the core."""

from sipproxy.core.timers import Timers


def test_what_is_due_fires_once_and_the_rest_waits() -> None:
    timers = Timers((1.0, 2.0))
    fired: list[tuple[str, float]] = []

    def fire(what: str, now: float) -> None:
        fired.append((what, now))

    for name, delay in (("two", 2.0), ("one", 1.0), ("odd", 1.5), ("also one", 1.0)):
        timers.start(delay, 0.0, fire, name)
    assert timers.next() == 1.0
    timers.run(1.0)
    assert fired == [("one", 1.0), ("also one", 1.0)]
    assert timers.next() == 1.5
    timers.run(1.9)
    assert fired[2:] == [("odd", 1.9)]
    timers.run(5.0)
    assert fired[3:] == [("two", 5.0)]
    assert timers.next() is None
    assert len(timers) == 0


def test_a_timer_may_start_the_next_one() -> None:
    timers = Timers((1.0,))
    fired: list[float] = []

    def again(what: None, now: float) -> None:
        fired.append(now)
        if len(fired) < 3:
            timers.start(1.0, now, again, None)

    timers.start(1.0, 0.0, again, None)
    for now in (1.0, 2.0, 3.0, 4.0):
        timers.run(now)
    assert fired == [1.0, 2.0, 3.0]


def test_a_late_run_fires_everything_that_was_due_before() -> None:
    timers = Timers((0.5,))
    fired: list[int] = []
    for i in range(100):
        timers.start(0.5 if i % 2 else 0.01 * i, float(i), lambda what, now: fired.append(what), i)
    timers.run(1000.0)
    assert sorted(fired) == list(range(100))
