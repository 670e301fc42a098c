"""SDP through a relay by the ng protocol (DESIGN 3.1, 4.2), and calls whose relay is full, slow or gone."""

import pytest

from sipcore import ng
from sipcore.lease import LeaseKeeper
from sipcore.record import Lease
from sipcore.store import Keys
from sipproxy.core import actions, events

from .harness import ALICE, BOB, Call, Proxy, World, header, request, response, start_line

ONE, TWO = ("127.105.2.1", 2223), ("127.105.2.2", 2223)
MEDIA = {"media": {"relays": ["127.105.2.1:2223", "127.105.2.2:2223"]}}
OFFER, ANSWER = "v=0\r\no=offer\r\n", "v=0\r\no=answer\r\n"


class Relays:
    """Relays that answer what they are told to; they mark the SDP that they have seen."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.says: dict[tuple[str, int], str] = {ONE: "ok", TWO: "ok"}
        self.seen: list[tuple[str, tuple[str, int], ng.Request]] = []

    def work(self) -> list[tuple[str, tuple[str, int]]]:
        """Answer all that is waiting; (command, relay) of each."""
        done = []
        while self.proxy.ng:
            asked, self.proxy.ng = self.proxy.ng, []
            for action in asked:
                command = ng.parse_request(action.data)
                self.seen.append((command.command, action.relay, command))
                done.append((command.command, action.relay))
                says = self.says[action.relay]
                if says == "ok":
                    fields: dict[str, object] = {"result": "ok"}
                    if command.command != "delete":
                        fields["sdp"] = command.text(b"sdp") + b"a=relay:%b\r\n" % action.relay[0].encode()
                    self.proxy.feed(events.NgReply(action.relay, ng.reply(command.cookie, fields)))  # type: ignore[arg-type]
                elif says == "full":
                    self.proxy.feed(events.NgReply(action.relay, ng.reply(command.cookie, ng.load_limit())))
                elif says == "error":
                    self.proxy.feed(events.NgReply(action.relay, ng.reply(command.cookie, ng.error("no"))))
        self.proxy.world.settle()
        return done


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def proxy(world: World) -> Proxy:
    return world.proxy(**MEDIA)


@pytest.fixture
def relays(proxy: Proxy) -> Relays:
    return Relays(proxy)


def invite_with_offer(proxy: Proxy, relays: Relays, name: str = "call") -> bytes:
    proxy.hear(request("INVITE", call_id=f"{name}@alice", branch=name, body=OFFER), ALICE)
    relays.work()
    return next(s.data for s in reversed(proxy.sent) if s.data.startswith(b"INVITE"))


def established(proxy: Proxy, relays: Relays) -> tuple[bytes, str]:
    """(the INVITE as Bob got it, the Record-Route)."""
    invite = invite_with_offer(proxy, relays)
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    relays.work()
    return invite, header(invite, "Record-Route")[0]


def in_dialog(method: str, cseq: int, route: str, body: str = "") -> bytes:
    return request(
        method,
        f"sip:bob@{BOB[0]}:{BOB[1]}",
        cseq=cseq,
        branch=f"{method}{cseq}",
        to_tag="bob",
        extra=f"Route: {route}",
        body=body,
    )


def test_the_invite_waits_for_the_offer_and_carries_what_the_relay_made_of_it(proxy: Proxy, relays: Relays) -> None:
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    assert proxy.sent == []
    relays.work()
    invite, trying = (s.data for s in proxy.sent)
    assert start_line(trying) == "SIP/2.0 100 Trying"
    body = OFFER + f"a=relay:{ONE[0]}\r\n"
    assert invite.endswith(body.encode())
    assert header(invite, "Content-Length") == [str(len(body))]
    command, relay, asked = relays.seen[0]
    assert (command, relay) == ("offer", ONE)
    assert (asked.text(b"call-id"), asked.text(b"from-tag")) == (b"call@alice", b"alice")
    assert asked.fields[b"received-from"] == [b"IP4", ALICE[0].encode()]
    assert b"origin" in asked.words(b"replace")


def test_a_call_without_sdp_touches_no_relay(proxy: Proxy, relays: Relays) -> None:
    assert len(proxy.hear(request("INVITE"), ALICE)) == 2
    assert relays.work() == []


def test_without_relays_sdp_passes_as_it_is(world: World) -> None:
    invite, _ = world.proxy().hear(request("INVITE", body=OFFER), ALICE)
    assert invite.endswith(OFFER.encode())


def test_the_answer_is_seen_by_the_same_relay_once(proxy: Proxy, relays: Relays) -> None:
    invite = invite_with_offer(proxy, relays)
    proxy.take()
    for _ in range(2):  # the second is a retransmission while the relay works
        proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    assert proxy.take() == []
    assert relays.work() == [("answer", ONE)]
    _, _, asked = relays.seen[-1]
    assert (asked.text(b"from-tag"), asked.text(b"to-tag")) == (b"alice", b"bob")
    [(ok, _)] = proxy.take()
    assert ok.endswith(f"a=relay:{ONE[0]}\r\n".encode())
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    assert relays.work() == []
    assert proxy.take() == [(ok, ALICE)]


def test_ringing_with_sdp_is_an_answer_too(proxy: Proxy, relays: Relays) -> None:
    invite = invite_with_offer(proxy, relays)
    proxy.take()
    proxy.hear(response(invite, 183, "Session Progress", body=ANSWER), BOB)
    assert relays.work() == [("answer", ONE)]
    assert [start_line(d) for d, _ in proxy.take()] == ["SIP/2.0 183 Session Progress"]
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    assert relays.work() == []
    assert proxy.take()[0][0].endswith(f"a=relay:{ONE[0]}\r\n".encode())


def test_an_offer_in_the_200_is_answered_in_the_ack(proxy: Proxy, relays: Relays) -> None:
    """RFC 3261 13.2.1: an INVITE without SDP."""
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    proxy.hear(response(invite, 200, "OK", body=OFFER), BOB)
    assert relays.work() == [("offer", ONE)]
    assert relays.seen[-1][2].text(b"from-tag") == b"bob"
    assert relays.seen[-1][2].text(b"to-tag") == b"alice"
    proxy.take()
    route = header(invite, "Record-Route")[0]
    proxy.hear(in_dialog("ACK", 1, route, body=ANSWER), ALICE)
    assert relays.work() == [("answer", ONE)]
    assert relays.seen[-1][2].text(b"from-tag") == b"bob"
    [(ack, target)] = proxy.take()
    assert (start_line(ack).split()[0], target) == ("ACK", BOB)
    assert ack.endswith(f"a=relay:{ONE[0]}\r\n".encode())
    assert header(ack, "Route") == []


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_new_offer_of_a_call_goes_to_its_relay(proxy: Proxy, relays: Relays, method: str) -> None:
    _, route = established(proxy, relays)
    proxy.take()
    proxy.hear(in_dialog(method, 2, route, body=OFFER), ALICE)
    assert relays.work() == [("offer", ONE)]
    assert relays.seen[-1][2].text(b"to-tag") == b"bob"
    out = proxy.take()[0][0]
    proxy.hear(response(out, 200, "OK", body=ANSWER), BOB)
    assert relays.work() == [("answer", ONE)]
    assert proxy.take()[-1][0].endswith(f"a=relay:{ONE[0]}\r\n".encode())


def test_a_bye_deletes_and_does_not_wait(proxy: Proxy, relays: Relays) -> None:
    _, route = established(proxy, relays)
    proxy.take()
    [bye] = proxy.hear(in_dialog("BYE", 2, route), ALICE)
    assert start_line(bye).startswith("BYE")
    assert relays.work() == [("delete", ONE)]


def test_a_call_that_fails_deletes_what_it_offered(proxy: Proxy, relays: Relays) -> None:
    invite = invite_with_offer(proxy, relays)
    proxy.hear(response(invite, 486), BOB)
    assert relays.work() == [("delete", ONE)]


def test_a_call_cancelled_while_its_offer_is_out_ends_and_deletes(proxy: Proxy, relays: Relays) -> None:
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    sent = proxy.hear(request("CANCEL"), ALICE)
    assert [start_line(d).split()[1] for d in sent] == ["200", "487"]
    assert relays.work() == [("offer", ONE), ("delete", ONE)]
    assert not any(s.data.startswith(b"INVITE") for s in proxy.sent)


def test_a_full_relay_sends_the_call_to_the_next(proxy: Proxy, relays: Relays) -> None:
    relays.says[ONE] = "full"
    invite = invite_with_offer(proxy, relays)
    assert invite.endswith(f"a=relay:{TWO[0]}\r\n".encode())
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    assert relays.work() == [("answer", TWO)]


def test_when_all_are_full_the_caller_is_told(proxy: Proxy, relays: Relays) -> None:
    relays.says = {ONE: "full", TWO: "full"}
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    relays.work()
    assert [start_line(s.data).split()[1] for s in proxy.sent] == ["503"]


def test_a_silent_relay_is_asked_again_and_then_left_for_the_next(world: World, proxy: Proxy, relays: Relays) -> None:
    relays.says[ONE] = "silent"
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    asked = []
    for _ in range(15):
        asked += relays.work()
        world.advance(0.1)
    assert asked[:4] == [("offer", ONE)] * 4
    assert asked[4:] == [("offer", TWO)]
    assert len({request.cookie for _, relay, request in relays.seen if relay == ONE}) == 1, "the same cookie again"


def test_a_relay_whose_connection_broke_gets_no_new_calls_first(proxy: Proxy, relays: Relays) -> None:
    proxy.feed(events.RelayState(ONE, False))
    invite_with_offer(proxy, relays, "down")
    assert relays.seen[-1][1] == TWO
    proxy.feed(events.RelayState(ONE, True))
    invite_with_offer(proxy, relays, "up")
    assert relays.seen[-1][1] == ONE


def test_an_offer_under_way_leaves_a_relay_that_breaks_at_once(proxy: Proxy, relays: Relays) -> None:
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    proxy.feed(events.RelayState(ONE, False))
    assert relays.work()[-1] == ("offer", TWO)


def test_an_answer_waits_for_its_relay_to_come_back(world: World, proxy: Proxy, relays: Relays) -> None:
    """DESIGN 3.5: a restart in place is preferred; the call is not failed meanwhile."""
    invite = invite_with_offer(proxy, relays)
    proxy.take()
    relays.says[ONE] = "silent"
    proxy.feed(events.RelayState(ONE, False))
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    for _ in range(20):
        relays.work()
        world.advance(0.1)
    assert proxy.take() == []
    relays.says[ONE] = "ok"
    proxy.feed(events.RelayState(ONE, True))
    assert ("answer", ONE) in relays.work()
    [(ok, _)] = [(d, t) for d, t in proxy.take() if d.startswith(b"SIP/2.0 200")]
    assert ok.endswith(f"a=relay:{ONE[0]}\r\n".encode())


def test_an_answer_follows_its_relay_to_another_pod(world: World) -> None:
    """Its node died: another pod has the slot, its name and its index, and another address (DESIGN 4.5)."""
    lease = Lease(kind="relay", pod="media-0", uid="1", set="media", ordinal=0, address=ONE, capacity=10, ready=True)
    keeper = LeaseKeeper(Keys("default", "media"), lease)

    def beat(seconds: float) -> None:
        end = world.now + seconds
        while world.now < end:
            keeper.answered(world.ask_store(keeper.heartbeat()), world.now)
            world.advance(0.5)

    [proxy] = world.cluster(1, media={"pools": ["media"]})
    relays = Relays(proxy)
    beat(3)
    invite = invite_with_offer(proxy, relays)
    proxy.take()
    relays.says[ONE] = "silent"
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    for _ in range(12):
        relays.work()
        world.advance(1)
    assert proxy.take() == [], "the caller heard of an answer that no relay has seen"
    lease.uid, lease.address = "2", TWO
    beat(3)
    assert ("answer", TWO) in relays.work()
    [(ok, _)] = proxy.take()
    assert ok.endswith(f"a=relay:{TWO[0]}\r\n".encode())


@pytest.mark.parametrize(("says", "seconds"), [("error", 0), ("silent", 33)])
def test_an_answer_that_no_relay_gives_goes_on_and_is_told(
    world: World, proxy: Proxy, relays: Relays, says: str, seconds: int
) -> None:
    invite = invite_with_offer(proxy, relays)
    proxy.take()
    relays.says[ONE] = says
    proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    relays.work()
    world.advance(seconds)
    assert [start_line(d) for d, _ in proxy.take()] == ["SIP/2.0 200 OK"]
    assert len(proxy.logged("media-lost")) == 1


@pytest.mark.parametrize("data", [b"", b"x", b"cookie d3:fooe", b"cookie d6:result2:oke", b"\xff\xfe"])
def test_noise_from_a_relay_is_ignored(proxy: Proxy, data: bytes) -> None:
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    proxy.feed(events.NgReply(ONE, data))
    assert proxy.sent == []
    assert "internal_errors" not in proxy.count


def test_an_answer_of_a_stranger_is_not_believed(proxy: Proxy) -> None:
    proxy.hear(request("INVITE", body=OFFER), ALICE)
    cookie = ng.parse_request(proxy.ng[0].data).cookie
    proxy.feed(events.NgReply(("127.105.9.9", 2223), ng.reply(cookie, {"result": "ok", "sdp": b"v=0\r\n"})))
    assert proxy.sent == []


def test_the_call_of_a_dead_proxy_is_answered_by_the_relay_that_has_its_offer(world: World) -> None:
    owner, other = world.cluster(2, **MEDIA)
    owners, others = Relays(owner), Relays(other)
    owners.says[ONE] = "full"
    invite = invite_with_offer(owner, owners)
    owner.kill()
    other.hear(response(invite, 200, "OK", body=ANSWER), BOB)
    assert others.work() == [("answer", TWO)]
    assert others.seen[-1][2].text(b"via-branch") == owners.seen[-1][2].text(b"via-branch")
    [(ok, target)] = other.take()
    assert ok.endswith(f"a=relay:{TWO[0]}\r\n".encode())
    assert target == ALICE
    other.hear(in_dialog("BYE", 2, header(invite, "Record-Route")[0]), ALICE)
    assert others.work() == [("delete", TWO)]


def test_a_re_invite_of_a_dead_proxy_is_answered_by_the_call_s_relay(world: World) -> None:
    owner, other = world.cluster(2, **MEDIA)
    owners, others = Relays(owner), Relays(other)
    _, route = established(owner, owners)
    owner.take()
    owner.hear(in_dialog("INVITE", 2, route, body=OFFER), ALICE)
    owners.work()
    out = owner.take()[0][0]
    owner.kill()
    world.advance(1.5)
    other.hear(response(out, 200, "OK", body=ANSWER), BOB)
    assert others.work() == [("answer", ONE)]
    assert [start_line(d) for d, _ in other.take()] == ["SIP/2.0 200 OK"]


def test_nothing_of_a_thousand_calls_is_left_waiting(world: World, proxy: Proxy, relays: Relays) -> None:
    for i in range(200):
        proxy.hear(request("INVITE", call_id=f"{i}@a", branch=f"b{i}", body=OFFER), ALICE)
        relays.work()
        invite = proxy.take()[0][0]
        proxy.hear(response(invite, 200, "OK", body=ANSWER), BOB)
        relays.work()
        route = header(invite, "Record-Route")[0]
        bye = in_dialog("BYE", 2, route).replace(b"call@alice", b"%d@a" % i).replace(b"BYE2", b"B%d" % i)
        [out] = proxy.hear(bye, ALICE)
        proxy.hear(response(out, 200), BOB)
        relays.work()
        proxy.take()
    world.advance(40)
    assert proxy.core._media._asks == {}
    assert len(proxy.core.node.contexts) == 0


def test_the_relays_to_watch_are_told(proxy: Proxy) -> None:
    told = [action for action in proxy.all if isinstance(action, actions.Relays)]
    assert [action.addresses for action in told] == [[ONE, TWO]]


def test_calls_without_media_in_between_are_calls(proxy: Proxy) -> None:
    assert start_line(Call(proxy).ok) == "SIP/2.0 200 OK"
