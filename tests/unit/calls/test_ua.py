"""The two user agents against each other and a clock that the test holds."""

from __future__ import annotations

import random

import pytest

from sipfleet.calls.callee import Callee
from sipfleet.calls.caller import Caller
from sipfleet.calls.message import Address, Message, parameter, parse
from sipfleet.calls.ua import Phone, State, respond

PROXY: Address = ("192.0.2.1", 5060)
CALLER, CALLEE = ("192.0.2.10", 40000), ("192.0.2.20", 5080)
ROUTES = ["<sip:tok1@192.0.2.1;lr>", "<sip:tok2@192.0.2.1:5061;lr>"]


def sent(agent: Caller | Callee) -> list[tuple[Message, Address | None]]:
    messages = [(parse(data), target) for data, target in agent.outbox]
    agent.outbox.clear()
    return messages


def only(agent: Caller | Callee) -> Message:
    [(message, _)] = sent(agent)
    return message


@pytest.fixture
def caller() -> Caller:
    phone = Phone(CALLER, ("192.0.2.10", 20000), random.Random(1))
    made = Caller("call-1@test", phone, "sip:callee@example.test", "alice")
    made.start(0.0, 60.0)
    return made


def proxied(invite: Message) -> Message:
    """The INVITE as a proxy forwards it."""
    headers = [("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKproxy"), *invite.headers]
    headers += [("Record-Route", route) for route in ROUTES]
    return Message(invite.start, headers, invite.body)


def back(response: Message) -> Message:
    """The response as a proxy hands it back."""
    position = [name.lower() for name, _ in response.headers].index("via")
    headers = [header for index, header in enumerate(response.headers) if index != position]
    return Message(response.start, headers, response.body)


def answered(caller: Caller) -> Callee:
    invite = proxied(only(caller))
    phone = Phone(CALLEE, ("192.0.2.20", 30000), random.Random(2))
    callee = Callee(phone, invite, PROXY)
    callee.start(0.0, 0.2)
    caller.receive(back(only(callee)), PROXY, 0.0)
    callee.tick(0.2)
    caller.receive(back(only(callee)), PROXY, 0.2)
    return callee


def talking(caller: Caller) -> Callee:
    callee = answered(caller)
    callee.receive(only(caller), PROXY, 0.2)
    return callee


def test_the_invite_is_what_a_telephone_sends(caller: Caller) -> None:
    [(invite, target)] = sent(caller)
    assert target is None
    assert invite.start == "INVITE sip:callee@example.test SIP/2.0"
    for name in ("max-forwards", "contact", "allow", "supported", "user-agent", "content-type"):
        assert invite.get(name), name
    assert parameter(invite.get("via"), "rport") == ""
    assert b"m=audio 20000 RTP/AVP 0 101\r\n" in invite.body


def test_the_invite_is_sent_again_until_something_answers(caller: Caller) -> None:
    caller.outbox.clear()
    times = []
    now = 0.0
    while caller.state is State.SETUP:
        now = caller.due
        caller.tick(now)
        times += [now] * len(sent(caller))
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert now == 32
    assert caller.failure == 408


def test_a_provisional_response_stops_the_invite(caller: Caller) -> None:
    trying = respond(only(caller), 180, PROXY, "x")
    caller.receive(trying, PROXY, 0.1)
    assert caller.due == 60.0


def test_both_sides_agree_on_the_dialog(caller: Caller) -> None:
    callee = talking(caller)
    assert caller.state is callee.state is State.UP
    assert callee.acked_at == 0.2
    assert caller.remote is not None
    assert caller.remote.rtp == ("192.0.2.20", 30000)
    assert callee.remote is not None
    assert callee.remote.rtp == ("192.0.2.10", 20000)
    assert caller.due == callee.due == float("inf")


def test_the_route_set_is_reversed_for_the_caller_and_kept_for_the_callee(caller: Caller) -> None:
    callee = talking(caller)
    caller.hang_up(5.0)
    callee.hang_up(5.0)
    [(by_caller, caller_target)], [(by_callee, callee_target)] = sent(caller), sent(callee)
    assert by_caller.all("route") == ROUTES[::-1]
    assert caller_target == ("192.0.2.1", 5061)
    assert by_callee.all("route") == ROUTES
    assert callee_target == ("192.0.2.1", 5060)
    assert by_caller.start == "BYE sip:callee@192.0.2.20:5080 SIP/2.0"
    assert by_callee.start == "BYE sip:alice@192.0.2.10:40000 SIP/2.0"


def test_a_retransmitted_answer_is_acknowledged_again(caller: Caller) -> None:
    callee = answered(caller)
    first = only(caller)
    callee.tick(callee.due)
    caller.receive(back(only(callee)), PROXY, 0.7)
    assert bytes(only(caller)) == bytes(first)


def test_the_answer_is_sent_again_until_the_ack(caller: Caller) -> None:
    callee = answered(caller)
    ack = only(caller)
    times = []
    for _ in range(4):
        times.append(round(callee.due, 3))
        callee.tick(callee.due)
    assert times == [0.7, 1.7, 3.7, 7.7]
    callee.outbox.clear()
    callee.receive(ack, PROXY, 8.0)
    assert callee.due == float("inf")


def test_a_callee_without_an_ack_hangs_up_after_timer_h(caller: Caller) -> None:
    callee = answered(caller)
    while callee.state is State.UP:
        callee.outbox.clear()
        callee.tick(callee.due)
    assert only(callee).method == "BYE"
    assert callee.bye_sent_at == 32.2


def test_a_retransmitted_invite_gets_the_last_response(caller: Caller) -> None:
    invite = proxied(only(caller))
    callee = Callee(Phone(CALLEE, CALLEE, random.Random(2)), invite, PROXY)
    callee.start(0.0, 1.0)
    ringing = only(callee)
    callee.receive(invite, PROXY, 0.5)
    assert bytes(only(callee)) == bytes(ringing)
    callee.tick(1.0)
    answer = only(callee)
    callee.receive(invite, PROXY, 1.1)
    assert bytes(only(callee)) == bytes(answer)


def test_a_second_invite_of_the_same_call_by_another_path_is_a_loop(caller: Caller) -> None:
    invite = proxied(only(caller))
    callee = Callee(Phone(CALLEE, CALLEE, random.Random(2)), invite, PROXY)
    callee.start(0.0, 1.0)
    callee.outbox.clear()
    merged = parse(bytes(invite).replace(b"z9hG4bKproxy", b"z9hG4bKother"))
    callee.receive(merged, PROXY, 0.5)
    assert only(callee).status == 482


@pytest.mark.parametrize("by_caller", [True, False])
def test_a_bye_ends_the_call_and_its_retransmission_is_answered_again(caller: Caller, by_caller: bool) -> None:
    callee = talking(caller)
    leaver, stayer = (caller, callee) if by_caller else (callee, caller)
    leaver.hang_up(5.0)
    bye = only(leaver)
    stayer.receive(bye, PROXY, 5.1)
    answer = only(stayer)
    assert (answer.status, stayer.state, stayer.bye_received_at) == (200, State.OVER, 5.1)
    stayer.receive(bye, PROXY, 5.6)
    assert bytes(only(stayer)) == bytes(answer)
    leaver.receive(answer, PROXY, 5.7)
    assert (leaver.bye_status, leaver.state, leaver.bye_answered_at) == (200, State.OVER, 5.7)


def test_a_bye_is_sent_again_at_most_every_four_seconds(caller: Caller) -> None:
    talking(caller)
    caller.hang_up(0.0)
    caller.outbox.clear()
    times = []
    while caller.state is State.LEAVING:
        now = caller.due
        caller.tick(now)
        times += [now] * len(sent(caller))
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert caller.bye_status == 408


def test_a_bye_with_a_wrong_tag_ends_nothing(caller: Caller) -> None:
    callee = talking(caller)
    caller.hang_up(5.0)
    bye = parse(bytes(only(caller)).replace(caller.tag.encode(), b"another"))
    callee.receive(bye, PROXY, 5.1)
    assert only(callee).status == 481
    assert callee.state is State.UP


def test_a_bye_with_an_old_cseq_is_refused(caller: Caller) -> None:
    callee = talking(caller)
    caller.hang_up(5.0)
    bye = only(caller)
    number = bye.cseq[0]
    callee.receive(parse(bytes(bye).replace(f"{number} BYE".encode(), b"0 BYE")), PROXY, 5.1)
    assert only(callee).status == 500
    assert callee.state is State.UP


def test_a_new_offer_in_the_call_moves_the_audio(caller: Caller) -> None:
    callee = talking(caller)
    caller.hang_up(5.0)
    bye = only(caller)
    body = b"v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 7000 RTP/AVP 0\r\na=rtcp:7009\r\n"
    raw = bytes(bye).replace(b"BYE", b"INVITE").replace(b"Content-Length: 0\r\n\r\n", b"\r\n").rstrip(b"\r\n")
    callee.receive(parse(raw + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body), PROXY, 5.1)
    answer = only(callee)
    assert (answer.status, callee.reinvites) == (200, 1)
    assert b"m=audio 30000 " in answer.body
    assert callee.remote is not None
    assert (callee.remote.rtp, callee.remote.rtcp) == (("198.51.100.7", 7000), ("198.51.100.7", 7009))
    assert callee.due < float("inf"), "sent again until its ACK comes"


def test_a_cancelled_call_is_terminated(caller: Caller) -> None:
    invite = proxied(only(caller))
    callee = Callee(Phone(CALLEE, CALLEE, random.Random(2)), invite, PROXY)
    callee.start(0.0, 5.0)
    callee.outbox.clear()
    cancel = parse(bytes(invite).replace(b"INVITE", b"CANCEL"))
    callee.receive(cancel, PROXY, 1.0)
    assert [message.status for message, _ in sent(callee)] == [200, 487]
    callee.tick(5.0)
    assert all(message.status == 487 for message, _ in sent(callee))
    assert callee.state is State.OVER


def test_a_refusal_is_acknowledged_in_the_transaction_of_the_invite(caller: Caller) -> None:
    invite = only(caller)
    refusal = respond(invite, 503, PROXY, "far")
    for _ in range(2):
        caller.receive(refusal, PROXY, 0.1)
        ack = only(caller)
        assert ack.method == "ACK"
        assert parameter(ack.get("via"), "branch") == parameter(invite.get("via"), "branch")
        assert parameter(ack.get("to"), "tag") == "far"
    assert caller.failure == 503


def test_responses_name_the_source_of_the_request_and_copy_every_via(caller: Caller) -> None:
    invite = proxied(only(caller))
    response = respond(invite, 200, ("192.0.2.99", 1234), "tag")
    vias = response.all("via")
    assert len(vias) == 2
    assert parameter(vias[0], "received") == "192.0.2.99"
    assert parameter(vias[0], "rport") == "1234"
    assert response.all("record-route") == ROUTES
