"""Which relays the proxy knows: a call is refused for want of a relay only after the leases were read once more."""

from __future__ import annotations

import random

import pytest

from sipcore.config import Listener, Media, ProxyConfig
from sipcore.keys import ClusterKey
from sipcore.record import Lease, encode
from sipcore.resp import Value
from sipproxy.core.actions import Store
from sipproxy.core.node import Node
from sipproxy.core.relays import FRESH, MAX_WAITING, RelayChoice


def told(*leases: Lease) -> list[Value]:
    """What the store answers to a reading of one pool."""
    names: list[Value] = []
    beats: list[Value] = []
    for lease in leases:
        names += [lease.id.encode(), encode(lease)]
        beats += [lease.id.encode(), b"1000"]
    return [[b"1000", b"0", names, beats]]


def relay(ordinal: int, active: int = 0) -> Lease:
    address = (f"127.0.0.{10 + ordinal}", 2223)
    return Lease(
        kind="relay",
        pod=f"media-{ordinal}",
        uid="u",
        set="media",
        ordinal=ordinal,
        index=ordinal + 1,
        address=address,
        capacity=10,
        active=active,
        ready=True,
    )


@pytest.fixture
def node() -> Node:
    config = ProxyConfig(listeners=[Listener(address="127.0.0.1")], media=Media(pools=["media"]))
    return Node(config, ClusterKey(bytes(32)), random.Random(1), 0.0)


@pytest.fixture
def choice(node: Node) -> RelayChoice:
    made = RelayChoice(node)
    made.look_again(lambda: None)
    answer(node, told(relay(0, active=10)))
    node.out.clear()
    return made


def answer(node: Node, replies: list[Value] | None) -> None:
    """The store answers the one reading that was asked for."""
    [read] = [action for action in node.out if isinstance(action, Store)]
    node.out.clear()
    assert callable(read.tag)
    read.tag(replies)


def test_a_relay_that_came_since_is_found_by_looking_again(node: Node, choice: RelayChoice) -> None:
    assert choice.candidates() == []
    node.now = 2 * FRESH
    seen: list[str] = []
    for _ in range(2):
        assert choice.look_again(lambda: seen.extend(one.pod for one in choice.candidates()))
    assert seen == []
    answer(node, told(relay(0, active=10), relay(1)))
    assert seen == ["media-1", "media-1"], "one reading serves all who wait"


def test_what_was_just_read_is_not_read_again(node: Node, choice: RelayChoice) -> None:
    node.now = FRESH / 2
    assert not choice.look_again(lambda: pytest.fail("refused at once"))
    assert node.out == []


def test_those_who_wait_go_on_when_the_store_has_no_answer(node: Node, choice: RelayChoice) -> None:
    node.now = 2 * FRESH
    went: list[bool] = []
    choice.look_again(lambda: went.append(True))
    answer(node, None)
    assert went == [True]
    assert choice.found, "what was known goes on to be used"


def test_no_more_than_a_bound_of_calls_wait(node: Node, choice: RelayChoice) -> None:
    node.now = 2 * FRESH
    assert all(choice.look_again(lambda: None) for _ in range(MAX_WAITING))
    assert not choice.look_again(lambda: None)
