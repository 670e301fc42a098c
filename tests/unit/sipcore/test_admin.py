import pytest

from sipcore.admin import AdminConnection, text


def _boom() -> tuple[int, str, bytes]:
    raise RuntimeError("boom")


TABLE = {("GET", "/livez"): lambda: text(200, "ok"), ("POST", "/drain"): lambda: text(200, "on"), ("GET", "/x"): _boom}


def _status(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /livez", 200),
        (b"GET /livez?verbose=1", 200),
        (b"POST /drain", 200),
        (b"GET /drain", 405),
        (b"GET /nothing", 404),
        (b"GET /x", 500),
    ],
)
def test_each_request_gets_its_answer(request_line: bytes, status: int) -> None:
    connection = AdminConnection(TABLE)
    assert _status(connection.feed(request_line + b" HTTP/1.1\r\nHost: a\r\n\r\n")) == status
    assert not connection.closed


def test_requests_in_pieces_and_in_a_row_are_answered_in_order() -> None:
    connection = AdminConnection(TABLE)
    raw = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nPOST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    out = b"".join(connection.feed(raw[i : i + 1]) for i in range(len(raw)))
    assert out.count(b"HTTP/1.1 200") == 2
    assert out.endswith(b"on\n")


def test_a_client_that_asks_to_close_is_closed() -> None:
    connection = AdminConnection(TABLE)
    connection.feed(b"GET /livez HTTP/1.0\r\n\r\n")
    assert connection.closed


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000,
        b"POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90000,
    ],
    ids=["no http", "endless headers", "endless body"],
)
def test_what_is_no_request_or_has_no_end_is_refused_and_closed(data: bytes) -> None:
    connection = AdminConnection(TABLE)
    assert 400 <= _status(connection.feed(data)) < 500
    assert connection.closed
