"""Via: one value, read fast when it is usual and right when it is not."""

import pytest

from sipcore.via import BadMessage, Via

ALICE = ("192.0.2.1", 49152)


@pytest.mark.parametrize(
    ("value", "sent_by", "host", "port", "branch"),
    [
        (b"SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bKx", b"192.0.2.1:5061", b"192.0.2.1", 5061, b"z9hG4bKx"),
        (
            b"SIP/2.0/UDP pc33.example.com;rport;branch=z9hG4bKy;a=b",
            b"pc33.example.com",
            b"pc33.example.com",
            0,
            b"z9hG4bKy",
        ),
        (b"SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKz", b"[2001:db8::9]:5060", b"[2001:db8::9]", 5060, b"z9hG4bKz"),
        (b"SIP  / 2.0  / UDP  192.0.2.2 ; branch = 390skdjuw", b"192.0.2.2", b"192.0.2.2", 0, b"390skdjuw"),
        (b"SIP/2.0/TLS t5.example.com;Branch=z9hG4bKv4", b"t5.example.com", b"t5.example.com", 0, b"z9hG4bKv4"),
        (b"SIP/2.0/UDP 192.0.2.1;xbranch=no", b"192.0.2.1", b"192.0.2.1", 0, b""),
        (b"SIP/2.0/UDP 192.0.2.1", b"192.0.2.1", b"192.0.2.1", 0, b""),
    ],
)
def test_a_value_is_read(value: bytes, sent_by: bytes, host: bytes, port: int, branch: bytes) -> None:
    via = Via(value)
    assert (via.sent_by, via.host, via.port, via.branch) == (sent_by, host, port, branch)


@pytest.mark.parametrize(
    "value", [b"", b"SIP/2.0/UDP", b"HTTP/1.1 x", b"SIP/2.0/UDP a b;branch=z", b"SIP/2.0/UDP ;;,;,,"]
)
def test_what_is_no_via_is_refused(value: bytes) -> None:
    with pytest.raises(BadMessage):
        Via(value)


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        (b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa"),
        (
            b"SIP/2.0/UDP phone.example.com;branch=z9hG4bKa",
            b"SIP/2.0/UDP phone.example.com;branch=z9hG4bKa;received=192.0.2.1",
        ),
        (
            b"SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bKa;rport",
            b"SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bKa;rport=49152;received=192.0.2.1",
        ),
        (
            b"SIP/2.0/UDP 10.0.0.7;rport;branch=z9hG4bKa",
            b"SIP/2.0/UDP 10.0.0.7;rport=49152;branch=z9hG4bKa;received=192.0.2.1",
        ),
        (
            b"SIP/2.0/UDP 10.0.0.7;rport=1;received=6.6.6.6;branch=z9hG4bKa",
            b"SIP/2.0/UDP 10.0.0.7;rport=49152;branch=z9hG4bKa;received=192.0.2.1",
        ),
        (
            b"SIP/2.0/UDP 10.0.0.7;received=6.6.6.6;branch=z9hG4bKa",
            b"SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKa;received=192.0.2.1",
        ),
    ],
)
def test_received_and_rport_are_filled_in_whatever_the_client_claimed(value: bytes, filled: bytes) -> None:
    assert Via(value).filled(ALICE) == filled


def test_responses_go_to_the_port_of_the_source_only_when_asked_for() -> None:
    """RFC 3261 18.2.2, RFC 3581 4."""
    assert Via(b"SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKa;rport").reply_to(ALICE) == ALICE
    assert Via(b"SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKa").reply_to(ALICE) == ("192.0.2.1", 5070)
    assert Via(b"SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKa").reply_to(ALICE) == ("192.0.2.1", 5060)


def test_the_next_hop_of_a_response_is_what_its_via_says() -> None:
    assert Via(b"SIP/2.0/UDP 10.0.0.7;branch=z;rport=49152;received=192.0.2.1").next_hop == ALICE
    assert Via(b"SIP/2.0/UDP 10.0.0.7:5070;branch=z").next_hop == ("10.0.0.7", 5070)
    assert Via(b"SIP/2.0/UDP example.com;branch=z").next_hop is None


@pytest.mark.parametrize(
    ("branch", "cookie"), [(b"z9hG4bKx", True), (b"Z9HG4BKx", True), (b"z9hG4bK", False), (b"1", False)]
)
def test_a_branch_is_of_rfc_3261_only_with_cookie_and_something_behind_it(branch: bytes, cookie: bool) -> None:
    """RFC 4475 3.2.1."""
    assert Via(b"SIP/2.0/UDP 192.0.2.1;branch=" + branch).cookie is cookie


def test_our_own_via_names_owner_and_relay() -> None:
    assert Via(b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;sf=00ff0102;rport").owner == (255, 258)
    assert Via(b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa").owner is None


@pytest.mark.parametrize(
    "evil", [b"SIP/2.0/UDP " + b" " * 60000, b"SIP" + b" " * 60000 + b"/", b"SIP/2.0/UDP a" + b";rport " * 9000]
)
def test_no_value_takes_more_than_linear_time(evil: bytes) -> None:
    try:
        Via(evil).filled(ALICE)
    except BadMessage:
        pass
