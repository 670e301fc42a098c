"""Which requests are forwarded where, and which are refused (RFC 3261 16.3 to 16.5)."""

import pytest

from sipcore.config import Listener, ProxyConfig, Route
from sipcore.errors import ConfigError
from sipproxy.core import events
from sipproxy.core.routing import Router, own_addresses

from .harness import ALICE, BOB, CAROL, CLUSTER, World, config, header, request, start_line

BY_PREFIX = [
    {"domain": "example.com", "targets": ["sip:10.0.0.1"]},
    {"domain": "example.com", "prefix": "+49", "targets": ["sip:10.0.0.2:5080"]},
    {"domain": "example.com", "prefix": "+4930", "targets": ["sip:gateway@10.0.0.3"]},
    {"prefix": "9", "targets": ["sip:10.0.0.4"]},
]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("uri", "forwarded"),
    [
        ("sip:bob@example.com", "sip:bob@10.0.0.1:5060"),
        ("sip:bob@EXAMPLE.com;user=phone", "sip:bob@10.0.0.1:5060;user=phone"),
        ("sip:+4940@example.com", "sip:+4940@10.0.0.2:5080"),
        ("sip:+49301@example.com", "sip:gateway@10.0.0.3:5060"),
        ("sip:911@other.example", "sip:911@10.0.0.4:5060"),
        (f"sip:911@{CLUSTER[0]}:{CLUSTER[1]}", "sip:911@10.0.0.4:5060"),
    ],
)
def test_the_longest_prefix_of_the_domain_decides(world: World, uri: str, forwarded: str) -> None:
    proxy = world.proxy(domains=["other.example"], routes=BY_PREFIX)
    assert start_line(proxy.hear(request("INVITE", uri), ALICE)[0]) == f"INVITE {forwarded} SIP/2.0"


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("sip:bob@elsewhere.example", 403),
        ("sip:bob@10.9.9.9", 403),
        ("sip:bob@other.example", 404),
        ("sips:bob@example.com", 416),
        ("tel:+4930", 416),
        ("nobodyKnowsThisScheme:totallyopaquecontent", 416),
        ("sip:bob@example.com?Route=%3Csip:x%3E", 400),
        ("sip:bob@@", 400),
    ],
)
def test_what_is_not_for_us_is_refused(world: World, uri: str, status: int) -> None:
    proxy = world.proxy(domains=["other.example"], routes=BY_PREFIX)
    [refusal] = proxy.hear(request("INVITE", uri), ALICE)
    assert start_line(refusal).split()[1] == str(status)
    assert header(refusal, "To")[0].startswith("<sip:bob@example.com>;tag=")
    assert proxy.core.empty


def test_a_route_that_we_did_not_set_makes_no_relay_of_us(world: World) -> None:
    [refusal] = world.proxy().hear(request("INVITE", extra="Route: <sip:10.9.9.9;lr>"), ALICE)
    assert start_line(refusal).split()[1] == "403"


def test_a_preloaded_route_of_ours_is_taken_off(world: World) -> None:
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE", extra=f"Route: <sip:{CLUSTER[0]}:{CLUSTER[1]};lr>"), ALICE)
    assert header(invite, "Route") == []


def test_no_hops_left_is_483(world: World) -> None:
    proxy = world.proxy()
    assert start_line(proxy.hear(request("INVITE", max_forwards=0), ALICE)[0]).split()[1] == "483"
    assert header(proxy.hear(request("INVITE", max_forwards=1), ALICE)[0], "Max-Forwards") == ["0"]


def test_an_extension_that_we_do_not_have_is_420(world: World) -> None:
    [refusal] = world.proxy().hear(request("INVITE", extra="Proxy-Require: privacy, foo"), ALICE)
    assert start_line(refusal).split()[1] == "420"
    assert header(refusal, "Unsupported") == ["privacy, foo"]


def test_options_to_ourselves_are_answered(world: World) -> None:
    proxy = world.proxy()
    for uri, left in ((f"sip:{CLUSTER[0]}:{CLUSTER[1]}", 70), ("sip:example.com", 0)):
        [ok] = proxy.hear(request("OPTIONS", uri, max_forwards=left), ALICE)
        assert start_line(ok) == "SIP/2.0 200 OK"
        assert "INVITE" in header(ok, "Allow")[0]


def test_options_to_a_user_are_forwarded(world: World) -> None:
    proxy = world.proxy()
    proxy.hear(request("OPTIONS"), ALICE)
    assert proxy.sent[0].target == BOB


def test_a_loop_is_482_and_a_spiral_is_not(world: World) -> None:
    """A target that sends the request back to us, unchanged and with another user (RFC 5393)."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    uri = start_line(invite).split()[1].encode()
    loop = invite.replace(uri, b"sip:bob@example.com").replace(
        b"Via: ", b"Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKb2b\r\nVia: ", 1
    )
    assert start_line(proxy.hear(loop, BOB)[0]).split()[1] == "482"
    spiral = loop.replace(b"INVITE sip:bob@", b"INVITE sip:carol@")
    assert start_line(proxy.hear(spiral, BOB)[0]).startswith("INVITE sip:carol@")


def test_routes_change_in_place(world: World) -> None:
    proxy = world.proxy()
    target = f"sip:{CAROL[0]}:{CAROL[1]}"
    proxy.feed(events.Configure(config(routes=[{"domain": "example.com", "targets": [target]}])))
    proxy.hear(request("INVITE"), ALICE)
    assert proxy.sent[0].target == CAROL


@pytest.mark.parametrize("target", ["sip:bob@gateway.example", "sip:10.0.0.1:99999", "nonsense with blanks"])
def test_a_target_that_is_no_address_is_a_fault_of_the_configuration(target: str) -> None:
    broken = config(routes=[{"domain": "example.com", "targets": ["sip:10.0.0.1", target]}])
    with pytest.raises(ConfigError, match=r"routes\[0\].targets\[1\]"):
        Router(broken, own_addresses(broken))


def test_an_advertised_name_is_ours() -> None:
    cfg = ProxyConfig(
        listeners=[Listener(address="127.0.0.1", advertised="sip.example.net")],
        routes=[Route(targets=["sip:10.0.0.1"])],
    )
    router = Router(cfg, own_addresses(cfg))
    targets = router.targets(b"sip:bob@sip.example.net")
    assert isinstance(targets, list)
    assert targets[0].address == ("10.0.0.1", 5060)


def test_ipv6_is_an_address_like_any_other(world: World) -> None:
    proxy = world.proxy(
        listeners=[{"address": "::1", "port": 5060}],
        routes=[{"domain": "example.com", "targets": ["sip:[::2]:5070"]}],
    )
    invite, trying = proxy.hear(request("INVITE", source=("[::3]", 5060)), ("::3", 5060))  # type: ignore[arg-type]
    assert start_line(invite) == "INVITE sip:bob@[::2]:5070 SIP/2.0"
    assert proxy.sent[0].target == ("::2", 5070)
    assert header(invite, "Via")[0].startswith("SIP/2.0/UDP [::1]:5060;branch=")
    assert header(trying, "Via")[0].endswith(";received=::3")


def test_what_was_decided_is_remembered_only_so_long() -> None:
    from sipproxy.core import routing

    cfg = config()
    router = Router(cfg, own_addresses(cfg))
    for i in range(routing.CACHE + 10):
        router.targets(b"sip:%d@example.com" % i)
        router.aim(b"sip:%d@10.0.0.1" % i)
    assert len(router._cache) <= routing.CACHE
    assert len(router._aims) <= routing.CACHE
