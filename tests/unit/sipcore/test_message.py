"""Messages: what is read, what is refused, what is spliced, and that all else stays as it came."""

import pytest

from sipcore.message import CALL_ID, CONTACT, FROM, MAX_FORWARDS, ROUTE, TO, VIA, BadMessage, parse, split_values


def sip(text: str) -> bytes:
    """A message as it stands in a text: a blank line ends the headers."""
    head, _, body = text.lstrip("\n").partition("\n\n")
    return (head.replace("\n", "\r\n") + "\r\n\r\n").encode() + body.encode()


INVITE = sip("""
INVITE sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bK74bf9
Max-Forwards: 70
From: "Alice" <sip:alice@example.com>;tag=9fxced76sl
To: Bob <sip:bob@example.com>
Call-ID: 3848276298220188511@192.0.2.1
CSeq: 1 INVITE
Contact: <sip:alice@192.0.2.1:5061>
X-Unknown: kept as it is
Content-Type: application/sdp
Content-Length: 5

v=0
o""")


def test_a_request_is_read() -> None:
    message = parse(INVITE)
    assert (message.method, message.uri, message.status) == (b"INVITE", b"sip:bob@example.com", 0)
    assert (message.call_id, message.cseq, message.cseq_method) == (b"3848276298220188511@192.0.2.1", b"1", b"INVITE")
    assert (message.tag(FROM), message.tag(TO)) == (b"9fxced76sl", b"")
    assert message.uri_of(FROM) == b"sip:alice@example.com"
    assert message.uri_of(CONTACT) == b"sip:alice@192.0.2.1:5061"
    assert message.max_forwards == 70
    assert message.body == b"v=0\no"


def test_a_response_is_read() -> None:
    message = parse(INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 180 Ringing"))
    assert (message.status, message.method, message.uri) == (180, b"", b"")


def test_what_is_not_touched_leaves_as_it_came() -> None:
    assert bytes(parse(INVITE)) == INVITE


def test_octets_behind_content_length_are_dropped() -> None:
    assert parse(INVITE + b"garbage").body == b"v=0\no"


def test_compact_forms_and_odd_spellings_are_the_same_headers() -> None:
    message = parse(
        sip("""
OPTIONS sip:bob@example.com SIP/2.0
v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa
f: <sip:a@b>;tag=1
t: <sip:c@d>
i: x@y
CSEQ :  7   OPTIONS
max-FORWARDS   : 0068
m: <sip:a@192.0.2.1>
l: 0

""")
    )
    assert message.call_id == b"x@y"
    assert message.cseq == b"7"
    assert message.max_forwards == 68
    assert message.uri_of(CONTACT) == b"sip:a@192.0.2.1"
    assert message.via().branch == b"z9hG4bKa"


def test_folded_lines_are_one_line() -> None:
    message = parse(
        sip("""
OPTIONS sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP
  192.0.2.1;branch=z9hG4bKa
From: <sip:a@b>
\t;tag=1
To: <sip:c@d>
Call-ID: x@y
CSeq: 7
  OPTIONS
Content-Length: 0

""")
    )
    assert message.via().host == b"192.0.2.1"
    assert message.tag(FROM) == b"1"
    assert message.cseq == b"7"


@pytest.mark.parametrize(
    "vias",
    [
        b"Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKtop, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKnext\r\n",
        b"Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKtop\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKnext\r\n",
        b"v: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKtop\r\nVIA: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKnext\r\n",
    ],
)
def test_vias_on_one_line_and_on_several_are_the_same(vias: bytes) -> None:
    message = parse(INVITE.replace(b"Via: SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bK74bf9\r\n", vias))
    assert message.via().branch == b"z9hG4bKtop"
    assert [value.partition(b"branch=")[2] for value in message.values(VIA)] == [b"z9hG4bKtop", b"z9hG4bKnext"]


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        (b"From: <sip:a@b>;tag=1", b"1"),
        (b"From: sip:a@b;tag=2", b"2"),
        (b"From: <sip:a@b;tag=no>;x=y;tag=3 ", b"3"),
        (b"From: <sip:a@b;tag=no>", b""),
        (b"From: <sip:a@b> ; TAG = 4;x", b"4"),
        (b'From: ";tag=no" <sip:a@b>;tag=5;x=y', b"5"),
        (b"From: <sip:a@b>", b""),
    ],
)
def test_the_tag_is_a_parameter_of_the_header_not_of_the_uri(line: bytes, tag: bytes) -> None:
    message = parse(INVITE.replace(b'From: "Alice" <sip:alice@example.com>;tag=9fxced76sl', line))
    assert message.tag(FROM) == tag


def test_another_body_has_its_own_length() -> None:
    message = parse(INVITE)
    message.set_body(b"longer body")
    assert b"Content-Length: 11\r\n" in bytes(message)
    without = parse(INVITE.replace(b"Content-Length: 5\r\n", b""))
    without.set_body(b"x")
    assert bytes(without).endswith(b"Content-Length: 1\r\n\r\nx")


def test_positions_are_shared_until_somebody_changes_them() -> None:
    first, second = parse(INVITE), parse(INVITE)
    assert first.first is second.first
    first.own()
    first.first[ROUTE] = 99
    assert ROUTE not in second.first


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (b"a, b,c", [b"a", b"b", b"c"]),
        (b'"x, y" <sip:a@b>, <sip:c@d;x=1,2>', [b'"x, y" <sip:a@b>', b"<sip:c@d;x=1,2>"]),
        (b" , ,a,", [b"a"]),
        (b"", []),
        (b'"open, <sip:a@b>', [b'"open', b"<sip:a@b>"]),
    ],
)
def test_commas_in_quotes_and_brackets_do_not_separate(value: bytes, values: list[bytes]) -> None:
    assert split_values(value) == values


@pytest.mark.parametrize(
    ("old", "new", "status", "says"),
    [
        (b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia", 505, "Version"),
        (b"INVITE sip", b"INVITE  sip", 400, "Request-Line"),
        (b"SIP/2.0\r\nVia", b"SIP/2.0 \r\nVia", 400, "Request-Line"),
        (b"sip:bob@example.com SIP", b"<sip:bob@example.com> SIP", 400, "brackets"),
        (b"INVITE sip", b"IN{}VITE sip", 400, "method"),
        (b"Call-ID", b"X-Call-ID", 400, "Call-ID is missing"),
        (b"From:", b"X-From:", 400, "From is missing"),
        (b"CSeq: 1 INVITE", b"CSeq: 2147483648 INVITE", 400, "CSeq"),
        (b"CSeq: 1 INVITE", b"CSeq: 36893488147419103232 INVITE", 400, "CSeq"),
        (b"CSeq: 1 INVITE", b"CSeq: one INVITE", 400, "CSeq"),
        (b"CSeq: 1 INVITE", b"CSeq: 1 OPTIONS", 400, "CSeq"),
        (b"Max-Forwards: 70", b"Max-Forwards: 300", 400, "Max-Forwards"),
        (b"Max-Forwards: 70", b"Max-Forwards: -1", 400, "Max-Forwards"),
        (b"Content-Length: 5", b"Content-Length: 9999", 400, "Content-Length"),
        (b"Content-Length: 5", b"Content-Length: -999", 400, "Content-Length"),
        (b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 4", 400, "Content-Length"),
        (b"Call-ID: ", b"Call-ID: a@b\r\nCall-ID: ", 400, "more than once"),
        (b"To: Bob <sip:bob@example.com>", b'To: "Mr. Bob <sip:bob@example.com>', 400, "To"),
        (b"To: Bob <sip:bob@example.com>", b"To: sip:bob@example.com?Route=%3Csip:x%3E", 400, "To"),
        (b"X-Unknown: kept", b"no colon here", 400, "without a name"),
        (b"Via: SIP/2.0/UDP 192.0.2.1:5061;branch", b"Via: SIP/2.0/UDP 192.0.2.1:5061;;,;,,branch", 400, "Via"),
    ],
)
def test_a_bad_request_says_why(old: bytes, new: bytes, status: int, says: str) -> None:
    assert old in INVITE
    with pytest.raises(BadMessage, match=says) as caught:
        read_all(INVITE.replace(old, new, 1))
    assert caught.value.status == status


def read_all(data: bytes) -> None:
    message = parse(data)
    message.via()
    assert message.max_forwards >= 0


@pytest.mark.parametrize(
    "data", [b"", b"\r\n\r\n", b"INVITE", b"\0" * 100, b"INVITE sip:a@b HTTP/1.1\r\n\r\n", INVITE[:-20]]
)
def test_what_is_no_sip_at_all_gets_silence_or_is_cut(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(data)
    assert caught.value.status in (0, 400)


@pytest.mark.parametrize("code", [b"99", b"700", b"4294967301", b"abc", b"2000"])
def test_a_response_with_an_impossible_code_is_dropped(code: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 %b Oh" % code))
    assert caught.value.status == 0


def test_a_response_needs_no_reason_phrase() -> None:
    assert parse(INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 100 ")).status == 100


def test_a_flood_of_headers_is_refused() -> None:
    with pytest.raises(BadMessage):
        parse(INVITE.replace(b"Max-Forwards", b"X: y\r\n" * 300 + b"Max-Forwards", 1))


def test_positions_of_strangers_do_not_pile_up() -> None:
    from sipcore import layout

    for i in range(layout.CACHE + 10):
        parse(INVITE.replace(b"X-Unknown", b"X-%d" % i))
    assert len(layout._known) <= layout.CACHE


@pytest.mark.parametrize(
    "line", [b"Route: " + b"<" * 60000, b"Route: " + b'"' * 60001, b"X: " + b" " * 60000, b"To: " + b" " * 60000 + b"x"]
)
def test_no_line_takes_more_than_linear_time(line: bytes) -> None:
    try:
        message = parse(INVITE.replace(b"X-Unknown: kept as it is", line))
        message.values(ROUTE)
        message.tag(TO)
    except BadMessage:
        pass


def test_headers_are_found_by_kind() -> None:
    message = parse(INVITE)
    assert message.value(CALL_ID) == b"3848276298220188511@192.0.2.1"
    assert message.value(ROUTE) == b""
    assert message.all_lines(MAX_FORWARDS) == [b"Max-Forwards: 70"]
