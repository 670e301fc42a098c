"""What a thousand pods say: their heartbeat leases in the store, and answers to probes and orders.

One socket for each protocol, bound to all of 127.0.0.0/8, answers for every pod. A pod here is a lease and a number of
calls; leases are sipcore's own records, renewed by sipcore's own script once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import cast

import msgspec

import sipcore
from common import BenchError
from sipcore import ng
from sipcore.errors import SipcoreError
from sipcore.lease import LeaseKeeper
from sipcore.record import Lease
from sipcore.resp import Value
from sipcore.store import Keys, StoreClient, StoreUrl

SIP_PORT, NG_PORT, MEDIA_PORT = 5060, 2223, 30000
ADMIN_PORTS = (9090, 9091)
"""Of proxies and of relays."""
SLICES = 20
"""A second of heartbeats is sent in so many parts."""
MOST_CALLS = 60

Address = tuple[str, int]


class PlayedPod:
    """One pod that is up."""

    def __init__(self, namespace: str, set_name: str, name: str, uid: str, relay: bool, address: str, revision: str):
        self.address = address
        self.name = name
        self.renewed = False
        lease = Lease(
            kind="relay" if relay else "proxy",
            pod=name,
            uid=f"{uid}.{secrets.token_hex(4)}",
            set=set_name,
            ordinal=int(name.rpartition("-")[2]),
            version=sipcore.__version__,
            revision=revision,
            address=(address, NG_PORT if relay else 5070),
            listeners=[] if relay else [("UDP", address, SIP_PORT)],
            capacity=1000,
            active=random.randrange(MOST_CALLS),
            ready=True,
            empty=False,
            started=time.time(),
        )
        self.keeper = LeaseKeeper(Keys(namespace, set_name), lease)

    def obey(self, path: str) -> None:
        """`/cordon`, `/drain` or `/uncordon`."""
        lease = self.keeper.lease
        lease.cordoned = path != "/uncordon"
        lease.draining = path == "/drain" or (lease.draining and path == "/cordon")

    def move(self) -> None:
        """A second has passed: calls came and went; one that drains has none left."""
        lease = self.keeper.lease
        if lease.draining:
            lease.active = 0
        else:
            lease.active = min(MOST_CALLS, max(1, lease.active + random.choice((-2, -1, 1, 2))))
        lease.transactions = 0 if lease.draining else random.randrange(3)
        lease.empty = lease.active == 0


class PlayedPods:
    """All pods that are up."""

    def __init__(self, store: Address, ordered: Callable[[str, str], None]) -> None:
        """`ordered` is told (address, path) of each order that a pod gets."""
        self.pods: dict[str, PlayedPod] = {}
        """By address."""
        self.beats = 0
        """Heartbeats that were answered."""
        self.lag = 0.0
        """Seconds that heartbeats were late at most: how long this machine had no time for us."""
        self._store = store
        self._ordered = ordered
        self._gone: list[PlayedPod] = []
        self._peers: dict[Address, Address] = {}
        self._offers: dict[bytes, Address] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the sockets."""
        loop = asyncio.get_running_loop()
        for port, handler in ((SIP_PORT, self._sip), (NG_PORT, self._ng), (MEDIA_PORT, self._media)):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
            one.bind(("0.0.0.0", port))
            await loop.create_datagram_endpoint(lambda handler=handler: _Answering(handler), sock=one)  # type: ignore[misc]
        for port in ADMIN_PORTS:
            await asyncio.start_server(self._admin, "0.0.0.0", port)

    def begin(self) -> None:
        """Heartbeats from now on."""
        self._task = asyncio.ensure_future(self._beat())

    async def end(self) -> None:
        """No heartbeats any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def failed(self) -> BaseException | None:
        """What ended the heartbeats."""
        return self._task.exception() if self._task is not None and self._task.done() else None

    def remove(self, address: str) -> None:
        """The pod has ended: its lease goes with the next heartbeats."""
        pod = self.pods.pop(address, None)
        if pod is not None:
            self._gone.append(pod)

    # -- heartbeats

    async def _beat(self) -> None:
        reader, writer = await asyncio.open_connection(*self._store)
        client = StoreClient(StoreUrl(*self._store))
        client.connected()
        reading = asyncio.ensure_future(self._read(reader, client))
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                for part in range(SLICES):
                    gone, self._gone = self._gone, []
                    if gone:
                        client.send([pod.keeper.release() for pod in gone])
                    pods = [pod for n, pod in enumerate(list(self.pods.values())) if n % SLICES == part]
                    for pod in pods:
                        pod.move()
                    if pods:
                        client.send([pod.keeper.heartbeat() for pod in pods], (pods, loop.time()))
                    writer.write(client.take())
                    due += 1 / SLICES
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    self.lag = max(self.lag, loop.time() - due)
                    if reading.done():
                        reading.result()
        finally:
            reading.cancel()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, client: StoreClient) -> None:
        while data := await reader.read(2**18):
            for tag, replies in client.feed(data):
                pods, sent = cast(tuple[list[PlayedPod], float], tag)
                for pod, reply in zip(pods, cast(list[Value], replies), strict=True):
                    pod.keeper.answered(reply, sent)
                    self.beats += 1
        raise BenchError("the store ended the connection")

    # -- answers

    def _sip(self, data: bytes, source: Address) -> bytes | None:
        """200 to whatever comes (RFC 3261 8.2.6.2: Via, From, To, Call-ID and CSeq as they came)."""
        copied = [line for line in data.split(b"\r\n") if re.match(rb"(?i)(via|from|to|call-id|cseq):", line)]
        return b"\r\n".join([b"SIP/2.0 200 OK", *copied, b"Content-Length: 0", b"", b""])

    def _ng(self, data: bytes, source: Address) -> bytes | None:
        """One relay for all: offer and answer place both sides on one port, told apart by their source."""
        try:
            request = ng.parse_request(data)
        except SipcoreError:
            return None
        if request.command == "ping":
            return ng.reply(request.cookie, {"result": "pong"})
        call = request.text(b"call-id")
        if request.command in ("offer", "answer"):
            sdp = request.text(b"sdp")
            found = re.search(rb"c=IN IP4 (\S+).*m=audio (\d+)", sdp, re.S)
            if found is None:
                return ng.reply(request.cookie, ng.error("no audio"))
            party = (found[1].decode(), int(found[2]))
            if request.command == "offer":
                self._offers[call] = party
            elif call in self._offers:
                other = self._offers[call]
                self._peers[party], self._peers[other] = other, party
            ours = sdp.replace(b"m=audio " + found[2], b"m=audio %d" % MEDIA_PORT)
            return ng.reply(request.cookie, {"result": "ok", "sdp": ours})
        if request.command == "delete" and (party := self._offers.pop(call, ("", 0))):
            self._peers.pop(self._peers.pop(party, ("", 0)), None)
        return ng.reply(request.cookie, {"result": "ok"})

    def _media(self, data: bytes, source: Address) -> tuple[bytes, Address] | None:
        other = self._peers.get(source)
        return (data, other) if other is not None else None

    async def _admin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            address = writer.get_extra_info("sockname")[0]
            pod = self.pods.get(address)
            if pod is not None and path in ("/cordon", "/drain", "/uncordon"):
                pod.obey(path)
                self._ordered(address, path)
            status = b"200 OK" if pod is not None else b"404 Not Found"
            body = msgspec.json.encode({"pod": pod.name if pod is not None else None})
            writer.write(
                b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )
            await writer.drain()
        writer.close()


class _Answering(asyncio.DatagramProtocol):
    def __init__(self, handler: Callable[[bytes, Address], bytes | tuple[bytes, Address] | None]) -> None:
        self._handler = handler
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        assert self._transport is not None
        answer = self._handler(data, addr)
        if isinstance(answer, tuple):
            self._transport.sendto(*answer)
        elif answer is not None:
            self._transport.sendto(answer, addr)
