"""Flows (DESIGN 2.2): what is for a client goes through the proxy where its packets arrive."""

from __future__ import annotations

from typing import Any

import pytest

from sipcore.errors import ConfigError
from sipproxy.core import actions, events, hop
from sipproxy.core.flows import ANSWERED, LIFE, MAX_GUESTS, NEW_A_SECOND, PATIENCE
from tests.unit.proxy.harness import (
    ALICE,
    BOB,
    CAROL,
    CLUSTER,
    KEY,
    Address,
    Call,
    Proxy,
    World,
    request,
    response,
    start_line,
)

PING = b"\r\n\r\n"
UNROUTED: dict[str, Any] = {"routes": []}


@pytest.fixture
def world() -> World:
    return World()


def heard(proxy: Proxy, target: Address) -> list[str]:
    """Start lines of what this proxy itself has sent to a client, and nothing more than once."""
    return list(dict.fromkeys(start_line(sent.data) for sent in proxy.sent if sent.target == target))


def emitted(proxy: Proxy) -> list[bytes]:
    """What it gave to peers to send on."""
    parcels = [hop.unpack(KEY, a.data) for a in proxy.all if isinstance(a, actions.SendHop)]
    return [parcel.data for parcel in parcels if parcel is not None and parcel.flags & hop.EMIT]


def quiet(*proxies: Proxy) -> None:
    for proxy in proxies:
        proxy.sent.clear()
        proxy.all.clear()


def three(world: World, **changes: Any) -> list[Proxy]:
    return world.cluster(3, flows=True, **changes)


def moves(world: World, *path: Proxy) -> None:
    """Alice's packets are brought to these proxies, one after the other."""
    for proxy in path:
        world.advance(0.2)
        proxy.hear(PING, ALICE)


def told(world: World) -> dict[bytes, bytes]:
    assert world.store is not None
    return dict(world.store.redis.hgetall("sf:default/c:flows"))


# -- who holds a client


def test_a_caller_is_held_where_its_invite_arrived_and_the_others_know_within_a_second(world: World) -> None:
    one, two, three_ = three(world)
    Call(one)
    world.advance(1.1)
    assert [proxy.core.status()["flows"] for proxy in (one, two, three_)] == [
        {"held": 1, "elsewhere": 0, "waiting": 0},
        {"held": 0, "elsewhere": 1, "waiting": 0},
        {"held": 0, "elsewhere": 1, "waiting": 0},
    ]
    assert one.core.node.arrival(ALICE, 0) == two.core.node.arrival(ALICE, 0) == one.core.node.index


def test_what_is_for_a_client_goes_through_its_holder(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    moves(world, two)
    world.advance(1.1)
    quiet(one, two)
    one.hear(call.from_bob("BYE", 7), BOB)
    assert heard(one, ALICE) == []
    assert heard(two, ALICE) == [f"BYE sip:user@{ALICE[0]}:{ALICE[1]} SIP/2.0"]
    two.hear(response(two.sent[0].data, 200, "OK"), ALICE)
    assert "SIP/2.0 200 OK" in heard(one, BOB)


def test_a_holder_learns_at_once_that_its_client_moved(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    world.advance(1.1)
    two.hear(PING, ALICE)
    quiet(one, two)
    one.hear(call.from_bob("BYE", 7), BOB)
    assert (heard(one, ALICE), len(heard(two, ALICE))) == ([], 1)


def test_a_request_that_was_handed_over_is_answered_where_it_arrived(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    world.advance(1.1)
    quiet(one, two)
    two.hear(call.from_alice("BYE", 2), ALICE)
    assert one.owned == 0
    one.hear(response(next(sent.data for sent in one.sent if sent.target == BOB), 200, "OK"), BOB)
    assert heard(one, ALICE) == []
    assert heard(two, ALICE) == ["SIP/2.0 200 OK"]


def test_a_new_call_that_a_cordoned_proxy_hands_on_is_answered_through_it(world: World) -> None:
    one, two, three_ = three(world)
    one.feed(events.Cordon())
    world.advance(1.1)
    one.hear(request("INVITE", branch="x"), ALICE)
    assert heard(one, ALICE) == ["SIP/2.0 100 Trying"]
    owner = two if two.core.node.open else three_
    owner.hear(response(next(sent.data for sent in owner.sent if sent.target == BOB), 200, "OK"), BOB)
    assert heard(one, ALICE) == ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    assert heard(two, ALICE) == heard(three_, ALICE) == []


def test_a_response_of_a_client_that_moved_says_where_it_is_now(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    quiet(one, two)
    one.hear(call.from_bob("BYE", 7), BOB)
    bye = next(sent.data for sent in one.sent if sent.target == ALICE)
    two.hear(response(bye, 200, "OK"), ALICE)
    assert two.core.node.arrival(ALICE, 0) == one.core.node.arrival(ALICE, 0) == two.core.node.index


def test_a_message_for_a_client_that_has_moved_on_follows_it(world: World) -> None:
    one, two, three_ = three(world)
    call = Call(one)
    moves(world, two)
    world.advance(1.1)
    three_.hear(PING, ALICE)  # one has not read it yet
    quiet(one, two, three_)
    one.hear(call.from_bob("BYE", 7), BOB)
    assert (heard(one, ALICE), heard(two, ALICE), len(heard(three_, ALICE))) == ([], [], 1)


def test_an_unknown_target_is_spoken_to_directly(world: World) -> None:
    one, _, _ = three(world)
    assert Call(one).at_bob.startswith(b"INVITE")
    assert heard(one, BOB)[0].startswith("INVITE")


# -- dead holders


def dead_holder(world: World) -> tuple[Proxy, Proxy, Call]:
    """A call owned by the first; Alice was held by the third, which is dead."""
    one, two, three_ = three(world)
    call = Call(one)
    moves(world, three_)
    world.advance(1.1)
    three_.kill()
    quiet(one, two)
    return one, two, call


def test_what_is_for_a_client_of_a_dead_proxy_waits_for_its_next_packet(world: World) -> None:
    one, two, call = dead_holder(world)
    one.hear(call.from_bob("BYE", 7), BOB)  # emitted, and the ICMP error brings it back
    world.advance(10)
    assert heard(one, ALICE) == heard(two, ALICE) == []
    assert one.core.status()["flows"]["waiting"] == 1  # type: ignore[index]
    two.hear(PING, ALICE)
    world.advance(1.1)
    assert (heard(one, ALICE), [line[:3] for line in heard(two, ALICE)]) == ([], ["BYE"])
    assert one.core.status()["flows"]["waiting"] == 0  # type: ignore[index]


def test_it_goes_at_once_when_the_packet_comes_to_whom_it_waits_at(world: World) -> None:
    one, _, call = dead_holder(world)
    one.hear(call.from_bob("BYE", 7), BOB)
    world.advance(2)
    assert [line[:3] for line in map(start_line, one.hear(PING, ALICE))] == ["BYE"]


def test_the_order_of_what_waited_is_kept_and_retransmissions_wait_once(world: World) -> None:
    one, _, call = dead_holder(world)
    one.hear(call.from_bob("INFO", 7), BOB)
    one.hear(call.from_bob("BYE", 8), BOB)
    world.advance(12)
    assert one.count["flow_parked"] > 2
    assert [start_line(data).split()[0] for data in one.hear(PING, ALICE)][:2] == ["INFO", "BYE"]


def test_a_client_that_does_not_show_up_is_spoken_to_directly_before_its_transaction_ends(world: World) -> None:
    one, _, call = dead_holder(world)
    one.hear(call.from_bob("BYE", 7), BOB)
    world.advance(PATIENCE - 2)
    assert heard(one, ALICE) == []
    world.advance(4)
    assert [line[:3] for line in heard(one, ALICE)] == ["BYE"]


def test_a_proxy_that_ended_cleanly_is_gone_for_its_clients_too(world: World) -> None:
    one, two, three_ = three(world)
    call = Call(one)
    moves(world, three_)
    world.advance(1.1)
    three_.feed(events.Drain())
    world.advance(1.0)
    assert three_.core.empty
    one.hear(call.from_bob("INFO", 6), BOB)
    assert [line[:4] for line in heard(three_, ALICE)] == ["INFO"]  # while it lives it is the way
    three_.feed(events.Stop())
    world.settle()
    three_.kill()
    world.advance(1.5)
    quiet(one, two)
    one.hear(call.from_bob("BYE", 7), BOB)
    assert heard(one, ALICE) == []
    two.hear(PING, ALICE)
    world.advance(1.1)
    assert "BYE" in [line[:3] for line in heard(two, ALICE)]


def test_a_draining_proxy_does_not_leave_its_sockets(world: World) -> None:
    one, _, _ = three(world)
    Call(one)
    one.feed(events.Drain())
    world.advance(2.0)
    assert one.core.empty
    assert not [a for a in one.all if isinstance(a, actions.LeaveSelection)]


def test_a_proxy_with_messages_that_wait_is_not_empty(world: World) -> None:
    one, two, call = dead_holder(world)
    one.hear(call.from_bob("BYE", 7), BOB)
    one.hear(response(one.sent[-1].data, 200, "OK") if one.sent else PING, BOB)
    assert one.core.status()["flows"]["waiting"] == 1  # type: ignore[index]
    assert not one.core.empty
    assert two.core.empty


def test_what_waits_at_a_proxy_that_leaves_waits_at_one_that_stays(world: World) -> None:
    one, two, call = dead_holder(world)
    one.hear(call.from_bob("BYE", 7), BOB)
    world.advance(1.5)
    one.hear(request("INVITE", branch="late", call_id="late"), CAROL)  # so that it does not end at once
    one.feed(events.Drain())
    world.advance(0.3)
    assert [proxy.core.status()["flows"]["waiting"] for proxy in (one, two)] == [0, 1]  # type: ignore[index]
    one.kill()
    assert "BYE" in [start_line(data)[:3] for data in two.hear(PING, ALICE)]


def test_an_adopted_invite_says_who_held_its_caller(world: World) -> None:
    """The owner died within the second in which the others read who it held."""
    one, two, _ = three(world)
    call = Call(one, answer=False)
    one.kill()
    quiet(two)
    two.hear(response(call.at_bob, 200, "OK"), BOB)
    world.advance(5)
    assert heard(two, ALICE) == []
    assert two.core.status()["flows"]["waiting"] == 1  # type: ignore[index]
    assert "SIP/2.0 200 OK" in map(start_line, two.hear(PING, ALICE))


# -- a holder whose node has lost the client's connection


SHOWN = (ALICE[0], 40123)
"""Alice, under another port."""


def icmp(proxy: Proxy, target: Address) -> None:
    proxy.feed(events.TargetError(target, 0, proxy.sent[-1].data))


def bye_from_bob(one: Proxy, call: Call) -> bytes:
    one.hear(call.from_bob("BYE", 7), BOB)
    return next(sent.data for sent in one.sent if sent.target == ALICE)


def test_an_icmp_error_of_a_client_ends_no_transaction_but_waits_for_its_next_packet(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    world.advance(1.1)
    quiet(one, two)
    bye_from_bob(one, call)
    icmp(one, ALICE)
    sent = len(one.sent)
    world.advance(10)
    assert [line for line in heard(one, BOB) if line.startswith("SIP/2.0")] == []
    assert len(one.sent) == sent
    two.hear(PING, ALICE)
    world.advance(1.1)
    assert [line[:3] for line in heard(two, ALICE)] == ["BYE"]


def test_an_icmp_error_of_a_target_of_a_route_ends_its_transaction(world: World) -> None:
    one, _, _ = three(world)
    one.hear(PING, BOB)
    one.hear(request("INVITE"), ALICE)
    invite = next(sent for sent in one.sent if sent.target == BOB)
    one.feed(events.TargetError(BOB, 0, invite.data))
    world.settle()
    assert "SIP/2.0 500 Server Internal Error" in heard(one, ALICE)


@pytest.mark.parametrize("told_by_icmp", [True, False])
def test_a_client_that_is_shown_under_another_port_is_found_by_what_it_did_not_answer(
    world: World, told_by_icmp: bool
) -> None:
    one, _, _ = three(world)
    call = Call(one)
    world.advance(1.1)
    quiet(one)
    bye = bye_from_bob(one, call)
    if told_by_icmp:
        icmp(one, ALICE)
    world.advance(0.2)
    one.hear(PING, SHOWN)
    world.advance(5)
    assert heard(one, SHOWN) == [start_line(bye)]
    one.hear(response(bye, 200, "OK"), SHOWN)
    assert "SIP/2.0 200 OK" in heard(one, BOB)


def test_who_was_not_meant_does_not_end_the_transaction(world: World) -> None:
    one, _, _ = three(world)
    call = Call(one)
    world.advance(1.1)
    quiet(one)
    bye = bye_from_bob(one, call)
    world.advance(0.2)
    others = [(ALICE[0], 41000 + i) for i in range(3)]
    for other in others:
        one.hear(PING, other)
    world.advance(5)
    one.hear(response(bye, 481, "Call Does Not Exist"), others[0])
    assert [line for line in heard(one, BOB) if line.startswith("SIP/2.0")] == []
    one.hear(response(bye, 200, "OK"), others[1])
    assert [line for line in heard(one, BOB) if line.startswith("SIP/2.0")] == ["SIP/2.0 200 OK"]


def test_who_was_there_before_or_stands_elsewhere_is_not_asked(world: World) -> None:
    one, _, _ = three(world)
    one.hear(PING, (ALICE[0], 41000))
    world.advance(0.2)
    call = Call(one)
    world.advance(1.1)
    one.hear(PING, (CAROL[0], 41000))
    bye_from_bob(one, call)
    world.advance(5)
    assert heard(one, (ALICE[0], 41000)) == heard(one, (CAROL[0], 41000)) == []


def test_an_answer_with_keys_in_it_goes_to_a_stranger_only_when_there_is_one(world: World) -> None:
    one, _, _ = three(world)
    call = Call(one, answer=False)
    world.advance(1.1)
    one.hear(PING, SHOWN)
    ok = response(call.at_bob, 200, "OK", body="v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:k\r\n")
    one.hear(ok, BOB)
    assert heard(one, SHOWN) == []  # its ACK may be on its way
    one.hear(ok, BOB)
    assert heard(one, SHOWN) == ["SIP/2.0 200 OK"]
    quiet(one)
    one.hear(PING, (ALICE[0], 41000))
    one.hear(ok, BOB)
    assert heard(one, SHOWN) == heard(one, (ALICE[0], 41000)) == []
    plain = response(call.at_bob, 200, "OK", body="v=0\r\n")
    one.hear(plain, BOB)
    one.hear(plain, BOB)
    assert heard(one, SHOWN) == heard(one, (ALICE[0], 41000)) == ["SIP/2.0 200 OK"]


def test_a_caller_that_came_back_under_another_port_is_reached_there(world: World) -> None:
    one, _, _ = three(world)
    call = Call(one)
    one.hear(call.from_alice("INFO", 2), SHOWN)
    world.advance(0.1)
    quiet(one)
    one.hear(call.from_bob("BYE", 7), BOB)
    assert ([line[:3] for line in heard(one, SHOWN)], heard(one, ALICE)) == (["BYE"], [])


# -- targets of routes


def test_a_target_of_a_route_that_speaks_to_us_gets_calls_through_its_holder(world: World) -> None:
    one, two, _ = three(world)
    two.hear(PING, BOB)
    world.advance(1.1)
    one.hear(request("INVITE"), ALICE)
    assert heard(one, BOB) == []
    assert [line[:6] for line in heard(two, BOB)] == ["INVITE"]
    two.hear(response(two.sent[0].data, 180, "Ringing"), BOB)
    assert heard(one, ALICE) == ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing"]


def test_it_gets_them_directly_when_its_holder_is_dead(world: World) -> None:
    one, two, three_ = three(world)
    three_.hear(PING, BOB)
    world.advance(1.1)
    three_.kill()
    one.hear(request("INVITE"), ALICE)
    assert [line[:6] for line in heard(one, BOB)] == ["INVITE"]
    one.hear(response(next(sent.data for sent in one.sent if sent.target == BOB), 200, "OK"), BOB)
    assert "SIP/2.0 200 OK" in heard(one, ALICE)
    # That response came because we had spoken: it does not say where Bob's own packets arrive.
    assert one.core.node.arrival(BOB, 0) == three_.core.node.index
    two.hear(PING, BOB)
    assert two.core.node.arrival(BOB, 0) == two.core.node.index


def test_responses_to_what_was_sent_directly_make_no_holder(world: World) -> None:
    one, _, _ = three(world)
    Call(one)
    world.advance(1.1)
    assert one.core.node.arrival(BOB, 0) == 0
    assert len(told(world)) == 1


def test_a_late_response_of_a_target_is_no_answer_to_what_was_sent_directly(world: World) -> None:
    one, two, three_ = three(world)
    call = Call(one)
    three_.hear(PING, BOB)
    world.advance(ANSWERED - 5)
    three_.hear(PING, BOB)
    world.advance(10)
    two.hear(response(call.at_bob, 200, "OK"), BOB)
    assert two.core.node.arrival(BOB, 0) == two.core.node.index


# -- behind a Service: what nobody holds is spoken to from a socket beside

BESIDE = 1
"""Of one listener."""
BEHIND: dict[str, Any] = {
    "listeners": [{"address": CLUSTER[0], "port": CLUSTER[1], "advertised": "198.51.100.10"}],
    "flows": True,
}


def asked(proxy: Proxy, method: str = "INVITE") -> actions.Send:
    """The request that this proxy sent to Bob last."""
    return next(s for s in reversed(proxy.sent) if s.target == BOB and s.data.startswith(method.encode()))


def test_a_target_that_nobody_holds_is_asked_from_beside_and_answers_there(world: World) -> None:
    one, _ = world.cluster(2, **BEHIND)
    one.hear(request("INVITE"), ALICE)
    assert asked(one).listener == BESIDE
    for status in (180, 200):
        one.feed(events.Datagram(response(asked(one).data, status), BOB, BESIDE))
        world.settle()
    assert [line.split()[1] for line in heard(one, ALICE)] == ["100", "180", "200"]
    assert all(s.listener == 0 for s in one.sent if s.target == ALICE)
    assert one.core.node.arrival(BOB, 0) == 0, "that does not say where Bob's own packets arrive"


def test_once_its_own_packets_come_it_is_answered_from_where_they_arrive(world: World) -> None:
    one, _ = world.cluster(2, **BEHIND)
    call = Call(one)
    one.feed(events.Datagram(call.from_bob("BYE", 7), BOB, 0))
    world.settle()
    one.hear(response(next(s.data for s in one.sent if s.data.startswith(b"BYE")), 200), ALICE)
    assert one.sent[-1].target == BOB
    assert one.sent[-1].listener == 0
    assert one.core.node.arrival(BOB, 0) == one.core.node.index


def test_requests_that_come_to_the_socket_beside_are_not_for_us(world: World) -> None:
    one, _ = world.cluster(2, **BEHIND)
    one.feed(events.Datagram(request("OPTIONS", "sip:example.com", source=BOB), BOB, BESIDE))
    one.feed(events.Datagram(PING, BOB, BESIDE))
    world.settle()
    assert one.sent == []
    assert one.count["ignored"] == 2


def test_an_error_at_the_socket_beside_says_nothing_of_the_target_s_own_way(world: World) -> None:
    one, _ = world.cluster(2, **BEHIND)
    one.hear(request("INVITE"), ALICE)
    one.feed(events.TargetError(BOB, BESIDE, asked(one).data))
    world.settle()
    assert [line.split()[1] for line in heard(one, ALICE)] == ["100", "500"]
    assert one.count["flows_lost"] == 0


def test_a_target_that_was_away_when_we_started_is_asked_how_it_sees_us_when_it_shows_up(world: World) -> None:
    one, _ = world.cluster(2, ask_targets=True, **BEHIND)
    world.advance(60)
    quiet(one)
    one.hear(PING, BOB)
    question = asked(one, "OPTIONS")
    assert question.listener == BESIDE
    seen = response(question.data, 200).replace(b";rport\r\n", b";rport=4711;received=198.51.100.21\r\n", 1)
    one.feed(events.Datagram(seen, BOB, BESIDE))
    world.advance(1.1)
    assert one.core._ownership.peers.outlook.seen_as == ["198.51.100.21:4711"]
    quiet(one)
    world.advance(LIFE + 20)
    one.hear(PING, BOB)
    assert heard(one, BOB) == []


# -- bounds


def test_noise_and_refused_requests_are_told_to_nobody(world: World) -> None:
    one, _, _ = three(world)
    for i in range(300):
        source = (f"127.9.0.{i % 250}", 1024 + i)
        one.hear(request("INVITE", "sip:x@elsewhere.test", branch=f"n{i}", source=source), source)
        one.hear(request("OPTIONS", "sip:example.com", branch=f"o{i}", source=source), source)
        one.hear(PING, (f"127.8.0.{i % 250}", 5060))
        one.hear(b"\x00" * 400, (f"127.7.0.{i % 250}", 5060))
    world.advance(3)
    assert told(world) == {}
    assert one.count["flows_told"] == 0
    assert one.core.status()["flows"] == {"held": 0, "elsewhere": 0, "waiting": 0}


def test_guests_are_bounded(world: World) -> None:
    one, _, _ = three(world)
    for i in range(MAX_GUESTS + 100):
        source = (f"127.9.{i // 250}.{i % 250}", 5060)
        one.feed(_datagram(request("BYE", "sip:x@example.com", branch=f"n{i}", source=source), source))
    assert sum(map(len, one.core._ownership.flows._guests)) == MAX_GUESTS  # type: ignore[union-attr]


def test_a_flood_of_calls_makes_a_bounded_number_of_clients_and_few_writes(world: World) -> None:
    one, _, _ = three(world)
    assert world.store is not None
    world.store.log.clear()
    for i in range(NEW_A_SECOND + 50):
        source = (f"127.9.{i // 250}.{i % 250}", 5060)
        one.hear(request("INVITE", branch=f"n{i}", call_id=f"c{i}", source=source), source)
    assert one.core.status()["flows"]["held"] == NEW_A_SECOND  # type: ignore[index]
    assert one.count["flows_refused"] >= 50
    world.advance(0.5)
    telling = [command for command in world.store.log if b"sf:default/c:flows" in command and command[0] == b"EVALSHA"]
    assert 1 <= len(telling) <= 5
    assert len(told(world)) == NEW_A_SECOND


def test_a_silent_client_is_forgotten_by_all(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    one.hear(call.from_alice("BYE", 2), ALICE)
    world.advance(LIFE - 5)
    one.hear(PING, ALICE)
    world.advance(LIFE - 5)
    assert len(told(world)) == 1
    world.advance(20)
    assert told(world) == {}
    assert [p.core.node.arrival(ALICE, 0) for p in (one, two)] == [0, 0]


def test_clients_of_a_dead_proxy_are_forgotten_by_all(world: World) -> None:
    one, two, _ = dead_holder(world)
    assert len(told(world)) == 1
    world.advance(LIFE + 20)
    assert told(world) == {}
    assert [p.core.node.arrival(ALICE, 0) for p in (one, two)] == [0, 0]


# -- the store


def test_a_proxy_that_starts_later_knows_who_holds_whom(world: World) -> None:
    one, _, _ = three(world)
    Call(one)
    world.advance(1.1)
    late = world.member(flows=True)
    world.advance(2)
    assert late.core.node.arrival(ALICE, 0) == one.core.node.index


def test_without_the_store_flows_stay_and_an_empty_one_gets_them_all(world: World) -> None:
    one, two, _ = three(world)
    call = Call(one)
    moves(world, two)
    world.advance(1.1)
    world.store_down()
    world.advance(5)
    one.hear(PING, CAROL)  # nobody
    two.hear(PING, ALICE)
    quiet(one, two)
    one.hear(call.from_bob("INFO", 6), BOB)
    assert (heard(one, ALICE), len(heard(two, ALICE))) == ([], 1)
    world.store_up(empty=True)
    world.advance(2)
    assert len(told(world)) == 2  # Bob is a target of a route and has sent a request
    late = world.member(flows=True)
    world.advance(2)
    assert late.core.node.arrival(ALICE, 0) == two.core.node.index


def test_a_client_that_moved_while_the_store_was_away_is_where_its_later_packet_came(world: World) -> None:
    one, two, three_ = three(world)
    Call(one)
    world.advance(1.1)
    world.store_down()
    world.advance(5)
    three_.connected = False
    one.kill()
    two.hear(PING, ALICE)
    world.advance(1)
    three_.connected = True
    world.store_up(empty=False)
    world.advance(2)
    assert three_.core.node.arrival(ALICE, 0) == two.core.node.index


def test_who_missed_a_part_of_the_log_reads_the_whole_table(world: World) -> None:
    one, two, _ = three(world)
    assert world.store is not None
    Call(one)
    world.advance(1.1)
    two.connected = False
    world.advance(1.1)
    for i in range(5):
        source = (f"127.9.1.{i}", 5060)
        one.hear(request("INVITE", branch=f"n{i}", call_id=f"c{i}", source=source), source)
        world.advance(0.2)
    world.store.redis.xtrim("sf:default/c:flows:log", maxlen=1)
    two.connected = True
    world.advance(3)
    assert two.core.status()["flows"]["elsewhere"] == 6  # type: ignore[index]


def test_of_two_claims_the_later_packet_wins(world: World) -> None:
    one, two, _ = three(world)
    Call(one)
    world.advance(1.1)
    for _ in range(3):  # two paths in turns: both are told, and each second only once
        two.hear(PING, ALICE)
        world.advance(0.6)
        one.hear(PING, ALICE)
        world.advance(0.6)
    world.advance(2)
    assert [p.core.node.arrival(ALICE, 0) for p in world.proxies] == [one.core.node.index] * 3


def test_flows_without_a_store_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match=r"flows: true given, with `store` and `internal` expected"):
        world.proxy(flows=True)


def test_without_flows_nothing_is_told_or_read(world: World) -> None:
    one, _ = world.cluster(2)
    Call(one)
    assert world.store is not None
    assert not [command for command in world.store.log if any(b":flows" in part for part in command)]
    assert "flows" not in one.core.status()
    assert not [name for name, _, _ in one.core.gauges() if name.startswith("flow")]


def _datagram(data: bytes, source: Address) -> Any:
    return events.Datagram(data, source, 0)
