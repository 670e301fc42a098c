"""A caller behind a NAT: its Contact names an address that nobody outside reaches (RFC 3581)."""

from __future__ import annotations

import pytest

from tests.unit.proxy.harness import ALICE, BOB, Address, Call, Proxy, World, header, request, response

HOME: Address = ("192.168.1.20", 5060)


@pytest.fixture
def world() -> World:
    return World()


def up(proxy: Proxy, call_id: str, invite: bytes) -> str:
    """The call from `ALICE`, as the proxy sees it, is answered; its Route."""
    proxy.hear(invite, ALICE)
    at_bob = next(sent.data for sent in proxy.sent if sent.target == BOB and call_id.encode() in sent.data)
    proxy.hear(response(at_bob, 200, "OK"), BOB)
    return header(at_bob, "Record-Route")[0]


def of_bob(call_id: str, route: str, contact: Address, method: str = "BYE") -> bytes:
    return request(
        method,
        f"sip:user@{contact[0]}:{contact[1]}",
        call_id=call_id,
        cseq=7,
        branch=f"{call_id}-{method}",
        from_tag="bob",
        to_tag="alice",
        source=BOB,
        extra=f"Route: {route}\n",
    )


def test_a_request_for_it_goes_where_its_packets_come_from(world: World) -> None:
    proxy = world.proxy()
    route = up(proxy, "c1", request("INVITE", call_id="c1", source=HOME))
    proxy.take()
    proxy.hear(of_bob("c1", route, HOME), BOB)
    [(bye, target)] = proxy.take()
    assert target == ALICE
    assert bye.startswith(b"BYE sip:user@192.168.1.20:5060 SIP/2.0\r\n")  # what it calls itself


def test_whoever_adopts_the_call_knows_it_too(world: World) -> None:
    one, two = world.cluster(2)
    route = up(one, "c1", request("INVITE", call_id="c1", source=HOME))
    world.advance(1.0)
    one.kill()
    world.advance(6.0)
    two.hear(of_bob("c1", route, HOME), BOB)
    assert [target for data, target in two.take() if data.startswith(b"BYE")][:1] == [ALICE]


@pytest.mark.parametrize(
    ("source", "contact", "rport"),
    [
        (ALICE, HOME, True),  # an SBC that names another of its addresses
        ((ALICE[0], 6000), (ALICE[0], 6000), False),  # it listens elsewhere than it sends from, and says so
    ],
)
def test_a_contact_that_is_only_another_address_is_kept(
    world: World, source: Address, contact: Address, rport: bool
) -> None:
    proxy = world.proxy()
    invite = request("INVITE", call_id="c1", source=source, rport=rport)
    named = f"Contact: <sip:user@{contact[0]}:{contact[1]}>".encode()
    route = up(proxy, "c1", invite.replace(b"Contact: <sip:user@%b:%d>" % (source[0].encode(), source[1]), named))
    proxy.take()
    proxy.hear(of_bob("c1", route, contact), BOB)
    assert [target for _, target in proxy.take()] == [contact]


def test_a_request_for_another_address_than_its_contact_goes_there(world: World) -> None:
    proxy = world.proxy()
    route = up(proxy, "c1", request("INVITE", call_id="c1", source=HOME))
    proxy.take()
    proxy.hear(of_bob("c1", route, ("192.0.2.9", 5060)), BOB)
    assert [target for _, target in proxy.take()] == [("192.0.2.9", 5060)]


def test_a_caller_that_is_what_it_says_needs_no_record_for_that(world: World) -> None:
    proxy = world.proxy()
    call = Call(proxy)
    proxy.hear(call.from_alice("INFO", 2), ALICE)
    assert not next(iter(proxy.core.node.dialogs.values())).made
