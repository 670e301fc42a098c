"""The generator's own reading and printing of SIP."""

from __future__ import annotations

import pytest

from sipfleet.calls.errors import MessageError
from sipfleet.calls.message import hop_of, hostport, is_loose, parameter, parse, uri_of, with_source

RESPONSE = (
    b"SIP/2.0 200 OK\r\n"
    b"v: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport=9 , SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKb\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKc\r\n"
    b'Record-Route: <sip:a,b@192.0.2.4;lr>, "P, two" <sip:192.0.2.5;lr>;x=1\r\n'
    b"Record-Route: <sip:192.0.2.6;lr=on>\r\n"
    b'f: "A \\"quoted, name\\"" <sip:a@example.test;tag=uri>;tag=from\r\n'
    b"t: sip:b@example.test;tag=to\r\n"
    b"i: id@host\r\n"
    b"CSeq: 17  INVITE\r\n"
    b"m: <sip:b@192.0.2.7:5070>\r\n"
    b"l: 4\r\n"
    b"\r\nbodymore"
)


def test_compact_and_comma_joined_headers_are_read() -> None:
    message = parse(RESPONSE)
    assert (message.status, message.method, message.cseq) == (200, "INVITE", (17, "INVITE"))
    assert [parameter(via, "branch") for via in message.all("via")] == ["z9hG4bKa", "z9hG4bKb", "z9hG4bKc"]
    routes = ["sip:a,b@192.0.2.4;lr", "sip:192.0.2.5;lr", "sip:192.0.2.6;lr=on"]
    assert [uri_of(route) for route in message.all("record-route")] == routes
    assert parameter(message.get("from"), "tag") == "from"
    assert parameter(message.get("to"), "tag") == "to"
    assert uri_of(message.get("to")) == "sip:b@example.test"
    assert message.body == b"body"


def test_a_folded_header_is_one_value() -> None:
    message = parse(RESPONSE.replace(b"i: id@host", b"Subject: one\r\n two\r\ni: id@host"))
    assert message.get("subject") == "one two"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ((b"i: id@host\r\n", b""), "call-id"),
        ((b"CSeq: 17  INVITE", b"CSeq: INVITE"), "CSeq"),
        ((b"l: 4", b"l: 400"), "Content-Length"),
        ((b"\r\n\r\n", b"\r\n"), "empty line"),
        ((b"SIP/2.0 200 OK", b"HTTP/1.1 200 OK"), "start line"),
        ((b"i: id@host", b"i id@host"), "colon"),
    ],
)
def test_what_is_not_sip_is_refused_by_name(change: tuple[bytes, bytes], complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        parse(RESPONSE.replace(*change))


def test_a_printed_message_reads_back_the_same() -> None:
    message = parse(RESPONSE)
    again = parse(bytes(message))
    assert again.body == message.body
    assert again.all("record-route") == message.all("record-route")
    assert again.get("content-length") == "4"


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:AbC-_9@192.0.2.1;lr", ("192.0.2.1", 5060)),
        ("sip:192.0.2.1:5070", ("192.0.2.1", 5070)),
        ("sip:x@[2001:db8::1]:5062;lr", ("2001:db8::1", 5062)),
        ("sip:[::1]", ("::1", 5060)),
        ("sip:a@cluster.example.test", None),
        ("tel:+1555", None),
        ("sip:a@192.0.2.1:99999", None),
        ("sip:a@192.0.2.1:0", None),
    ],
)
def test_the_next_hop_is_read_from_the_uri(uri: str, hop: tuple[str, int] | None) -> None:
    assert hop_of(uri) == hop


def test_a_response_goes_to_where_the_request_came_from() -> None:
    via = with_source("SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bKa", ("192.0.2.9", 4444))
    assert via == "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa;received=192.0.2.9;rport=4444"


def test_addresses_print_with_brackets_only_for_ipv6() -> None:
    assert hostport(("::1", 5060)) == "[::1]:5060"
    assert hostport(("127.0.0.1", 5060)) == "127.0.0.1:5060"


def test_a_strict_router_is_told_from_a_loose_one() -> None:
    assert is_loose("<sip:192.0.2.1;lr>")
    assert is_loose("<sip:192.0.2.1;transport=udp;lr=on>")
    assert not is_loose("<sip:lr@192.0.2.1>;lr")
