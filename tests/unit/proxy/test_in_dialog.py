"""Requests of a dialog: by token, by Call-ID and tags, by nothing (DESIGN 2.5, 2.6)."""

import pytest

from .harness import ALICE, BOB, CLUSTER, Call, World, header, request, response, start_line


@pytest.fixture
def world() -> World:
    return World()


def test_both_sides_find_each_other_by_the_token(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    proxy.hear(call.from_alice("INFO", 2), ALICE)
    proxy.hear(call.from_bob("INFO", 1), BOB)
    assert [target for _, target in proxy.take()] == [BOB, ALICE]


def test_without_a_route_the_call_is_found_by_its_tags(world: World) -> None:
    """SIPp's stock scenarios send that: their Request-URI names the proxy."""
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    [info] = proxy.hear(call.from_alice("INFO", 2, route=False), ALICE)
    assert start_line(info) == f"INFO sip:bob@{BOB[0]}:{BOB[1]} SIP/2.0"
    [back] = proxy.hear(call.from_bob("INFO", 1, route=False), BOB)
    assert start_line(back) == f"INFO sip:user@{ALICE[0]}:{ALICE[1]} SIP/2.0"


def test_what_nobody_knows_gets_481(world: World) -> None:
    proxy = world.proxy()
    [refusal] = proxy.hear(request("BYE", to_tag="bob"), ALICE)
    assert start_line(refusal).split()[1] == "481"
    assert proxy.hear(request("ACK", to_tag="bob"), ALICE) == []


def test_another_proxy_with_the_key_serves_by_the_token_alone(world: World) -> None:
    call = Call(world.proxy())
    stranger = world.proxy()
    [bye] = stranger.hear(call.from_alice("BYE", 2), ALICE)
    assert stranger.sent[0].target == BOB
    assert stranger.count["served_by_token"] == 1
    stranger.take()
    stranger.hear(response(bye, 200), BOB)
    [(ok, target)] = stranger.take()
    assert (start_line(ok), target) == ("SIP/2.0 200 Reason", ALICE)


@pytest.mark.parametrize("forged", ["call", "tag", "token"])
def test_a_token_that_was_not_made_for_this_dialog_is_403(world: World, forged: str) -> None:
    call = Call(world.proxy())
    stranger = world.proxy()
    bye = call.from_alice("BYE", 2)
    if forged == "call":
        bye = bye.replace(b"call@alice", b"other@alice")
    elif forged == "tag":
        bye = bye.replace(b"tag=alice", b"tag=mallory")
    else:
        bye = bye.replace(call.route[5:10].encode(), b"AAAAA")
    answers = stranger.hear(bye, ALICE)
    assert [start_line(a).split()[1] for a in answers] in (["403"], ["481"])
    assert {send.target for send in stranger.sent} == {ALICE}
    assert stranger.count["served_by_token"] == 0


def test_a_token_of_a_known_dialog_does_not_open_another(world: World) -> None:
    """The token of one call in a request of another: the MAC is looked at, not the table."""
    proxy = world.proxy()
    call = Call(proxy)
    other = request("BYE", f"sip:bob@{BOB[0]}:{BOB[1]}", call_id="foreign@x", to_tag="t", extra=f"Route: {call.route}")
    assert [start_line(a).split()[1] for a in proxy.hear(other, ALICE)] == ["403"]
    assert proxy.owned == 1


def test_the_next_route_is_followed(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    [info] = proxy.hear(call.from_alice("INFO", 2, extra="Route: <sip:10.0.0.9:5070;lr>, <sip:10.0.0.8;lr>"), ALICE)
    assert proxy.sent[0].target == ("10.0.0.9", 5070)
    assert header(info, "Route") == ["<sip:10.0.0.9:5070;lr>, <sip:10.0.0.8;lr>"]
    assert start_line(info) == f"INFO sip:bob@{BOB[0]}:{BOB[1]} SIP/2.0"


def test_our_route_first_of_several_on_one_line_is_taken_off(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    data = call.from_alice("INFO", 2).replace(b";lr>\r\n", b";lr>, <sip:10.0.0.9;lr>\r\n", 1)
    [info] = proxy.hear(data, ALICE)
    assert header(info, "Route") == ["<sip:10.0.0.9;lr>"]
    assert proxy.sent[0].target == ("10.0.0.9", 5060)


def test_a_strict_router_is_understood_and_served(world: World) -> None:
    """RFC 3261 16.4 and 16.6 step 6."""
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    ours = call.route.strip("<>")
    from_strict = request(
        "INFO", ours, call_id=call.call_id, cseq=2, to_tag="bob", extra=f"Route: <sip:bob@{BOB[0]}:{BOB[1]}>"
    )
    [info] = proxy.hear(from_strict, ALICE)
    assert start_line(info) == f"INFO sip:bob@{BOB[0]}:{BOB[1]} SIP/2.0"
    assert header(info, "Route") == []
    proxy.take()
    [info] = proxy.hear(call.from_alice("INFO", 3, extra="Route: <sip:10.0.0.9>"), ALICE)
    assert start_line(info) == "INFO sip:10.0.0.9 SIP/2.0"
    assert header(info, "Route") == [f"<sip:bob@{BOB[0]}:{BOB[1]}>"]


def test_a_target_with_a_name_is_reached_where_it_came_from(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    data = call.from_alice("INFO", 2).replace(
        f"INFO sip:bob@{BOB[0]}:{BOB[1]}".encode(), b"INFO sip:bob@pc.example.net"
    )
    proxy.hear(data, ALICE)
    assert proxy.sent[0].target == BOB


def test_a_re_invite_moves_the_remote_target(world: World) -> None:
    """RFC 3261 12.2: it counts for requests that name us."""
    proxy = world.proxy()
    call = Call(proxy)
    moved = ("127.105.0.9", 5099)
    reinvite = call.from_alice("INVITE", 2).replace(
        f"<sip:user@{ALICE[0]}:{ALICE[1]}>".encode(), f"<sip:user@{moved[0]}:{moved[1]}>".encode()
    )
    [out, _trying] = proxy.hear(reinvite, ALICE)
    assert header(out, "Record-Route") == []
    proxy.hear(response(out, 200, "OK"), BOB)
    proxy.take()
    proxy.hear(call.from_bob("INFO", 1, route=False), BOB)
    assert proxy.sent[0].target == moved
    assert proxy.owned == 1


def test_a_failed_re_invite_leaves_the_call_up(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    [out, _] = proxy.hear(call.from_alice("INVITE", 2), ALICE)
    proxy.hear(response(out, 488), BOB)
    assert proxy.owned == 1
    world.advance(60)
    assert proxy.hear(call.from_alice("BYE", 3), ALICE)
    assert proxy.owned == 0


def test_one_fork_that_hangs_up_leaves_the_other(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.hear(response(call.at_bob, 200, "OK", tag="other"), BOB)
    proxy.hear(call.from_alice("BYE", 2), ALICE)
    assert proxy.owned == 1
    proxy.hear(call.from_alice("BYE", 3).replace(b"tag=bob", b"tag=other"), ALICE)
    assert proxy.owned == 0
    assert len(proxy.logged("call-ended")) == 1


def test_the_route_of_another_port_of_ours_is_not_ours(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    data = call.from_alice("INFO", 2).replace(
        f"@{CLUSTER[0]}:{CLUSTER[1]};lr".encode(), f"@{CLUSTER[0]}:5999;lr".encode()
    )
    [out] = proxy.hear(data, ALICE)
    assert proxy.sent[0].target == (CLUSTER[0], 5999)
    assert len(header(out, "Route")) == 1


def test_a_call_whose_bye_never_comes_ends_after_three_hours(world: World) -> None:
    proxy = world.proxy()
    Call(proxy)
    world.advance(10_700)
    assert proxy.owned == 1
    world.advance(200)
    assert proxy.owned == 0
    assert len(proxy.core.node.dialogs) == len(proxy.core.node.tokens) == 0
    [ended] = proxy.logged("call-ended")
    assert ended.fields["ended_by"] == "proxy"
