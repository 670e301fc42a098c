"""Session descriptions (RFC 8866)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import SdpError
from sipcore.sdp import Connection, MediaEdit, Origin, normal_address, parse, rewrite

DATA = Path(__file__).parent / "data"
RELAY = Connection("IP4", "192.0.2.1")
ORIGIN = Origin("-", 42, 7)


def fixture(name: str) -> bytes:
    return (DATA / f"sdp_{name}.txt").read_bytes()


def sdp(*lines: str, connection: str = "c=IN IP4 198.51.100.10") -> bytes:
    head = ["v=0", "o=- 1 1 IN IP4 198.51.100.10", "s=-", *([connection] if connection else []), "t=0 0"]
    return "".join(f"{line}\r\n" for line in (*head, *lines)).encode()


def test_the_offer_of_rfc_4317_is_read_and_printed_unchanged() -> None:
    description = parse(fixture("rfc4317_2_1"))
    audio, video = description.media
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == (b"audio", 49170, b"RTP/AVP", [b"0", b"8", b"97"])
    assert audio.payload_types == {0, 8, 97}
    assert description.endpoint(video) == ("198.51.100.10", 51372)
    assert description.rtcp_endpoint(video) == ("198.51.100.10", 51373)
    assert bytes(description) == fixture("rfc4317_2_1")


@pytest.mark.parametrize(
    "name",
    [
        "no_version",
        "no_origin",
        "no_connection",
        "connection_host_name",
        "connection_address_300",
        "connection_family",
        "port_70000",
        "port_negative",
        "media_short",
        "rtcp_not_a_number",
        "line_without_type",
    ],
)
def test_malformed_descriptions_are_sdp_errors_that_say_what_was_expected(name: str) -> None:
    with pytest.raises(SdpError, match=r"expected|RFC"):
        parse(fixture(name))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_description_or_an_sdp_error(data: bytes) -> None:
    for body in (data, b"v=0\r\no=x\r\n" + data):
        try:
            parse(body)
        except SdpError:
            continue


LINE = st.binary(max_size=30).filter(lambda b: b"\n" not in b and b"\r" not in b and b == b.strip())


@given(st.lists(st.tuples(st.sampled_from([b"b", b"i", b"k", b"x", b"z"]), LINE), max_size=10))
def test_lines_that_nobody_knows_pass_unchanged(extra: list[tuple[bytes, bytes]]) -> None:
    body = sdp("m=audio 4000 RTP/AVP 0") + b"".join(b"%b=%b\r\n" % line for line in extra)
    assert bytes(parse(body)) == body


def test_lf_alone_ends_a_line() -> None:
    body = sdp("m=audio 4000 RTP/AVP 0")
    assert bytes(parse(body.replace(b"\r\n", b"\n"))) == body


def test_a_connection_of_the_media_line_comes_before_that_of_the_session() -> None:
    description = parse(sdp("m=audio 4000 RTP/AVP 0", "c=IN IP4 198.51.100.11", "m=audio 4002 RTP/AVP 0"))
    assert [description.endpoint(m) for m in description.media] == [("198.51.100.11", 4000), ("198.51.100.10", 4002)]


def test_ipv6_addresses_are_compared_as_the_system_prints_them() -> None:
    description = parse(sdp("m=audio 4000 RTP/AVP 0", connection="c=IN IP6 2001:DB8:0:0::0:1"))
    assert description.endpoint(description.media[0]) == ("2001:db8::1", 4000)
    assert normal_address("::ffff:1.2.3.4:1", "IP6") == ""


def test_a_rtcp_line_names_port_and_address() -> None:
    description = parse(sdp("m=audio 4000 RTP/AVP 0", "a=rtcp:9000 IN IP4 198.51.100.77"))
    assert description.rtcp_endpoint(description.media[0]) == ("198.51.100.77", 9000)


def test_with_rtcp_mux_rtcp_goes_to_the_rtp_port() -> None:
    description = parse(sdp("m=audio 4000 RTP/AVP 0", "a=rtcp-mux", "a=rtcp:9000"))
    assert description.rtcp_endpoint(description.media[0]) == ("198.51.100.10", 4000)


def test_the_direction_of_the_session_holds_where_the_media_line_has_none() -> None:
    body = sdp("a=sendonly", "m=audio 4000 RTP/AVP 0", "m=audio 4002 RTP/AVP 0", "a=inactive")
    description = parse(body)
    assert [description.media_direction(m) for m in description.media] == [b"sendonly", b"inactive"]


def test_port_0_is_no_endpoint_and_needs_no_connection() -> None:
    description = parse(sdp("m=audio 0 RTP/AVP 0", connection=""))
    assert description.endpoint(description.media[0]) is None
    assert description.rtcp_endpoint(description.media[0]) is None


@pytest.mark.parametrize(
    ("protocol", "rtp", "datagram"),
    [
        ("RTP/AVP", True, True),
        ("RTP/SAVPF", True, True),
        ("UDP/TLS/RTP/SAVPF", True, True),
        ("udptl", False, True),
        ("UDP/DTLS/SCTP", False, True),
        ("TCP/MSRP", False, False),
        ("TCP/TLS/BFCP", False, False),
    ],
)
def test_which_media_a_udp_relay_can_carry(protocol: str, rtp: bool, datagram: bool) -> None:
    media = parse(sdp(f"m=audio 4000 {protocol} 0")).media[0]
    assert (media.is_rtp, media.is_datagram) == (rtp, datagram)


@pytest.mark.parametrize("limit", [b"v=0\r\n" + b"a=x\r\n" * 3000, b"v=0\r\n" + b"a" * 70_000])
def test_size_is_limited(limit: bytes) -> None:
    with pytest.raises(SdpError, match="at most"):
        parse(limit)


def test_media_lines_are_limited() -> None:
    with pytest.raises(SdpError, match="more than"):
        parse(sdp(*["m=audio 4000 RTP/AVP 0"] * 40))


def test_a_rewritten_description_names_only_the_relay() -> None:
    body = sdp(
        "a=group:BUNDLE 1",
        "m=audio 4000 RTP/AVP 0",
        "c=IN IP4 198.51.100.11",
        "a=rtcp:4001",
        "a=candidate:1 1 UDP 1 198.51.100.10 4000 typ host",
        "a=ptime:20",
    )
    assert rewrite(parse(body), ORIGIN, RELAY, [MediaEdit(30000, 30001)]) == (
        b"v=0\r\no=- 42 7 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        b"m=audio 30000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\na=ptime:20\r\na=rtcp:30001\r\n"
    )


def test_a_rewritten_description_is_one_again_and_rewriting_twice_changes_nothing() -> None:
    edits = [MediaEdit(30000, 30001), MediaEdit(0)]
    once = rewrite(parse(sdp("m=audio 4000 RTP/AVP 0", "m=video 0 RTP/AVP 31")), ORIGIN, RELAY, edits)
    assert rewrite(parse(once), ORIGIN, RELAY, edits) == once
    assert parse(once).media[1].port == 0


def test_hold_stays_visible_in_the_family_of_the_relay() -> None:
    body = sdp("m=audio 4000 RTP/AVP 0", connection="c=IN IP4 0.0.0.0")
    assert b"\r\nc=IN IP4 0.0.0.0\r\n" in rewrite(parse(body), ORIGIN, RELAY, [MediaEdit(30000, 30001)])
    six = Connection("IP6", "2001:db8::1")
    assert b"\r\nc=IN IP6 ::\r\n" in rewrite(parse(body), ORIGIN, six, [MediaEdit(30000, 30001)])


def test_rtcp_mux_and_protocol_are_written_as_wanted() -> None:
    description = parse(sdp("m=audio 4000 RTP/AVP 0", "a=rtcp-mux"))
    assert b"a=rtcp-mux" not in rewrite(description, ORIGIN, RELAY, [MediaEdit(30000, 30001)])
    out = rewrite(description, ORIGIN, RELAY, [MediaEdit(30000, 30000, True, b"RTP/AVPF")])
    assert out.endswith(b"m=audio 30000 RTP/AVPF 0\r\na=rtcp:30000\r\na=rtcp-mux\r\n")


def test_a_media_line_without_an_edit_is_left_alone() -> None:
    line = b"m=message 7394 TCP/MSRP *\r\nc=IN IP4 198.51.100.12\r\na=path:x\r\n"
    assert rewrite(parse(sdp() + line), ORIGIN, RELAY, [None]).endswith(line)
