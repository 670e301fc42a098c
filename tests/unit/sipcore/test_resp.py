import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import RespError
from sipcore.resp import ErrorReply, Reader, Value, pack

STREAM = b"+OK\r\n:42\r\n$5\r\nhe\r\no\r\n$-1\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n*-1\r\n*0\r\n"
VALUES: list[Value] = [b"OK", 42, b"he\r\no", None, [b"a", [1]], None, []]


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert pack((b"SET", "k", 12)) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n12\r\n"


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_replies_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader, out, last = Reader(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        reader.feed(STREAM[last:cut])
        out += reader.replies()
        last = cut
    assert out == VALUES


def test_an_error_is_a_value_in_the_place_of_its_command() -> None:
    reader = Reader()
    reader.feed(b"+OK\r\n-NOSCRIPT no such script\r\n:1\r\n")
    ok, error, one = reader.replies()
    assert (ok, one) == (b"OK", 1)
    assert isinstance(error, ErrorReply)
    assert error.code == "NOSCRIPT"


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 400\r\n", b"$x\r\n", b"$99999999999\r\n", b"*1\r\n" * 10],
    ids=["http", "length", "huge", "deep"],
)
def test_what_is_not_resp_is_refused(data: bytes) -> None:
    reader = Reader()
    reader.feed(data)
    with pytest.raises(RespError, match="RESP"):
        reader.replies()
