"""Wherever a client's packets go, and whatever the store does meanwhile, all proxies agree in the end (DESIGN 2.2)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sipproxy.core.strangers import MAX_AT_ONE, MAX_STRANGERS, Strangers
from tests.unit.proxy.harness import ALICE, Call, World

PING = b"\r\n\r\n"
LATER = 1.2
"""Seconds between packets that go different ways; within `MARGIN` there is no telling."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("packet"), st.integers(0, 2)),
        st.tuples(st.sampled_from(("down", "up", "empty", "wait")), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_all_agree_on_who_held_a_client_last(steps: list[tuple[str, int]]) -> None:
    world = World()
    proxies = world.cluster(3, flows=True)
    Call(proxies[0])
    world.advance(LATER)
    last, up = 0, True
    for what, number in steps:
        if what == "packet":
            proxies[number].hear(PING, ALICE)
            last = number
        elif what == "down" and up:
            world.store_down()
            up = False
        elif what in ("up", "empty") and not up:
            world.store_up(empty=what == "empty")
            up = True
        world.advance(LATER)
    if not up:
        world.store_up(empty=False)
    world.advance(3.0)
    assert [proxy.core.node.arrival(ALICE, 0) for proxy in proxies] == [proxies[last].core.node.index] * 3


ADDRESSES = st.tuples(st.integers(0, 400).map(lambda n: f"192.0.2.{n}"), st.integers(1024, 1090))


@settings(deadline=None)
@given(st.lists(st.tuples(ADDRESSES, st.floats(0, 30)), max_size=300))
def test_strangers_are_bounded_and_asked_only_at_the_address_of_the_client(
    packets: list[tuple[tuple[str, int], float]],
) -> None:
    strangers, now = Strangers(), 0.0
    for source, gap in packets:
        now += gap
        strangers.came(source, now)
        assert len(strangers._order) <= MAX_STRANGERS
        assert sum(map(len, strangers.hosts.values())) == len(strangers._order)
        assert len(strangers.hosts[source[0]]) <= MAX_AT_ONE
    for source, _ in packets[:20]:
        strangers.asked_for(b"BYE \r\n\r\n", source, 0.0, now)
        asked = strangers.asked_for(b"BYE \r\n\r\n", source, 0.0, now)
        assert {host for host, _ in asked} <= {source[0]}
