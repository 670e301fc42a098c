"""CANCEL and timer C (RFC 3261 9, 16.8, 16.10)."""

import pytest

from .harness import ALICE, BOB, CAROL, World, header, request, response, start_line


@pytest.fixture
def world() -> World:
    return World()


def test_a_ringing_call_is_cancelled_hop_by_hop(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    proxy.take()
    proxy.hear(request("CANCEL"), ALICE)
    (ok, to_alice), (cancel, to_bob) = proxy.take()
    assert (start_line(ok), header(ok, "CSeq"), to_alice) == ("SIP/2.0 200 OK", ["1 CANCEL"], ALICE)
    assert (start_line(cancel), to_bob) == (f"CANCEL sip:bob@{BOB[0]}:{BOB[1]} SIP/2.0", BOB)
    assert header(cancel, "Via") == [header(invite, "Via")[0]]
    assert header(cancel, "CSeq") == ["1 CANCEL"]
    proxy.hear(response(cancel, 200), BOB)
    assert proxy.take() == []
    proxy.hear(response(invite, 487, "Request Terminated"), BOB)
    (ack, _), (terminated, target) = proxy.take()
    assert start_line(ack).startswith("ACK ")
    assert (start_line(terminated), target) == ("SIP/2.0 487 Request Terminated", ALICE)


def test_a_cancel_before_any_response_waits_for_one(world: World) -> None:
    """RFC 3261 9.1: a CANCEL must not overtake its INVITE."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    assert [start_line(d) for d in proxy.hear(request("CANCEL"), ALICE)] == ["SIP/2.0 200 OK"]
    sent = proxy.hear(response(invite, 100), BOB)
    assert [start_line(d).split()[0] for d in sent] == ["CANCEL"]


def test_a_cancel_that_comes_again_is_answered_again_and_sent_once(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    proxy.hear(request("CANCEL"), ALICE)
    assert [start_line(d) for d in proxy.hear(request("CANCEL"), ALICE)] == ["SIP/2.0 200 OK"]


def test_a_cancel_is_repeated_until_it_is_answered(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    proxy.hear(request("CANCEL"), ALICE)
    proxy.take()
    world.advance(1.6)
    assert [start_line(d).split()[0] for d, _ in proxy.take()] == ["CANCEL", "CANCEL"]


def test_a_callee_that_never_ends_a_cancelled_call_is_given_up_after_32_seconds(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    cancel = proxy.hear(request("CANCEL"), ALICE)[-1]
    proxy.hear(response(cancel, 200), BOB)
    proxy.take()
    world.advance(33)
    assert start_line(proxy.take()[0][0]) == "SIP/2.0 487 Request Terminated"


def test_a_2xx_that_crosses_the_cancel_wins(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    proxy.hear(request("CANCEL"), ALICE)
    assert [start_line(d) for d in proxy.hear(response(invite, 200, "OK"), BOB)] == ["SIP/2.0 200 OK"]
    assert proxy.owned == 1


def test_a_cancelled_call_tries_no_other_target(world: World) -> None:
    targets = [f"sip:{BOB[0]}:{BOB[1]}", f"sip:{CAROL[0]}:{CAROL[1]}"]
    proxy = world.proxy(routes=[{"domain": "example.com", "targets": targets}])
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    proxy.hear(request("CANCEL"), ALICE)
    proxy.take()
    proxy.hear(response(invite, 503), BOB)
    assert {target for _, target in proxy.take()} == {BOB, ALICE}


def test_a_cancel_of_nothing_gets_481(world: World) -> None:
    assert [start_line(d) for d in world.proxy().hear(request("CANCEL"), ALICE)] == [
        "SIP/2.0 481 Call/Transaction Does Not Exist"
    ]


def test_a_cancel_of_an_answered_call_changes_nothing(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 200, "OK"), BOB)
    assert [start_line(d) for d in proxy.hear(request("CANCEL"), ALICE)] == ["SIP/2.0 200 OK"]
    assert proxy.owned == 1


def test_a_call_that_rings_for_three_minutes_is_cancelled_and_gets_408(world: World) -> None:
    """Timer C (RFC 3261 16.8)."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    world.advance(0.1)
    proxy.hear(response(invite, 180), BOB)
    proxy.take()
    world.advance(179.8)
    assert proxy.take() == []
    world.advance(0.3)
    [(cancel, target)] = proxy.take()
    assert (start_line(cancel).split()[0], target) == ("CANCEL", BOB)
    proxy.hear(response(invite, 487), BOB)
    assert start_line(proxy.take()[-1][0]) == "SIP/2.0 408 Request Timeout"


def test_each_provisional_response_gives_timer_c_anew(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    world.advance(170)
    proxy.hear(response(invite, 180), BOB)
    proxy.take()
    world.advance(170)
    assert proxy.take() == []
    assert not proxy.core.empty
