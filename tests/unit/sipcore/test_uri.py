"""SIP URIs and name-addr values."""

import pytest

from sipcore.uri import Uri, UriError, host_port, ip_of, name_addr, parse_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (b"sip:alice@example.com", Uri(b"sip", b"alice", b"example.com", 0, b"")),
        (b"SIPS:Alice@EXAMPLE.com:5061", Uri(b"sips", b"Alice", b"example.com", 5061, b"")),
        (
            b"sip:+491234;phone-context=x@10.0.0.1:5080;transport=udp",
            Uri(b"sip", b"+491234;phone-context=x", b"10.0.0.1", 5080, b";transport=udp"),
        ),
        (b"sip:[2001:db8::1]:5062;lr", Uri(b"sip", b"", b"[2001:db8::1]", 5062, b";lr")),
        (b"sip:a:secret@h?Subject=x", Uri(b"sip", b"a:secret", b"h", 0, b"", b"?Subject=x")),
        (
            b"sip:sips%3Auser%40example.com@example.net",
            Uri(b"sip", b"sips%3Auser%40example.com", b"example.net", 0, b""),
        ),
    ],
)
def test_a_uri_is_taken_apart_and_nothing_is_decoded(text: bytes, uri: Uri) -> None:
    assert parse_uri(text) == uri


@pytest.mark.parametrize(
    "text", [b"", b"sip:", b"sip:a@b:99999", b"sip:a b@c", b"alice@example.com", b"sip:a@b>", b"sip:@@"]
)
def test_what_is_no_uri_says_what_was_given(text: bytes) -> None:
    with pytest.raises(UriError) as caught:
        parse_uri(text)
    assert not caught.value.scheme
    assert "given" in str(caught.value)


@pytest.mark.parametrize("text", [b"tel:+491234", b"nobodyKnowsThisScheme:totallyopaquecontent", b"http://example.com"])
def test_an_unknown_scheme_is_told_apart(text: bytes) -> None:
    with pytest.raises(UriError) as caught:
        parse_uri(text)
    assert caught.value.scheme


def test_an_address_is_where_to_send_to() -> None:
    assert parse_uri(b"sip:a@10.0.0.1").address == ("10.0.0.1", 5060)
    assert parse_uri(b"sip:a@[::1]:5070").address == ("::1", 5070)
    assert parse_uri(b"sip:a@example.com").address is None


def test_the_same_user_somewhere_else() -> None:
    assert parse_uri(b"sip:a@example.com;x=1").at(("10.0.0.1", 5070)) == b"sip:a@10.0.0.1:5070;x=1"
    assert parse_uri(b"sip:example.com").at(("::1", 5060)) == b"sip:[::1]:5060"


@pytest.mark.parametrize(
    ("value", "uri", "params"),
    [
        (b"<sip:a@b>", b"sip:a@b", b""),
        (b'"A, B <x>" <sip:a@b;lr>;tag=1', b"sip:a@b;lr", b";tag=1"),
        (b'"q\\"uote" <sip:a@b>', b"sip:a@b", b""),
        (b"Bob <sip:a@b> ;tag=2", b"sip:a@b", b";tag=2"),
        (b"sip:a@b;tag=3", b"sip:a@b", b";tag=3"),
        (b"  sip:a@b  ", b"sip:a@b", b""),
    ],
)
def test_a_name_addr_is_uri_and_parameters(value: bytes, uri: bytes, params: bytes) -> None:
    assert name_addr(value) == (uri, params)


@pytest.mark.parametrize("value", [b'"Mr. <sip:a@b>', b"<sip:a@b", b"sip:a@b?x=y", b"sip:a@b,sip:c@d", b"sip:a@b>"])
def test_what_is_no_name_addr_is_refused(value: bytes) -> None:
    with pytest.raises(UriError):
        name_addr(value)


def test_addresses_as_text() -> None:
    assert ip_of(b"[::0001]") == "::1"
    assert ip_of(b"10.0.0.1") == "10.0.0.1"
    assert ip_of(b"example.com") is None
    assert host_port(("::1", 5060)) == b"[::1]:5060"


@pytest.mark.parametrize("evil", [b" " * 60000, b"<" * 60000, b'"' * 60001, b"sip:" + b"a:" * 30000, b'"\\' * 30000])
def test_no_value_takes_more_than_linear_time(evil: bytes) -> None:
    """A pattern that backtracks would run for minutes here, and the test's time limit would end it."""
    with pytest.raises(UriError):
        parse_uri(evil)
    try:
        name_addr(evil)
    except UriError:
        pass
