import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import ConfigError
from sipcore.keys import TOKEN_CHARS, ClusterKey, Token, parse_token

KEY = ClusterKey(bytes(range(32)))
TOKEN = Token(KEY.dialog_key(b"c@h", b"tag"), relay=3, owner=65535, flow=7, side=1)


def test_a_token_is_32_characters_and_reads_back() -> None:
    text = KEY.token(TOKEN, b"c@h", b"tag")
    assert len(text) == TOKEN_CHARS
    assert parse_token(text) == TOKEN
    assert KEY.check_token(text, b"c@h", b"tag")


@pytest.mark.parametrize(
    ("call_id", "tag"), [(b"other@h", b"tag"), (b"c@h", b"other"), (b"c@", b"htag")], ids=["call-id", "tag", "shifted"]
)
def test_a_token_of_another_dialog_is_refused(call_id: bytes, tag: bytes) -> None:
    assert not KEY.check_token(KEY.token(TOKEN, b"c@h", b"tag"), call_id, tag)


def test_a_token_of_another_cluster_is_refused() -> None:
    assert not ClusterKey(bytes(32)).check_token(KEY.token(TOKEN, b"c", b"t"), b"c", b"t")


@given(st.integers(0, TOKEN_CHARS - 1), st.sampled_from(b"ABCxyz019-_"))
def test_a_token_with_a_changed_character_is_refused(at: int, char: int) -> None:
    text = bytearray(KEY.token(TOKEN, b"c", b"t"))
    if text[at] != char:
        text[at] = char
        assert parse_token(bytes(text)) is None or not KEY.check_token(bytes(text), b"c", b"t")


@given(st.binary(max_size=40))
def test_a_user_part_of_somebody_else_is_no_token(text: bytes) -> None:
    token = parse_token(text)
    assert token is None or len(text) == TOKEN_CHARS


def test_the_branch_is_the_same_at_every_proxy_and_differs_for_a_spiral() -> None:
    one = KEY.branch(b"10.0.0.1:5060", b"z9hG4bKx", b"c", b"1", b"sip:b@h")
    assert one == ClusterKey(bytes(range(32))).branch(b"10.0.0.1:5060", b"z9hG4bKx", b"c", b"1", b"sip:b@h")
    assert one != KEY.branch(b"10.0.0.1:5060", b"z9hG4bKy", b"c", b"1", b"sip:b@h")
    assert one.startswith(b"z9hG4bK")


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_a_bad_key_file_says_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"64 hex digits"):
        ClusterKey.parse(text)
