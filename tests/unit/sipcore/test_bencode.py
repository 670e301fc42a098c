"""Bencode (BEP 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.bencode import Value, decode, encode
from sipcore.errors import BencodeError

VALUES = st.recursive(
    st.integers(-(10**18), 10**18) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_decoded_the_same(value: Value) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_bencode_error(data: bytes) -> None:
    try:
        value = decode(data)
    except BencodeError:
        return
    assert decode(encode(value)) == value


@given(VALUES, st.data())
def test_a_value_that_is_cut_off_is_an_error(value: Value, data: st.DataObject) -> None:
    whole = encode(value)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BencodeError):
        decode(whole[:end])


def test_keys_are_sorted_and_text_is_utf_8() -> None:
    assert encode({"b": 1, "a": "é"}) == b"d1:a2:\xc3\xa91:bi1ee"


@pytest.mark.parametrize(
    "data",
    [
        b"i-e",
        b"ie",
        b"i1",
        b"i 1e",
        b"i+1e",
        b"5:abc",
        b":",
        b"-1:a",
        b"1x:a",
        b"l",
        b"d1:a",
        b"di1ei2ee",
        b"i1ei2e",
        b"x",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(BencodeError):
        decode(data)


def test_a_hostile_length_takes_no_memory() -> None:
    with pytest.raises(BencodeError):
        decode(b"99999999999999999:a")


def test_deep_nesting_is_an_error_and_no_recursion() -> None:
    with pytest.raises(BencodeError, match="nested deeper"):
        decode(b"l" * 100_000)


def test_a_type_that_bencode_lacks_is_an_error() -> None:
    with pytest.raises(BencodeError, match="float"):
        encode(1.5)  # type: ignore[arg-type]
