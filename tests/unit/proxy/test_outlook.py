"""What a proxy sees of the world and writes into its lease (DESIGN 6)."""

from __future__ import annotations

import msgspec
import pytest

from sipcore.record import Lease
from sipproxy.core import events

from .harness import ALICE, BOB, CLUSTER, Address, Call, Proxy, World, header, request, response, start_line

NODE = ("198.51.100.21", 40021)


@pytest.fixture
def world() -> World:
    return World()


def answered(message: bytes, status: int, seen: Address) -> bytes:
    """The response of a peer that keeps to RFC 3581."""
    said = b";rport=%d;received=%b" % (seen[1], seen[0].encode())
    return response(message, status).replace(b";rport\r\n", said + b"\r\n", 1)


def told(world: World, proxy: Proxy) -> Lease:
    """The lease as others read it."""
    world.advance(1.1)
    keeper = proxy.core._ownership.peers.keeper
    assert keeper is not None
    return msgspec.msgpack.decode(msgspec.msgpack.encode(keeper.lease), type=Lease)


def questions(proxy: Proxy) -> list[bytes]:
    return [data for data, target in proxy.take() if start_line(data).startswith("OPTIONS") and target == BOB]


def test_a_starting_proxy_asks_its_targets_and_tells_how_they_see_it(world: World) -> None:
    [proxy] = world.cluster(1, ask_targets=True)
    question = questions(proxy)[0]
    assert start_line(question) == f"OPTIONS sip:{BOB[0]}:{BOB[1]} SIP/2.0"
    assert header(question, "Via")[0].startswith(f"SIP/2.0/UDP {CLUSTER[0]}:{CLUSTER[1]};branch=z9hG4bK")
    assert header(question, "Max-Forwards") == ["70"]
    proxy.hear(answered(question, 405, NODE), BOB)
    assert told(world, proxy).seen_as == [f"{NODE[0]}:{NODE[1]}"]
    assert proxy.take() == []


def test_it_asks_three_times_and_no_more(world: World) -> None:
    [proxy] = world.cluster(1, ask_targets=True)
    world.advance(60)
    asked = questions(proxy)
    assert len(asked) == 3
    assert len(set(asked)) == 1
    assert told(world, proxy).seen_as == []


def test_it_does_not_ask_when_it_is_not_told_to(world: World) -> None:
    [proxy] = world.cluster(1)
    assert questions(proxy) == []


def test_the_answer_that_reaches_another_proxy_finds_its_way(world: World) -> None:
    one, two = world.cluster(2, ask_targets=True)
    question = questions(one)[0]
    two.hear(answered(question, 200, NODE), BOB)
    assert told(world, one).seen_as == [f"{NODE[0]}:{NODE[1]}"]
    assert told(world, two).seen_as == []


def test_a_call_shows_it_too(world: World) -> None:
    [proxy] = world.cluster(1)
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(answered(invite, 486, NODE), BOB)
    assert told(world, proxy).seen_as == [f"{NODE[0]}:{NODE[1]}"]


def test_a_later_call_may_leave_by_another_way(world: World) -> None:
    [proxy] = world.cluster(1)
    for number, seen in enumerate((CLUSTER, NODE, NODE)):
        invite, _ = proxy.hear(request("INVITE", call_id=f"c{number}", branch=f"c{number}"), ALICE)
        proxy.hear(answered(invite, 486, seen), BOB)
        world.advance(1.0)
    assert told(world, proxy).seen_as == [f"{CLUSTER[0]}:{CLUSTER[1]}", f"{NODE[0]}:{NODE[1]}"]


def test_a_peer_that_does_not_say_where_it_saw_us_proves_nothing(world: World) -> None:
    [proxy] = world.cluster(1, ask_targets=True)
    proxy.hear(response(questions(proxy)[0], 200), BOB)
    Call(proxy)
    assert told(world, proxy).seen_as == []


def test_whether_callers_come_from_what_they_call_their_own_address(world: World) -> None:
    [proxy] = world.cluster(1)
    nat = ("198.51.100.7", 4000)
    proxy.hear(request("INVITE", call_id="a", branch="a"), ALICE)
    proxy.hear(request("INVITE", call_id="b", branch="b"), nat)
    assert told(world, proxy).sources == {ALICE[0]: True, nat[0]: False}


def test_callers_behind_nat_make_room_for_one_that_is_not(world: World) -> None:
    [proxy] = world.cluster(1)
    for i in range(20):
        proxy.hear(request("INVITE", call_id=f"n{i}", branch=f"n{i}"), (f"198.51.100.{i + 1}", 4000))
    proxy.hear(request("INVITE", call_id="a", branch="a"), ALICE)
    found = told(world, proxy).sources
    assert found[ALICE[0]]
    assert len(found) == 8


def test_a_response_to_a_question_that_nobody_asked_is_ignored(world: World) -> None:
    [proxy] = world.cluster(1, ask_targets=True)
    question = questions(proxy)[0]
    branch = header(question, "Via")[0].partition("branch=")[2].partition(";")[0].encode()
    forged = answered(question, 200, NODE).replace(branch, b"z9hG4bK" + b"0" * 24)
    proxy.feed(events.Datagram(forged, BOB, 0))
    assert told(world, proxy).seen_as == []
