"""Calls that outlive the proxy that owns them (DESIGN 2.4 to 2.9): two cores, one store, one clock."""

import pytest

from sipcore import record
from sipcore.record import DialogRecord, EarlyRecord
from sipcore.store import Keys
from sipproxy.core import actions, events

from .harness import ALICE, BOB, CAROL, Call, Proxy, World, header, request, response, start_line

KEYS = Keys("default", "c")


@pytest.fixture
def world() -> World:
    return World()


def kinds(todo: list[actions.Action]) -> list[str]:
    """What leaves, in order, with the kind of store command or message."""
    out = []
    for action in todo:
        if isinstance(action, actions.Store):
            text = b" ".join(bytes(c) if isinstance(c, bytes) else b" ".join(map(_raw, c)) for c in action.commands)
            for name in (b":early:", b":cdr:", b":dialog:", b":leases"):
                if name in text:
                    out.append("store" + name.decode().strip(":").rjust(1))
                    break
        elif isinstance(action, actions.Send):
            out.append(
                start_line(action.data).split()[0]
                + (start_line(action.data)[7:11] if action.data[:3] == b"SIP" else "")
            )
        else:
            out.append(type(action).__name__)
    return out


def _raw(part: object) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


def records(world: World, pattern: str = "*:dialog:*") -> list[bytes]:
    assert world.store is not None
    return [world.store.redis.execute_command("GET", name) for name in world.store.names(f"sf:default/c{pattern[1:]}")]


def owner_of(world: World) -> int:
    [value] = records(world)
    return record.unseal(value, DialogRecord)[0]


# -- order of sends (DESIGN 2.4)


def test_the_early_record_goes_before_the_invite_and_the_invite_before_the_100(world: World) -> None:
    proxy, _ = world.cluster()
    todo = proxy.feed(events.Datagram(request("INVITE"), ALICE, 0))
    assert kinds(todo) == ["storeearly", "INVITE", "SIP/2.0 100"]


def test_the_dialog_goes_before_the_2xx_and_the_end_before_the_bye(world: World) -> None:
    proxy, _ = world.cluster()
    invite, _trying = proxy.hear(request("INVITE"), ALICE)
    todo = proxy.feed(events.Datagram(response(invite, 200, "OK"), BOB, 0))
    assert kinds(todo) == ["storedialog", "SIP/2.0 200"]
    route = header(invite, "Record-Route")[0]
    bye = request("BYE", f"sip:bob@{BOB[0]}:{BOB[1]}", cseq=2, to_tag="bob", branch="b", extra=f"Route: {route}")
    assert kinds(proxy.feed(events.Datagram(bye, ALICE, 0)))[:2] == ["storecdr", "Log"]
    assert start_line(proxy.sent[-1].data).startswith("BYE ")


def test_the_early_record_says_how_to_go_on(world: World) -> None:
    proxy, _ = world.cluster()
    invite, _ = proxy.hear(request("INVITE", extra="Record-Route: <sip:10.0.0.9;lr>"), ALICE)
    [value] = records(world, "*:early:*")
    owner, epoch, early = record.unseal(value, EarlyRecord)
    assert (owner, epoch) == (proxy.core.node.index, 1)
    assert early.source == ALICE
    assert early.vias == b"Via: " + header(invite, "Via")[1].encode()
    [branch] = early.branches
    assert header(invite, "Via")[0].split("branch=")[1].startswith(branch.branch.decode())
    assert (branch.host, branch.port) == BOB
    assert early.caller.routes == [b"<sip:10.0.0.9;lr>"]


def test_no_final_response_goes_before_the_store_has_confirmed_the_ownership(world: World) -> None:
    proxy, _ = world.cluster()
    proxy.feed(events.Datagram(request("INVITE"), ALICE, 0))
    invite = proxy.sent[0].data
    proxy.take()
    proxy.feed(events.Datagram(response(invite, 180, "Ringing"), BOB, 0))
    proxy.feed(events.Datagram(response(invite, 200, "OK"), BOB, 0))
    assert [start_line(d) for d, _ in proxy.take()] == ["SIP/2.0 180 Ringing"]
    assert proxy.owned == 0
    world.settle()
    assert [start_line(d) for d, _ in proxy.take()] == ["SIP/2.0 200 OK"]
    assert proxy.owned == 1


def test_a_487_of_our_own_waits_for_the_store_too(world: World) -> None:
    proxy, _ = world.cluster()
    proxy.feed(events.Datagram(request("INVITE"), ALICE, 0))
    invite = proxy.sent[0].data
    proxy.take()
    proxy.feed(events.TargetError(BOB, 0, invite))
    assert proxy.take() == []
    world.settle()
    assert [start_line(d) for d, _ in proxy.take()] == ["SIP/2.0 500 Server Internal Error"]


def test_a_call_makes_three_writes(world: World) -> None:
    proxy, _ = world.cluster()
    assert world.store is not None
    world.store.log.clear()
    call = Call(proxy)
    proxy.hear(call.from_alice("ACK", 1), ALICE)
    [bye] = proxy.hear(call.from_alice("BYE", 2), ALICE)
    proxy.hear(response(bye, 200), BOB)
    assert len(world.store.log) == 3


# -- one owner


def test_a_response_at_a_non_owner_is_handed_to_the_owner(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner, by=other)
    assert start_line(call.ok) == "SIP/2.0 200 OK"
    assert other.take() == []
    assert (owner.owned, other.owned) == (1, 0)
    assert other.count["hops_sent"] == 2


def test_a_request_at_a_non_owner_is_handed_to_the_owner(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    owner.take()
    for route in (True, False):
        other.hear(call.from_alice("INFO", 2, route=route, branch=f"x{route}"), ALICE)
        [(info, target)] = owner.take()
        assert (start_line(info).split()[0], target) == ("INFO", BOB)
    assert other.take() == []


def test_a_retransmitted_invite_at_another_proxy_makes_one_call(world: World) -> None:
    """SO_REUSEPORT chose another proxy: it repeats the INVITE with the same branch, then learns whose it is."""
    owner, other = world.cluster()
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.take()
    [again, *_] = other.hear(request("INVITE"), ALICE)
    assert header(again, "Via")[0].split(";sf")[0] == header(invite, "Via")[0].split(";sf")[0]
    assert other.core.empty
    assert [start_line(d) for d, _ in owner.take()] == ["SIP/2.0 100 Trying"]
    other.take()
    other.hear(response(again, 200, "OK"), BOB)
    assert [start_line(d) for d, _ in owner.take()] == ["SIP/2.0 200 OK"]
    assert other.take() == []


def test_a_cancel_at_a_non_owner_cancels(world: World) -> None:
    owner, other = world.cluster()
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.hear(response(invite, 180), BOB)
    owner.take()
    other.hear(request("CANCEL"), ALICE)
    assert [start_line(d).split()[0] for d, _ in owner.take()] == ["SIP/2.0", "CANCEL"]


def test_the_ack_of_a_non_2xx_at_a_non_owner_ends_the_repeating(world: World) -> None:
    owner, other = world.cluster()
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.hear(response(invite, 486), BOB)
    assert not owner.core.empty
    other.hear(request("ACK", to_tag="bob"), ALICE)
    assert owner.core.empty


def test_a_new_peer_is_looked_for_before_its_response_is_given_up(world: World) -> None:
    [old] = world.cluster(1)
    new = world.member()
    call = Call(new, by=old)
    assert start_line(call.ok) == "SIP/2.0 200 OK"


# -- the owner is dead


def killed(world: World) -> tuple[Proxy, Proxy, Call]:
    """A call whose owner was killed just now; the peer does not know yet."""
    owner, other = world.cluster()
    call = Call(owner)
    owner.hear(call.from_alice("ACK", 1), ALICE)
    owner.kill()
    other.take()
    return owner, other, call


@pytest.mark.parametrize("route", [True, False])
@pytest.mark.parametrize("by", ["alice", "bob"])
def test_the_closed_port_of_a_dead_owner_makes_the_peer_adopt_at_once(world: World, by: str, route: bool) -> None:
    _, other, call = killed(world)
    source, target = (ALICE, BOB) if by == "alice" else (BOB, ALICE)
    data = call.from_alice("BYE", 2, route=route) if by == "alice" else call.from_bob("BYE", 1, route=route)
    other.hear(data, source)
    sent = other.take()
    assert [(start_line(d).split()[0], t) for d, t in sent] == [("BYE", target)]
    other.hear(response(sent[0][0], 200), target)
    assert [t for _, t in other.take()] == [source]
    assert world.store is not None
    [cdr] = world.store.cdrs()
    assert cdr["ended_by"] == ("caller" if by == "alice" else "callee")
    assert cdr["call_id"] == call.call_id
    assert cdr["dst_user"] == "bob"


def test_dialogs_of_a_dead_owner_are_adopted_before_anybody_asks(world: World) -> None:
    owner, other = world.cluster()
    for i in range(30):
        Call(owner, f"c{i}")
    owner.kill()
    world.advance(2.5)
    assert other.owned == 30
    assert {record.unseal(v, DialogRecord)[:2] for v in records(world)} == {(other.core.node.index, 2)}


def test_of_two_living_peers_one_adopts(world: World) -> None:
    owner, *others = world.cluster(3)
    for i in range(10):
        Call(owner, f"c{i}")
    owner.kill()
    world.advance(5)
    assert sorted(proxy.owned for proxy in others) == [0, 10]


def test_a_silent_lease_is_enough_when_no_port_is_closed(world: World) -> None:
    """A dead node answers nothing, no ICMP either."""
    owner, other = world.cluster()
    call = Call(owner)
    owner.kill()
    owner.hop_address, hole = None, owner.hop_address
    world.proxies.append(_Hole(hole))  # type: ignore[arg-type]
    world.advance(2.0)
    assert other.owned == 0
    world.advance(3.0)
    assert other.owned == 1
    other.hear(call.from_alice("BYE", 2), ALICE)
    assert start_line(other.take()[-1][0]).startswith("BYE ")


class _Hole:
    """An address that swallows datagrams."""

    alive = True

    def __init__(self, address: object) -> None:
        self.hop_address = address
        self.core = self

    def feed(self, event: object) -> None:
        pass

    def next_timer(self) -> None:
        return None


def test_a_ringing_call_of_a_dead_owner_is_answered_through_its_peer(world: World) -> None:
    owner, other = world.cluster()
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.hear(response(invite, 180), BOB)
    owner.kill()
    other.hear(response(invite, 200, "OK"), BOB)
    [(ok, target)] = other.take()
    assert (start_line(ok), target) == ("SIP/2.0 200 OK", ALICE)
    assert header(ok, "Via") == [header(invite, "Via")[1]]
    assert other.owned == 1
    [value] = records(world)
    dialog = record.unseal(value, DialogRecord)[2]
    assert (dialog.caller.tag, dialog.callees[0].tag) == (b"alice", b"bob")
    assert dialog.caller.target == f"sip:user@{ALICE[0]}:{ALICE[1]}".encode()


def test_a_ringing_call_of_a_dead_owner_is_refused_and_acknowledged(world: World) -> None:
    owner, other = world.cluster()
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.kill()
    other.hear(response(invite, 486), BOB)
    (ack, to_bob), (busy, to_alice) = other.take()
    assert (start_line(ack).split()[0], to_bob) == ("ACK", BOB)
    assert header(ack, "From") == ["<sip:alice@example.com>;tag=alice"]
    assert (start_line(busy).split()[1], to_alice) == ("486", ALICE)
    assert other.hear(request("ACK", to_tag="bob"), ALICE) == []
    assert other.core.empty


def test_a_ringing_call_of_a_dead_owner_can_be_cancelled(world: World) -> None:
    owner, other = world.cluster()
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.hear(response(invite, 180), BOB)
    owner.kill()
    other.hear(request("CANCEL"), ALICE)
    (ok, _), (cancel, target) = other.take()
    assert start_line(ok) == "SIP/2.0 200 OK"
    assert (start_line(cancel).split()[0], target) == ("CANCEL", BOB)
    other.hear(response(invite, 487), BOB)
    assert start_line(other.take()[-1][0]).split()[1] == "487"


def test_a_retransmitted_invite_of_a_dead_owner_is_taken_over(world: World) -> None:
    owner, other = world.cluster()
    owner.hear(request("INVITE"), ALICE)
    owner.kill()
    sent = other.hear(request("INVITE"), ALICE)
    assert [start_line(d).split()[0] for d in sent[:1]] == ["INVITE"]
    other.hear(response(sent[0], 200, "OK"), BOB)
    assert start_line(other.take()[-1][0]) == "SIP/2.0 200 OK"
    assert other.owned == 1


def test_a_re_invite_whose_proxy_died_is_answered_through_the_dialog(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    owner.take()
    [out, _] = owner.hear(call.from_alice("INVITE", 2), ALICE)
    owner.kill()
    world.advance(1.5)
    other.hear(response(out, 200, "OK"), BOB)
    assert [(start_line(d), t) for d, t in other.take()] == [("SIP/2.0 200 OK", ALICE)]


def test_the_200_of_a_bye_whose_proxy_died_still_reaches_the_sender(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    [bye] = owner.hear(call.from_alice("BYE", 2), ALICE)
    owner.kill()
    other.hear(response(bye, 200), BOB)
    assert [(start_line(d).split()[1], t) for d, t in other.take()] == [("200", ALICE)]


@pytest.mark.parametrize("route", [True, False])
def test_a_bye_that_was_written_but_not_forwarded_comes_again_and_passes(world: World, route: bool) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    owner.hear(call.from_alice("BYE", 2, route=route), ALICE)
    owner.kill()
    other.hear(call.from_alice("BYE", 2, route=route), ALICE)
    [(bye, target)] = other.take()
    assert (start_line(bye).split()[0], target) == ("BYE", BOB)
    other.hear(response(bye, 200), BOB)
    assert start_line(other.take()[0][0]).split()[1] == "200"
    assert world.store is not None
    assert len(world.store.cdrs()) == 1


def test_messages_handed_to_a_peer_in_the_second_before_its_death_are_served_here(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    owner.kill()
    # Its port still takes packets that nobody will read.
    hole = _Hole(owner.hop_address)
    world.proxies.insert(0, hole)  # type: ignore[arg-type]
    owner.hop_address = None
    other.hear(call.from_alice("BYE", 2), ALICE)
    assert other.take() == []
    world.proxies.remove(hole)  # type: ignore[arg-type]
    world.now += 0.3
    other.feed(events.PeerDown(("127.105.1.1", 5070)))
    world.settle()
    assert [start_line(d).split()[0] for d, _ in other.take()] == ["BYE"]


def test_an_owner_that_comes_back_under_the_same_address_is_another(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    owner.kill()
    again = world.member(
        internal="127.105.1.1:5070", pod={"set": "c", "name": "proxy-0", "uid": "second", "ordinal": 0}
    )
    assert again.core.node.index != owner.core.node.index
    again.hear(call.from_alice("BYE", 2), ALICE)
    world.advance(0.2)
    assert "BYE" in [start_line(d).split()[0] for d, _ in again.take() + other.take()]


def test_with_adoption_off_the_calls_of_a_dead_owner_are_lost(world: World) -> None:
    """The negative control (docs/decisions/0005)."""
    [owner] = world.cluster(1)
    broken = world.member(adopt=False)
    world.advance(4)
    call = Call(owner)
    owner.kill()
    broken.hear(call.from_alice("BYE", 2), ALICE)
    assert [start_line(d).split()[1] for d, _ in broken.take()] == ["481"]
    world.advance(10)
    assert broken.owned == 0


# -- fencing


def test_an_owner_that_slept_asks_before_it_acts(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    owner.take()
    owner.alive, frozen = False, owner
    world.advance(6)
    assert other.owned == 1
    frozen.alive = True
    frozen.feed(events.Datagram(call.from_alice("INFO", 2), ALICE, 0))
    assert frozen.take() == []
    assert frozen.core.next_timer() is None
    world.settle()
    assert frozen.owned == 0
    assert frozen.take() == []
    assert [start_line(d).split()[0] for d, _ in other.take()] == ["INFO"]
    assert len(frozen.logged("slept")) == 1


def test_nobody_adopts_while_the_store_is_away(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    world.store_down()
    world.advance(10)
    assert other.owned == 0
    other.hear(call.from_alice("INFO", 2), ALICE)
    assert [start_line(d).split()[0] for d, _ in owner.take()[-1:]] == ["INFO"]


def test_a_store_that_comes_back_is_not_believed_for_a_lease_life(world: World) -> None:
    owner, other = world.cluster()
    Call(owner)
    world.store_down()
    world.advance(10)
    owner.connected = False  # it has not found the store again yet
    world.store_up(empty=True)
    world.advance(2.5)
    assert other.owned == 0


# -- the store is away


def test_calls_are_made_and_ended_without_the_store(world: World) -> None:
    proxy, _ = world.cluster()
    world.store_down()
    call = Call(proxy)
    assert start_line(call.ok) == "SIP/2.0 200 OK"
    [bye] = proxy.hear(call.from_alice("BYE", 2), ALICE)
    assert start_line(bye).startswith("BYE ")


def test_an_empty_store_gets_everything_again(world: World) -> None:
    one, two = world.cluster()
    first, second = Call(one, "a"), Call(two, "b")
    ringing, _ = one.hear(request("INVITE", call_id="r@x", branch="r"), ALICE)
    world.store_down()
    third = Call(one, "c")
    world.store_up(empty=True)
    assert len(records(world)) == 3
    assert len(records(world, "*:early:*")) >= 1
    one.kill()
    two.take()
    for call in (first, second, third):
        two.hear(call.from_alice("BYE", 2), ALICE)
    assert [start_line(d).split()[0] for d, _ in two.take()] == ["BYE"] * 3
    assert world.store is not None
    assert len(world.store.cdrs()) == 3
    two.hear(response(ringing, 200, "OK"), BOB)
    assert start_line(two.take()[0][0]) == "SIP/2.0 200 OK"


def test_a_bye_served_without_record_ends_the_call_at_its_owner(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    other.core._ownership.peers.keeper.alive.pop(owner.core.node.index)  # type: ignore[union-attr]
    world.store_down()
    other.hear(call.from_alice("BYE", 2), ALICE)
    assert [start_line(d).split()[0] for d, _ in other.take()] == ["BYE"]
    world.store_up(empty=False)
    world.advance(8)
    assert owner.owned == 0
    assert world.store is not None
    assert [cdr["call_id"] for cdr in world.store.cdrs()] == [call.call_id]


def test_a_call_whose_record_owner_and_store_are_lost_still_has_a_cdr(world: World) -> None:
    owner, other = world.cluster()
    call = Call(owner)
    world.store_down()
    owner.kill()
    world.store_up(empty=True)
    world.advance(1)
    other.hear(call.from_bob("BYE", 1), BOB)
    assert [(start_line(d).split()[0], t) for d, t in other.take()] == [("BYE", ALICE)]
    world.advance(8)
    assert world.store is not None
    [cdr] = world.store.cdrs()
    assert (cdr["call_id"], cdr["ended_by"]) == (call.call_id, "callee")


def test_a_starting_proxy_waits_for_its_index_a_little(world: World) -> None:
    world.cluster(1)
    new = world.proxy(
        pod={"set": "c", "name": "late", "uid": "late", "ordinal": 5}, internal="127.105.1.9:5070", store="redis://fake"
    )
    new.feed(events.Datagram(request("INVITE"), ALICE, 0))
    assert new.take() == []
    new.connected = True
    new.feed(events.StoreState(True, "run-1"))
    world.settle()
    assert [start_line(d).split()[0] for d, _ in new.take()][:1] == ["INVITE"]


def test_a_starting_proxy_without_store_serves_after_half_a_second(world: World) -> None:
    new = world.proxy(
        pod={"set": "c", "name": "alone", "uid": "a", "ordinal": 0}, internal="127.105.1.9:5070", store="redis://fake"
    )
    world.advance(0.1)
    new.feed(events.Datagram(request("INVITE"), ALICE, 0))
    assert new.take() == []
    assert not new.core.ready
    world.advance(0.5)
    assert [start_line(d).split()[0] for d, _ in new.take()][:1] == ["INVITE"]
    world.advance(2)
    assert new.core.ready


# -- errors that reach another proxy


def test_an_icmp_error_that_reaches_another_proxy_is_told_to_the_owner(world: World) -> None:
    targets = [f"sip:{BOB[0]}:{BOB[1]}", f"sip:{CAROL[0]}:{CAROL[1]}"]
    owner, other = world.cluster(2, routes=[{"domain": "example.com", "targets": targets}])
    invite, _ = owner.hear(request("INVITE"), ALICE)
    owner.take()
    other.feed(events.TargetError(BOB, 0, invite[:400]))
    world.settle()
    assert [t for _, t in owner.take()] == [CAROL]


def test_what_comes_over_the_hop_without_the_key_is_dropped(world: World) -> None:
    proxy, _ = world.cluster()
    for data in (b"", b"SF", b"SF" + bytes(100), request("INVITE")):
        proxy.feed(events.Hop(data))
    assert proxy.take() == []
    assert proxy.count["bad_mac"] == 4
