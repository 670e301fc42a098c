"""Full, cordoned and leaving proxies (DESIGN 2.10)."""

import pytest

from sipcore import record
from sipcore.record import DialogRecord
from sipproxy.core import actions, events

from .harness import ALICE, BOB, CLUSTER, Address, Call, Store, World, request, response, start_line
from .test_ownership import records


@pytest.fixture
def world() -> World:
    return World()


def test_a_cordoned_proxy_hands_new_calls_to_a_peer_that_owns_them(world: World) -> None:
    leaving, other = world.cluster()
    leaving.feed(events.Cordon())
    world.settle()
    leaving.hear(request("INVITE"), ALICE)
    assert leaving.take() == []
    assert [start_line(d).split()[0] for d, _ in other.take()] == ["INVITE", "SIP/2.0"]


def test_a_full_proxy_hands_new_calls_on_and_serves_what_it_has(world: World) -> None:
    full, other = world.cluster(2, capacity=1)
    call = Call(full)
    world.advance(1)
    full.take()
    full.hear(request("INVITE", call_id="second", branch="2"), ALICE)
    assert full.take() == []
    assert [start_line(d).split()[0] for d, _ in other.take()] == ["INVITE", "SIP/2.0"]
    assert full.hear(call.from_alice("INFO", 2), ALICE)


def test_503_goes_out_only_when_no_peer_has_room_and_asks_nobody_to_stay_away(world: World) -> None:
    one, two = world.cluster()
    for proxy in (one, two):
        proxy.feed(events.Cordon())
    world.advance(1.1)
    [refusal] = one.hear(request("INVITE"), ALICE)
    assert start_line(refusal) == "SIP/2.0 503 Service Unavailable"
    assert b"Retry-After" not in refusal


def test_a_draining_proxy_asks_for_a_peer_that_it_has_not_read_yet_before_it_refuses(world: World) -> None:
    [leaving] = world.cluster(1)
    world.advance(0.3)
    other = world.member()
    leaving.core.node.cordoned = True  # as Drain does, before the heartbeat that goes with it is answered
    assert leaving.hear(request("INVITE"), ALICE) == []
    invite, trying = (data for data, _ in other.take())
    assert [start_line(invite).split()[0], start_line(trying)] == ["INVITE", "SIP/2.0 100 Trying"]
    assert (leaving.core.node.open, other.core.node.open) == (0, 1)


def test_a_proxy_that_waits_for_the_names_of_its_peers_is_not_empty(world: World) -> None:
    [leaving] = world.cluster(1)
    leaving.core.node.cordoned = True
    leaving.feed(events.Datagram(request("INVITE"), ALICE, 0))
    assert not leaving.core.empty
    world.settle()
    assert leaving.core.empty
    assert [start_line(d).split()[1] for d, _ in leaving.take()] == ["503"]


def test_a_call_that_was_handed_over_is_taken_even_when_full(world: World) -> None:
    """Two full proxies that believe of each other that there is room must not play ball."""
    one, two = world.cluster(2, capacity=1)
    Call(one, "a")
    Call(two, "b")
    one.hear(request("INVITE", call_id="c", branch="c"), ALICE)
    assert [start_line(d).split()[0] for d, _ in two.take()][-2:] == ["INVITE", "SIP/2.0"]


def test_a_draining_proxy_leaves_the_selection_and_gives_its_dialogs_away(world: World) -> None:
    leaving, other = world.cluster()
    calls = [Call(leaving, f"c{i}") for i in range(40)]
    leaving.feed(events.Drain())
    assert [type(a) for a in leaving.all if isinstance(a, actions.LeaveSelection)] == [actions.LeaveSelection]
    world.advance(1)
    assert leaving.core.empty
    assert (leaving.owned, other.owned) == (0, 40)
    assert {record.unseal(v, DialogRecord)[:2] for v in records(world)} == {(other.core.node.index, 2)}
    other.take()
    for call in calls:
        other.hear(call.from_alice("BYE", 2), ALICE)
    assert [start_line(d).split()[0] for d, _ in other.take()] == ["BYE"] * 40
    assert world.store is not None
    assert len(world.store.cdrs()) == 40


def listener(address: Address) -> dict[str, object]:
    return {"address": address[0], "port": address[1]}


def test_a_proxy_leaves_the_selection_of_what_it_shares_and_of_nothing_else(world: World) -> None:
    """In the local runtime each proxy has the shared address and one of its own, where it is probed."""
    world.store = Store()
    leaving, other = (world.member(listeners=[listener(CLUSTER), listener((f"127.105.2.{n}", 5060))]) for n in range(2))
    world.advance(4.0)
    Call(leaving)
    leaving.feed(events.Drain())
    assert [a.listeners for a in leaving.all if isinstance(a, actions.LeaveSelection)] == [[0]]
    world.advance(1)
    assert (leaving.owned, other.owned) == (0, 1)


def test_a_proxy_with_an_address_of_its_own_waits_for_its_calls(world: World) -> None:
    """Its address stands in the Route of its dialogs: on host network nobody else is found there."""
    world.store = Store()
    leaving, other = world.member(), world.member(listeners=[listener(("127.105.2.1", 5060))])
    world.advance(4.0)
    call = Call(leaving)
    leaving.feed(events.Drain())
    world.advance(60)
    assert (leaving.owned, other.owned) == (1, 0)
    assert not any(isinstance(a, actions.LeaveSelection) for a in leaving.all)
    leaving.hear(request("INVITE", call_id="new", branch="new"), ALICE)
    assert other.core.node.open == 1
    [bye] = leaving.hear(call.from_alice("BYE", 2), ALICE)
    leaving.hear(response(bye, 200), BOB)
    assert leaving.core.empty


def test_requests_that_still_reach_the_old_owner_go_to_the_new_one(world: World) -> None:
    leaving, other, third = world.cluster(3)
    call = Call(leaving)
    leaving.feed(events.Drain())
    world.advance(1)
    for proxy in (leaving, third):
        other.take()
        proxy.hear(call.from_alice("INFO", 2, branch=f"i{id(proxy)}"), ALICE)
        assert [start_line(d).split()[0] for d, _ in other.take() + third.take()] == ["INFO"]


def test_a_drain_waits_for_open_transactions_and_then_gives_the_new_dialog_away(world: World) -> None:
    leaving, other = world.cluster()
    invite, _ = leaving.hear(request("INVITE"), ALICE)
    leaving.feed(events.Drain())
    world.advance(5)
    assert not leaving.core.empty
    other.hear(response(invite, 200, "OK"), BOB)
    assert start_line(leaving.take()[-1][0]) == "SIP/2.0 200 OK"
    world.advance(1)
    assert leaving.core.empty
    assert other.owned == 1


def test_a_drain_without_peers_waits_for_the_calls_to_end(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.feed(events.Drain())
    world.advance(600)
    assert not proxy.core.empty
    assert [start_line(d).split()[1] for d in proxy.hear(request("INVITE", call_id="n", branch="n"), ALICE)] == ["503"]
    [bye] = proxy.hear(call.from_alice("BYE", 2), ALICE)
    proxy.hear(response(bye, 200), BOB)
    assert proxy.core.empty


def test_a_lone_proxy_stays_selected_until_a_peer_comes(world: World) -> None:
    [leaving] = world.cluster(1)
    call = Call(leaving)
    leaving.feed(events.Drain())
    world.advance(1)
    assert not any(isinstance(a, actions.LeaveSelection) for a in leaving.all)
    [info] = leaving.hear(call.from_alice("INFO", 2), ALICE)
    leaving.hear(response(info, 200), BOB)
    other = world.member()
    world.advance(2)
    assert any(isinstance(a, actions.LeaveSelection) for a in leaving.all)
    assert leaving.core.empty
    assert other.owned == 1


def test_a_drain_waits_while_the_store_is_away(world: World) -> None:
    leaving, other = world.cluster()
    Call(leaving)
    world.store_down()
    leaving.feed(events.Drain())
    world.advance(5)
    assert not leaving.core.empty
    world.store_up(empty=False)
    world.advance(2)
    assert leaving.core.empty
    assert other.owned == 1


def test_a_bye_while_its_dialog_changes_hands_leaves_nothing_behind(world: World) -> None:
    leaving, other = world.cluster()
    call = Call(leaving)
    leaving.feed(events.Drain())  # the record names the new owner now, who has not been told
    leaving.feed(events.Datagram(call.from_alice("BYE", 2), ALICE, 0))
    world.advance(2)
    assert (leaving.owned, other.owned) == (0, 0)
    assert world.store is not None
    assert len(world.store.cdrs()) == 1


def test_a_new_owner_that_dies_before_it_was_told_does_not_take_the_call_with_it(world: World) -> None:
    leaving, other, third = world.cluster(3)
    call = Call(leaving)
    leaving.feed(events.Drain())
    victim = next(p for p in (other, third) if p is not leaving)
    victim.kill()
    world.advance(6)
    survivor = third if victim is other else other
    assert leaving.core.empty
    assert survivor.owned == 1
    survivor.take()
    survivor.hear(call.from_alice("BYE", 2), ALICE)
    assert [start_line(d).split()[0] for d, _ in survivor.take()] == ["BYE"]


def test_uncordon_ends_a_drain(world: World) -> None:
    proxy, _ = world.cluster()
    proxy.feed(events.Drain())
    assert any(isinstance(action, actions.LeaveSelection) for action in proxy.all)
    todo = proxy.feed(events.Uncordon())
    assert any(isinstance(action, actions.JoinSelection) for action in todo)
    assert len(proxy.hear(request("INVITE"), ALICE)) == 2


def test_a_proxy_that_stops_takes_its_lease_away(world: World) -> None:
    leaving, other = world.cluster()
    leaving.feed(events.Stop())
    leaving.kill()
    world.advance(1.1)
    keeper = other.core._ownership.peers.keeper
    assert keeper is not None
    assert list(keeper.alive) == [other.core.node.index]


def test_status_tells_what_the_operator_needs(world: World) -> None:
    proxy, _ = world.cluster()
    Call(proxy)
    proxy.feed(events.Cordon())
    status = proxy.core.status()
    assert status["active"] == 1
    assert status["cordoned"] is True
    assert status["draining"] is False
    assert status["empty"] is False
    assert status["store"] is True
    assert status["index"] == proxy.core.node.index
