"""Flows as they stand in the store."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import RecordError
from sipcore.flow import entries, pack, pack_value, unpack, unpack_value

HOSTS = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda n: str(IPv4Address(n))),
    st.integers(0, 2**128 - 1).map(lambda n: str(IPv6Address(n))),
)
FLOWS = st.tuples(st.integers(0, 255), st.tuples(HOSTS, st.integers(0, 65535)))
VALUES = st.tuples(st.integers(0, 65535), st.integers(0, 2**48 - 1))


@given(FLOWS)
def test_a_flow_is_read_as_it_was_written(flow: tuple[int, tuple[str, int]]) -> None:
    assert unpack(pack(flow)) == flow


@given(VALUES)
def test_a_value_is_read_as_it_was_written(value: tuple[int, int]) -> None:
    assert unpack_value(pack_value(*value)) == value


@given(st.lists(st.tuples(FLOWS, VALUES), max_size=20))
def test_an_entry_of_the_log_holds_them_in_their_order(
    told: list[tuple[tuple[int, tuple[str, int]], tuple[int, int]]],
) -> None:
    pairs = [(pack(flow), pack_value(*value)) for flow, value in told]
    assert list(entries(b"".join(bytes([len(name)]) + name + value for name, value in pairs))) == pairs


@given(st.binary(max_size=40))
def test_bytes_that_are_none_of_it_are_refused_as_records_are(data: bytes) -> None:
    for read in (unpack, unpack_value, lambda raw: list(entries(raw))):
        with suppress(RecordError):
            read(data)


def test_an_entry_that_is_cut_is_refused() -> None:
    whole = bytes([7]) + pack((0, ("192.0.2.1", 5060))) + pack_value(1, 2)
    with pytest.raises(RecordError, match="an entry of 14 bytes is cut at 0"):
        list(entries(whole[:14]))


def test_what_is_no_address_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        pack((0, ("example.com", 5060)))
