"""Proxy cores on a clock of their own, the real scripts of the store in fakeredis; fakes stand at sockets and time."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import patch

import fakeredis
import msgspec
import redis

from sipcore.config import ProxyConfig
from sipcore.keys import ClusterKey
from sipcore.resp import ErrorReply, Reader, pack
from sipcore.store import SCRIPTS
from sipproxy.core import ProxyCore, actions, events
from sipproxy.core.hop import unpack

KEY = ClusterKey(bytes(range(32)))
CLUSTER = ("127.105.0.1", 5060)
ALICE = ("127.105.0.2", 5061)
BOB = ("127.105.0.3", 5062)
CAROL = ("127.105.0.4", 5063)
START = 1000.0
UNIX = 1_800_000_000.0

Address = tuple[str, int]


def lines(text: str) -> bytes:
    """A message as it stands in a text: a blank line ends the headers."""
    head, _, body = text.strip("\n").partition("\n\n")
    return (head.replace("\n", "\r\n") + "\r\n\r\n").encode() + body.replace("\n", "\r\n").encode()


def config(**changes: Any) -> ProxyConfig:
    """One listener, calls for `example.com` to Bob."""
    raw: dict[str, Any] = {
        "listeners": [{"address": CLUSTER[0], "port": CLUSTER[1]}],
        "domains": ["example.com"],
        "routes": [{"domain": "example.com", "targets": [f"sip:{BOB[0]}:{BOB[1]}"]}],
    }
    return msgspec.convert({**raw, **changes}, ProxyConfig)


class Store:
    """A server that runs our scripts; `down` and `forget` play its disasters."""

    def __init__(self) -> None:
        self.run = 0
        self.forget()
        self.up = True
        self.log: list[list[bytes]] = []

    def forget(self) -> None:
        self.run += 1
        self.redis = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        self.redis.response_callbacks.clear()
        for script in SCRIPTS:
            self.redis.execute_command("SCRIPT", "LOAD", script.text)

    def execute(self, command: Any) -> Any:
        reader = Reader()
        reader.feed(pack(command))
        [parts] = reader.replies()
        assert isinstance(parts, list)
        self.log.append(parts)  # type: ignore[arg-type]
        try:
            return _value(self.redis.execute_command(*parts))
        except redis.ResponseError as error:
            return ErrorReply(str(error))

    def names(self, pattern: str) -> list[bytes]:
        return sorted(self.redis.execute_command("KEYS", pattern))

    def cdrs(self) -> list[dict[str, Any]]:
        entries = [self.redis.execute_command("XRANGE", key, "-", "+") for key in self.names("sf:*:cdr")]
        return [msgspec.json.decode(fields[1]) for stream in entries for _, fields in stream]


def _value(value: Any) -> Any:
    if value is True:
        return b"OK"
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return value


class Proxy:
    """One core behind an edge that only writes down what it is asked to do."""

    def __init__(self, world: World, cfg: ProxyConfig, *, adopt: bool = True) -> None:
        self.world = world
        self.config = cfg
        self.alive = True
        self.connected = False
        self.sent: list[actions.Send] = []
        self.ng: list[actions.SendNg] = []
        self.all: list[actions.Action] = []
        """Everything, in order."""
        self.hop_address = _address(cfg.internal) if cfg.internal else None
        self.core = ProxyCore(cfg, KEY, Random(7), UNIX - START, adopt=adopt)
        self.feed(events.Timer())

    def feed(self, event: events.Event) -> list[actions.Action]:
        """The actions, after the world has carried out those that concern store and peers."""
        if not self.alive:
            return []
        todo = self.core.feed(event, self.world.now)
        self.all += todo
        assert "internal_errors" not in self.count, self.logged("internal-error")
        for action in todo:
            if isinstance(action, actions.Send):
                self.sent.append(action)
            elif isinstance(action, actions.SendNg):
                self.ng.append(action)
            elif isinstance(action, actions.Store):
                self.world.store_do(self, action)
            elif isinstance(action, actions.SendHop):
                self.world.hop(self, action)
        return todo

    def hear(self, data: bytes, source: Address) -> list[bytes]:
        """A datagram comes; what the proxy sends for it, and for what the store and peers answer at once."""
        before = len(self.sent)
        self.feed(events.Datagram(data, source, 0))
        self.world.settle()
        return [action.data for action in self.sent[before:]]

    def take(self) -> list[tuple[bytes, Address]]:
        """What was sent since the last time."""
        out = [(action.data, action.target) for action in self.sent]
        self.sent.clear()
        return out

    def kill(self) -> None:
        self.alive = False

    @property
    def owned(self) -> int:
        return self.core.node.owned

    @property
    def count(self) -> dict[str, int]:
        return self.core.counters()

    def logged(self, name: str) -> list[actions.Log]:
        return [action for action in self.all if isinstance(action, actions.Log) and action.event == name]


class World:
    """The clock, the store, and the proxies that share it."""

    def __init__(self) -> None:
        self.now = START
        self.proxies: list[Proxy] = []
        self.store: Store | None = None
        self.slow_store = False
        """Answers wait until `settle`."""
        self._waiting: list[Callable[[], None]] = []

    def proxy(self, *, adopt: bool = True, **changes: Any) -> Proxy:
        """A proxy without a store."""
        proxy = Proxy(self, config(**changes), adopt=adopt)
        self.proxies.append(proxy)
        return proxy

    def cluster(self, count: int = 2, **changes: Any) -> list[Proxy]:
        """Proxies with a store that know of each other and trust what they know."""
        self.store = self.store or Store()
        made = [self.member(**changes) for _ in range(count)]
        self.advance(4.0)
        return made

    def member(self, *, adopt: bool = True, **changes: Any) -> Proxy:
        """One more proxy of the cluster."""
        assert self.store is not None
        number = len(self.proxies)
        changes = {
            "pod": {"set": "c", "name": f"proxy-{number}", "uid": f"uid-{number}", "ordinal": number},
            "internal": f"127.105.1.{number + 1}:5070",
            "store": "redis://fake",
            **changes,
        }
        proxy = Proxy(self, config(**changes), adopt=adopt)
        self.proxies.append(proxy)
        proxy.connected = True
        proxy.feed(events.StoreState(True, f"run-{self.store.run}"))
        self.settle()
        return proxy

    def store_do(self, proxy: Proxy, action: actions.Store) -> None:
        if self.store is None or not self.store.up or not proxy.connected:
            if action.tag is not None:
                self._waiting.append(lambda: proxy.feed(events.StoreReply(action.tag, None)))
            return
        replies = [self.ask_store(command) for command in action.commands]
        if action.tag is not None:
            self._waiting.append(lambda: proxy.feed(events.StoreReply(action.tag, replies)))

    def ask_store(self, command: Any) -> Any:
        """What the store answers, by the world's clock."""
        assert self.store is not None
        with patch("time.time", lambda: UNIX - START + self.now):
            return self.store.execute(command)

    def store_down(self) -> None:
        assert self.store is not None
        self.store.up = False
        for proxy in self.proxies:
            proxy.feed(events.StoreState(False, f"run-{self.store.run}"))
        self.settle()

    def store_up(self, *, empty: bool) -> None:
        assert self.store is not None
        if empty:
            self.store.forget()
        self.store.up = True
        for proxy in self.proxies:
            proxy.feed(events.StoreState(True, f"run-{self.store.run}"))
        self.settle()

    def hop(self, sender: Proxy, action: actions.SendHop) -> None:
        def deliver() -> None:
            for proxy in self.proxies:
                if proxy.alive and proxy.hop_address == action.peer:
                    proxy.feed(events.Hop(action.data))
                    return
            sender.feed(events.PeerDown(action.peer))

        self._waiting.append(deliver)

    def settle(self) -> None:
        """Let the store and the hops answer what was asked."""
        for _ in range(200):
            if not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()
        raise AssertionError("the cluster never comes to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        self.settle()
        while True:
            dues = [(due, p) for p in self.proxies if p.alive and (due := p.core.next_timer()) is not None]
            due, proxy = min(dues, key=lambda pair: pair[0], default=(end + 1, None))
            if proxy is None or due > end:
                break
            self.now = max(self.now, due)
            proxy.feed(events.Timer())
            self.settle()
        self.now = end


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


# -- messages


def request(
    method: str,
    uri: str = "sip:bob@example.com",
    *,
    branch: str = "1",
    call_id: str = "call@alice",
    cseq: int = 1,
    from_tag: str = "alice",
    to_tag: str = "",
    source: Address = ALICE,
    extra: str = "",
    body: str = "",
    max_forwards: int | None = 70,
    rport: bool = True,
) -> bytes:
    """A request as Alice sends it (Bob, when the tags are turned round)."""
    head = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bK{branch}{';rport' if rport else ''}",
    ]
    if max_forwards is not None:
        head.append(f"Max-Forwards: {max_forwards}")
    head += [
        f"From: <sip:alice@example.com>;tag={from_tag}",
        "To: <sip:bob@example.com>" + (f";tag={to_tag}" if to_tag else ""),
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        f"Contact: <sip:user@{source[0]}:{source[1]}>",
    ]
    head += [line for line in extra.splitlines() if line]
    if body:
        head.append("Content-Type: application/sdp")
    head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def response(
    to: bytes, status: int, reason: str = "Reason", *, tag: str = "bob", contact: Address = BOB, body: str = ""
) -> bytes:
    """The response of whoever got the request `to`."""
    head = to.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [
        line
        for line in head[1:]
        if line.partition(b":")[0].lower() in (b"via", b"v", b"record-route", b"from", b"to", b"call-id", b"cseq")
    ]
    out = [f"SIP/2.0 {status} {reason}".encode()]
    for line in kept:
        if line.lower().startswith(b"to:") and status > 100 and b";tag=" not in line:
            line += b";tag=" + tag.encode()
        out.append(line)
    out.append(f"Contact: <sip:bob@{contact[0]}:{contact[1]}>".encode())
    if body:
        out.append(b"Content-Type: application/sdp")
    out.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*out, b"", body.encode()))


def start_line(data: bytes) -> str:
    return data.partition(b"\r\n")[0].decode()


def header(data: bytes, name: str) -> list[str]:
    """All values of a header, one string a line."""
    head = data.partition(b"\r\n\r\n")[0].decode()
    return re.findall(rf"^{re.escape(name)}:[ \t]*([^\r\n]*)", head, re.MULTILINE | re.IGNORECASE)


class Call:
    """A call from INVITE to ACK through one proxy."""

    def __init__(
        self, proxy: Proxy, name: str = "call", *, body: str = "", answer: bool = True, by: Proxy | None = None
    ) -> None:
        """`by` is the proxy that Bob's responses reach, where it is another one."""
        self.proxy = proxy
        self.name = name
        self.call_id = f"{name}@alice"
        self.invite = request("INVITE", call_id=self.call_id, branch=f"{name}-i", body=body)
        self.at_bob, *rest = proxy.hear(self.invite, ALICE)
        self.trying = rest
        self.ok = b""
        self.route = header(self.at_bob, "Record-Route")[0]
        if answer:
            self.answer(by or proxy, body)

    def answer(self, by: Proxy, body: str = "") -> None:
        by.hear(response(self.at_bob, 180, "Ringing"), BOB)
        by.hear(response(self.at_bob, 200, "OK", body=body), BOB)
        sent = [a.data for p in by.world.proxies for a in p.sent]
        self.ok = next(d for d in reversed(sent) if d.startswith(b"SIP/2.0 200") and self.call_id.encode() in d)

    def from_alice(
        self, method: str, cseq: int, *, route: bool = True, extra: str = "", branch: str = "", body: str = ""
    ) -> bytes:
        return request(
            method,
            f"sip:bob@{BOB[0]}:{BOB[1]}" if route else "sip:bob@example.com",
            call_id=self.call_id,
            cseq=cseq,
            to_tag="bob",
            branch=branch or f"{self.name}-{method}-{cseq}",
            extra=(f"Route: {self.route}\n" if route else "") + extra,
            body=body,
        )

    def from_bob(self, method: str, cseq: int, *, route: bool = True) -> bytes:
        data = request(
            method,
            f"sip:user@{ALICE[0]}:{ALICE[1]}" if route else "sip:alice@example.com",
            call_id=self.call_id,
            cseq=cseq,
            from_tag="bob",
            to_tag="alice",
            source=BOB,
            branch=f"{self.name}-bob-{method}-{cseq}",
            extra=f"Route: {self.route}\n" if route else "",
        )
        return data.replace(b"From: <sip:alice@", b"From: <sip:bobby@").replace(b"To: <sip:bob@", b"To: <sip:alice@")


def internal(proxy: Proxy, data: bytes) -> Any:
    """An internal hop taken apart."""
    return unpack(KEY, data)
