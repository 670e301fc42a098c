"""The relay's way to its store: nothing in it waits for a name."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from rtprelay.link import StoreLink
from rtprelay.resolve import Resolver, is_numeric
from sipcore.sentinel import LOOK_UP_LIMIT
from sipcore.store import SCRIPTS, StoreUrl

HANDSHAKE = b"+OK\r\n" * len(SCRIPTS) + b":0\r\n$10\r\nrun_id:abc\r\n"


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(2)
        yield listener


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that answers `127.0.0.1` only when the event is set."""
    answer = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, port: int, **options: int) -> object:
        assert answer.wait(5)
        return real("127.0.0.1", port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield answer
    answer.set()


def turn(link: StoreLink, epoll: select.epoll, now: float, wait: float = 0.05) -> None:
    link.tick(now)
    for fd, mask in epoll.poll(wait):
        assert link.owns(fd)
        link.ready(fd, mask, now)


def test_a_name_that_is_not_answered_holds_nobody_up_and_is_used_when_it_is(
    epoll: select.epoll, listener: socket.socket, hanging: threading.Event
) -> None:
    link = StoreLink(StoreUrl(host="store.example", port=listener.getsockname()[1]), epoll)
    began = time.monotonic()
    link.tick(0.0)
    assert time.monotonic() - began < 0.05
    assert link.due_at == LOOK_UP_LIMIT
    hanging.set()
    for _ in range(20):
        turn(link, epoll, 0.1)
        if link.due_at != LOOK_UP_LIMIT:
            break
    server, _ = listener.accept()
    with server:
        server.sendall(HANDSHAKE)
        for _ in range(5):
            turn(link, epoll, 0.2)
        assert link.client.available
        assert link.due_at is None
        link.lost(0.3)


def test_a_name_that_takes_too_long_is_given_up_and_tried_again(epoll: select.epoll, hanging: threading.Event) -> None:
    link = StoreLink(StoreUrl(host="store.example"), epoll)
    threads = threading.active_count()
    now = 0.0
    for _ in range(5):
        link.tick(now)
        assert link.due_at is not None
        assert now < link.due_at <= now + LOOK_UP_LIMIT
        now = link.due_at
    assert threading.active_count() == threads + 1, "one look-up, however often it is wanted"


def test_a_resolver_tells_of_names_that_nobody_knows(epoll: select.epoll, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    resolver = Resolver(epoll)
    assert resolver.take() == []
    resolver.start(("nobody.example", 1))
    assert [fd for fd, _ in epoll.poll(2)] == [resolver.fd]
    assert resolver.take() == [(("nobody.example", 1), [])]
    assert epoll.poll(0) == []


@pytest.mark.parametrize(("host", "numeric"), [("10.0.0.1", True), ("::1", True), ("localhost", False), ("", False)])
def test_an_address_needs_no_look_up(host: str, numeric: bool) -> None:
    assert is_numeric(host) is numeric
