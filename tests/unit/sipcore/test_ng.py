"""The ng protocol, both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore import ng
from sipcore.errors import NgError


def test_a_request_is_read_as_it_was_made() -> None:
    data = ng.request(b"k1", "offer", {"call-id": "c", "flags": ["trust-address"], "sdp": b"v=0"})
    request = ng.parse_request(data)
    assert (request.cookie, request.command) == (b"k1", "offer")
    assert request.text(b"call-id") == b"c"
    assert request.words(b"flags") == [b"trust-address"]
    assert request.text(b"sdp") == b"v=0"


def test_a_reply_is_read_as_it_was_made() -> None:
    reply = ng.parse_reply(ng.reply(b"k1", {"result": "ok", "sdp": b"v=0"}))
    assert (reply.cookie, reply.result, reply.sdp, reply.reason) == (b"k1", "ok", b"v=0", "")


def test_errors_and_load_limit_carry_their_reason() -> None:
    assert ng.parse_reply(ng.reply(b"k", ng.error("why"))).reason == "why"
    assert ng.parse_reply(ng.reply(b"k", ng.load_limit())).result == "load limit"


def test_keys_are_read_in_any_case_with_blanks_or_hyphens() -> None:
    request = ng.parse_request(b"k d14:Address family3:IP67:command5:offere")
    assert request.text(b"address-family") == b"IP6"


def test_a_lone_word_counts_as_a_list_of_one() -> None:
    request = ng.parse_request(b"k d7:command5:offer8:rtcp-mux5:Demuxe")
    assert request.words(b"rtcp-mux") == [b"demux"]


def test_a_value_of_another_type_reads_as_absent() -> None:
    request = ng.parse_request(b"k d7:call-idi5e7:command5:offere")
    assert request.text(b"call-id") == b""
    assert request.words(b"call-id") == []


def test_a_binary_tag_passes_unchanged() -> None:
    tag = bytes(range(256))
    assert ng.parse_request(ng.request(b"k", "offer", {"from-tag": tag})).text(b"from-tag") == tag


@pytest.mark.parametrize(
    ("data", "cookie"),
    [
        (b"", b""),
        (b"nocookie", b""),
        (b" d7:command4:pinge", b""),
        (b"k rubbish", b"k"),
        (b"k le", b"k"),
        (b"k d1:a1:be", b"k"),
        (b"k d7:commandi1ee", b"k"),
    ],
)
def test_malformed_requests_say_whether_they_can_be_answered(data: bytes, cookie: bytes) -> None:
    with pytest.raises(NgError) as caught:
        ng.parse_request(data)
    assert caught.value.cookie == cookie


@given(st.binary(max_size=300))
def test_any_datagram_is_a_request_or_an_ng_error(data: bytes) -> None:
    for parse in (ng.parse_request, ng.parse_reply):
        try:
            parse(data)
        except NgError:
            continue
