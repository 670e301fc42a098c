"""Whom to ask for the master, and what the answers mean."""

from __future__ import annotations

import pytest

from sipcore.errors import RespError, SentinelError
from sipcore.resp import Reader
from sipcore.sentinel import Address, Search
from sipcore.store import StoreUrl

ONE, TWO, THREE = ("10.0.0.1", 26379), ("10.0.0.2", 26379), ("10.0.0.3", 26379)
NAME = ("sentinels", 26379)
MASTER = b"*2\r\n$8\r\n10.0.0.9\r\n$4\r\n6379\r\n"


def search(text: str = "sentinel://sentinels/main", *addresses: Address) -> Search:
    found = Search(StoreUrl.parse(text))
    found.resolved(NAME, addresses or (THREE, ONE, TWO))
    return found


def whole_round(found: Search) -> list[Address]:
    found.begin()
    return list(iter(found.next, None))


def test_a_name_of_three_addresses_is_three_sentinels_and_each_is_asked_once_in_a_round() -> None:
    assert whole_round(search()) == [ONE, TWO, THREE]


def test_several_names_are_one_list() -> None:
    found = search("sentinel://sentinels,other:5/main", ONE)
    found.resolved(("other", 5), [("10.0.0.0", 5), ONE])
    assert whole_round(found) == [("10.0.0.0", 5), ONE]


def test_who_named_a_good_master_is_asked_first_and_who_misled_us_last() -> None:
    found = search()
    found.begin()
    assert [found.next(), found.next()] == [ONE, TWO]
    assert found.feed(MASTER) == ("10.0.0.9", 6379)
    found.begin()
    assert found.next() == TWO
    found.misled()
    assert whole_round(found) == [THREE, ONE, TWO]


def test_a_sentinel_that_is_gone_loses_its_turn_to_the_next() -> None:
    found = search()
    found.begin()
    assert [found.next(), found.next()] == [ONE, TWO]
    found.resolved(NAME, [ONE, THREE])
    assert whole_round(found) == [THREE, ONE]


def test_a_name_that_cannot_be_looked_up_just_now_stands_for_what_it_was() -> None:
    found = search()
    found.resolved(NAME, [])
    assert whole_round(found) == [ONE, TWO, THREE]
    assert whole_round(Search(StoreUrl.parse("sentinel://sentinels/main"))) == []


def test_an_answer_may_come_in_pieces() -> None:
    found = search()
    found.begin()
    found.next()
    assert [found.feed(MASTER[n : n + 1]) for n in range(len(MASTER) - 1)] == [None] * (len(MASTER) - 1)
    assert found.feed(MASTER[-1:]) == ("10.0.0.9", 6379)


def test_a_password_is_offered_and_a_sentinel_without_one_still_answers() -> None:
    found = search("sentinel://:se%40cret@sentinels/main")
    reader = Reader()
    reader.feed(found.question)
    assert reader.replies() == [[b"AUTH", b"se@cret"], [b"SENTINEL", b"get-master-addr-by-name", b"main"]]
    found.begin()
    found.next()
    assert found.feed(b"-ERR AUTH <password> called without any password configured\r\n") is None
    assert found.feed(MASTER) == ("10.0.0.9", 6379)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"*-1\r\n", "no master 'main'"),
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH"),
        (b"-ERR unknown command 'SENTINEL'\r\n", "unknown command"),
        (b":1\r\n", "host and port"),
        (b"*1\r\n$1\r\na\r\n", "host and port"),
        (b"*2\r\n$0\r\n\r\n$1\r\n1\r\n", "host and port"),
        (b"*2\r\n$1\r\na\r\n$5\r\n99999\r\n", "host and port"),
        (b"*2\r\n$1\r\na\r\n$1\r\nx\r\n", "host and port"),
        (b"*2\r\n$1\r\na\r\n:1\r\n", "host and port"),
    ],
)
def test_an_answer_without_a_master_is_told_and_the_next_sentinel_starts_afresh(answer: bytes, says: str) -> None:
    found = search()
    found.begin()
    found.next()
    with pytest.raises(SentinelError, match=says):
        found.feed(answer)
    assert found.next() == TWO
    assert found.feed(MASTER) == ("10.0.0.9", 6379)


def test_what_is_no_sentinel_at_all_is_told() -> None:
    found = search()
    found.begin()
    found.next()
    with pytest.raises(RespError):
        found.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
