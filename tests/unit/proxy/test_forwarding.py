"""Requests go out, responses come back: RFC 3261 16.6 and 16.7, with the timers of section 17."""

import pytest

from sipproxy.core import actions, events

from .harness import ALICE, BOB, CAROL, CLUSTER, Call, World, header, request, response, start_line

TWO_TARGETS = [{"domain": "example.com", "targets": [f"sip:{BOB[0]}:{BOB[1]}", f"sip:{CAROL[0]}:{CAROL[1]}"]}]


@pytest.fixture
def world() -> World:
    return World()


def test_an_invite_goes_to_its_target_and_the_100_follows_it(world: World) -> None:
    proxy = world.proxy()
    todo = proxy.feed(events.Datagram(request("INVITE"), ALICE, 0))
    sends = [action for action in todo if isinstance(action, actions.Send)]
    assert [(start_line(s.data), s.target) for s in sends] == [
        (f"INVITE sip:bob@{BOB[0]}:{BOB[1]} SIP/2.0", BOB),
        ("SIP/2.0 100 Trying", ALICE),
    ]


def test_a_forwarded_request_has_our_via_record_route_and_one_hop_less(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE", extra="X-Unknown: stays"), ALICE)
    ours, alices = header(invite, "Via")
    assert ours.startswith(f"SIP/2.0/UDP {CLUSTER[0]}:{CLUSTER[1]};branch=z9hG4bK")
    assert ";sf=" in ours
    assert ours.endswith(";rport")
    assert alices == f"SIP/2.0/UDP {ALICE[0]}:{ALICE[1]};branch=z9hG4bK1;rport={ALICE[1]};received={ALICE[0]}"
    assert header(invite, "Max-Forwards") == ["69"]
    [route] = header(invite, "Record-Route")
    assert route.startswith("<sip:")
    assert route.endswith(f"@{CLUSTER[0]}:{CLUSTER[1]};lr>")
    assert len(route) == len("<sip:@;lr>") + 32 + len(f"{CLUSTER[0]}:{CLUSTER[1]}")
    assert header(invite, "X-Unknown") == ["stays"]


def test_a_request_without_max_forwards_gets_one(world: World) -> None:
    invite, _ = world.proxy().hear(request("INVITE", max_forwards=None), ALICE)
    assert header(invite, "Max-Forwards") == ["70"]


def test_five_copies_of_an_invite_are_one_downstream(world: World) -> None:
    proxy = world.proxy()
    first = proxy.hear(request("INVITE"), ALICE)
    assert len(first) == 2
    for _ in range(4):
        again = proxy.hear(request("INVITE"), ALICE)
        assert [start_line(data) for data in again] == ["SIP/2.0 100 Trying"]


def test_the_same_invite_makes_the_same_branch_at_every_proxy(world: World) -> None:
    one, other = world.proxy(), world.proxy()
    assert (
        header(one.hear(request("INVITE"), ALICE)[0], "Via")[0]
        == header(other.hear(request("INVITE"), ALICE)[0], "Via")[0]
    )
    spiral = request("INVITE", branch="other")
    assert header(one.hear(spiral, ALICE)[0], "Via")[0] != header(other.sent[0].data, "Via")[0]


def test_responses_go_back_without_our_via_to_where_the_request_came_from(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    proxy.hear(response(invite, 180, "Ringing"), BOB)
    [(ringing, target)] = proxy.take()
    assert target == ALICE
    assert start_line(ringing) == "SIP/2.0 180 Ringing"
    assert len(header(ringing, "Via")) == 1


def test_a_caller_without_rport_is_answered_at_its_sent_by_port(world: World) -> None:
    proxy = world.proxy()
    nat = (ALICE[0], 40000)
    proxy.hear(request("INVITE", rport=False), nat)
    assert {send.target for send in proxy.sent[1:]} == {ALICE}


@pytest.mark.parametrize("joined", [True, False])
def test_vias_joined_by_comma_and_apart_are_both_understood(world: World, joined: bool) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    answer = response(invite, 180)
    if joined:
        vias = header(answer, "Via")
        answer = answer.replace(f"Via: {vias[0]}\r\n".encode(), b"").replace(
            f"Via: {vias[1]}".encode(), f"Via: {vias[0]}, {vias[1]}".encode()
        )
    [up] = proxy.hear(answer, BOB)
    assert header(up, "Via") == [header(invite, "Via")[1]]


def test_a_100_of_the_target_is_not_passed_on(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    assert proxy.hear(response(invite, 100), BOB) == []


def test_each_2xx_is_passed_on_even_when_it_comes_again(world: World) -> None:
    """RFC 6026: the transaction is ACCEPTED for 64*T1."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    for _ in range(3):
        assert [start_line(d) for d in proxy.hear(response(invite, 200, "OK"), BOB)] == ["SIP/2.0 200 OK"]
    assert proxy.owned == 1
    world.advance(32.1)
    assert proxy.hear(response(invite, 200, "OK"), BOB) == []


def test_an_ack_of_a_2xx_passes_and_keeps_no_transaction(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    before = len(proxy.core.node.contexts)
    proxy.take()
    proxy.hear(call.from_alice("ACK", 1), ALICE)
    [(ack, target)] = proxy.take()
    assert target == BOB
    assert header(ack, "Route") == []
    assert len(header(ack, "Via")) == 2
    assert len(proxy.core.node.contexts) == before


def test_a_bye_ends_the_dialog_and_its_200_comes_back(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    [bye] = proxy.hear(call.from_alice("BYE", 2), ALICE)
    assert proxy.owned == 0
    assert header(bye, "Route") == []
    assert [start_line(d) for d in proxy.hear(response(bye, 200, "OK"), BOB)] == ["SIP/2.0 200 OK"]
    assert proxy.core.empty
    world.advance(33)
    node = proxy.core.node
    assert (len(node.contexts), len(node.branches), len(node.dialogs), len(node.tokens)) == (0, 0, 0, 0)


def test_the_callee_can_end_it_too(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.take()
    proxy.hear(call.from_bob("BYE", 1), BOB)
    [(bye, target)] = proxy.take()
    assert (start_line(bye), target) == (f"BYE sip:user@{ALICE[0]}:{ALICE[1]} SIP/2.0", ALICE)
    [ended] = proxy.logged("call-ended")
    assert ended.fields["ended_by"] == "callee"


def test_byes_that_cross_both_arrive(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    assert proxy.hear(call.from_alice("BYE", 2, route=False), ALICE)
    assert [start_line(d) for d in proxy.hear(call.from_bob("BYE", 1, route=False), BOB)] == [
        f"BYE sip:user@{ALICE[0]}:{ALICE[1]} SIP/2.0"
    ]
    assert len(proxy.logged("call-ended")) == 1


def test_a_non_2xx_is_acknowledged_downstream_and_passed_on_upstream(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    proxy.hear(response(invite, 486, "Busy Here"), BOB)
    (ack, to_bob), (busy, to_alice) = proxy.take()
    assert (start_line(ack), to_bob) == (f"ACK sip:bob@{BOB[0]}:{BOB[1]} SIP/2.0", BOB)
    assert header(ack, "Via") == [header(invite, "Via")[0]]
    assert header(ack, "To") == ["<sip:bob@example.com>;tag=bob"]
    assert header(ack, "CSeq") == ["1 ACK"]
    assert (start_line(busy), to_alice) == ("SIP/2.0 486 Busy Here", ALICE)
    # It comes again because our ACK was lost: acknowledged again, not passed on again (figure 5, COMPLETED).
    again = proxy.hear(response(invite, 486, "Busy Here"), BOB)
    assert [start_line(d) for d in again] == [start_line(ack)]


def test_a_non_2xx_is_repeated_upstream_until_its_ack_comes(world: World) -> None:
    """Timers G and H (RFC 3261 17.2.1)."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 486), BOB)
    proxy.take()
    world.advance(0.51)
    assert len(proxy.take()) == 1
    world.advance(1.0)
    assert len(proxy.take()) == 1
    assert not proxy.core.empty
    ack = request("ACK", to_tag="bob")
    assert proxy.hear(ack, ALICE) == []
    assert proxy.core.empty
    world.advance(10)
    assert proxy.take() == []
    assert proxy.hear(ack, ALICE) == []


def test_without_an_ack_the_non_2xx_is_given_up_after_32_seconds(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 486), BOB)
    proxy.take()
    world.advance(31.9)
    assert 9 <= len(proxy.take()) <= 11
    world.advance(40)
    assert proxy.take() == []
    assert proxy.core.empty


def test_an_invite_without_answer_is_repeated_and_gets_408(world: World) -> None:
    """Timers A and B; the first interval is a tenth longer, for a 2xx that is repeated after T1."""
    proxy = world.proxy()
    proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    at = []
    for _ in range(299):
        world.advance(0.1)
        at += [round(world.now - 1000, 1) for data, _ in proxy.take() if data.startswith(b"INVITE")]
    assert at == pytest.approx([0.6, 1.7, 3.9, 8.3, 17.1], abs=0.11)
    world.advance(0.2)
    [(timeout, target)] = proxy.take()
    assert (start_line(timeout), target) == ("SIP/2.0 408 Request Timeout", ALICE)
    assert ";tag=" in header(timeout, "To")[0]


def test_ringing_stops_the_repeating(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 180), BOB)
    proxy.take()
    world.advance(100)
    assert proxy.take() == []


def test_a_bye_is_repeated_every_4_seconds_at_most_and_dropped_after_32(world: World) -> None:
    """Timers E and F; RFC 4320: no 408 to anything but INVITE."""
    proxy = world.proxy()
    call = Call(proxy)
    proxy.hear(call.from_alice("BYE", 2), ALICE)
    proxy.take()
    world.advance(31.9)
    assert len(proxy.take()) == 10
    world.advance(20)
    assert proxy.take() == []
    assert proxy.core.empty


def test_the_next_target_is_tried_when_the_first_is_silent(world: World) -> None:
    proxy = world.proxy(routes=TWO_TARGETS)
    proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    world.advance(30.1)
    last, target = proxy.take()[-1]
    assert (start_line(last), target) == (f"INVITE sip:bob@{CAROL[0]}:{CAROL[1]} SIP/2.0", CAROL)
    assert proxy.count["failovers"] == 1


def test_the_next_target_is_tried_after_503_and_the_503_stays_here(world: World) -> None:
    proxy = world.proxy(routes=TWO_TARGETS)
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    proxy.hear(response(invite, 503), BOB)
    (ack, _), (second, target) = proxy.take()
    assert start_line(ack).startswith("ACK ")
    assert (start_line(second).split()[0], target) == ("INVITE", CAROL)
    assert header(second, "Via")[0] != header(invite, "Via")[0]
    [ok] = proxy.hear(response(second, 200, "OK"), CAROL)
    assert start_line(ok) == "SIP/2.0 200 OK"


def test_the_next_target_is_tried_when_icmp_says_that_nobody_is_there(world: World) -> None:
    proxy = world.proxy(routes=TWO_TARGETS)
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    proxy.feed(events.TargetError(BOB, 0, invite[:500]))
    [(second, target)] = proxy.take()
    assert target == CAROL
    proxy.feed(events.TargetError(CAROL, 0, second))
    [(failed, target)] = proxy.take()
    assert (start_line(failed), target) == ("SIP/2.0 500 Server Internal Error", ALICE)


def test_a_busy_callee_is_not_a_reason_to_try_another(world: World) -> None:
    proxy = world.proxy(routes=TWO_TARGETS)
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    answers = proxy.hear(response(invite, 486), BOB)
    assert [start_line(a).split()[1] for a in answers] == [f"sip:bob@{BOB[0]}:{BOB[1]}", "486"]


def test_of_several_failures_the_one_that_helps_most_goes_back(world: World) -> None:
    """RFC 3261 16.7 step 6."""
    proxy = world.proxy(routes=TWO_TARGETS)
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.take()
    proxy.hear(response(invite, 503), BOB)
    second = proxy.take()[-1][0]
    proxy.hear(response(second, 404, "Not Found"), CAROL)
    assert start_line(proxy.take()[-1][0]) == "SIP/2.0 404 Not Found"


def test_a_lone_503_becomes_500_because_it_is_not_about_us(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 503), BOB)
    assert start_line(proxy.take()[-1][0]) == "SIP/2.0 500 Server Internal Error"


def test_other_requests_are_forwarded_with_a_transaction_too(world: World) -> None:
    proxy = world.proxy()
    [message] = proxy.hear(request("MESSAGE", body="hi"), ALICE)
    assert header(message, "Record-Route") == []
    assert proxy.hear(request("MESSAGE", body="hi"), ALICE) == []
    [ok] = proxy.hear(response(message, 200, "OK"), BOB)
    assert proxy.hear(request("MESSAGE", body="hi"), ALICE) == [ok]
    assert proxy.hear(response(message, 200, "OK"), BOB) == []


@pytest.mark.parametrize("method", ["REFER", "SUBSCRIBE", "NOTIFY"])
def test_requests_that_begin_a_dialog_get_a_record_route(world: World, method: str) -> None:
    [out] = world.proxy().hear(request(method), ALICE)
    assert len(header(out, "Record-Route")) == 1


def test_a_stray_response_is_dropped(world: World) -> None:
    proxy = world.proxy()
    stray = response(request("INVITE"), 200, "OK")
    assert proxy.hear(stray, BOB) == []
    assert proxy.hear(b"SIP/2.0 200 OK\r\n\r\n", BOB) == []
    assert proxy.hear(b"SIP/2.0 200 OK", BOB) == []


def test_a_response_of_another_method_does_not_end_the_transaction(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    assert proxy.hear(response(invite, 200).replace(b"1 INVITE", b"1 BYE"), BOB) == []
    assert proxy.owned == 0


def test_forked_2xx_are_all_passed_on_and_one_call(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    for tag in ("bob", "bobs-other-phone"):
        assert len(proxy.hear(response(invite, 200, "OK", tag=tag), BOB)) == 1
    assert proxy.owned == 1
    [dialog] = proxy.core.node.dialogs.values()
    assert [callee.tag for callee in dialog.record.callees] == [b"bob", b"bobs-other-phone"]


def test_nothing_is_kept_of_a_thousand_calls(world: World) -> None:
    proxy = world.proxy()
    for i in range(1000):
        call = Call(proxy, f"c{i}")
        [bye] = proxy.hear(call.from_alice("BYE", 2), ALICE)
        proxy.hear(response(bye, 200), BOB)
    world.advance(40)
    node = proxy.core.node
    assert (len(node.contexts), len(node.branches), len(node.dialogs), len(node.tokens)) == (0,) * 4
    assert len(node.timers) == 1  # the one that looks for calls whose BYE never came
    assert node.open == node.owned == 0
