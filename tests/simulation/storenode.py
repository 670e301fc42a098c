"""The store of a simulated cluster: fakeredis runs our Lua scripts for real, on virtual time; connections break.

Each client is the production `sipcore.store.StoreClient`, so what is kept, sent again or dropped around a break is
simulated too.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import fakeredis
import redis

from sipcore.resp import Reader
from sipcore.store import Answer, Command, StoreClient
from tests.simulation.clock import Clock


class StoreNode:
    """A server that can be killed and comes back empty."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng
        self.links: list[Link] = []
        self.runs = 0
        self.history: list[bytes] = []
        """CDRs of earlier runs: what readers had read before the store was lost."""
        self.up = False
        self.start()

    def start(self) -> None:
        self.runs += 1
        self.up = True
        self._redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(), protocol=2)
        self._redis.response_callbacks.clear()

    def kill(self) -> None:
        self.history += self._stream()
        self.up = False
        for link in list(self.links):
            link.broken()

    def cdrs(self) -> list[bytes]:
        return self.history + (self._stream() if self.up else [])

    def _stream(self) -> list[bytes]:
        entries: list[bytes] = []
        for key in self._redis.execute_command("KEYS", "sf:*:cdr"):
            entries += [fields[1] for _, fields in self._redis.execute_command("XRANGE", key, "-", "+")]
        return entries

    def execute(self, command: list[bytes]) -> bytes:
        """One command -> its reply as RESP2."""
        if command[0] == b"INFO":  # fakeredis makes up a run_id of its own for all servers
            return _encode(b"# Server\r\nrun_id:%040x\r\n" % self.runs)
        try:
            return _encode(self._redis.execute_command(*command))
        except redis.ResponseError as error:
            return b"-ERR %s\r\n" % str(error).replace("\r\n", " ").encode()


class Link:
    """One connection to the store, with the production client at the near end."""

    def __init__(
        self,
        node: StoreNode,
        answered: Callable[[list[Answer]], None],
        changed: Callable[[bool, str], None],
    ) -> None:
        self._node = node
        self._clock = node.clock
        self._answered = answered
        self._changed = changed
        self._client = StoreClient()
        self._connection = 0
        self._closed = False
        self._arrival = 0.0
        node.links.append(self)
        self._clock.after(0.001, self._connect)

    def close(self) -> None:
        """The process died: what was written stays written, nobody hears the answers."""
        self._closed = True
        if self in self._node.links:
            self._node.links.remove(self)

    def queue(self, commands: list[Command], tag: object) -> bool:
        return self._client.send(commands, tag)

    def flush(self) -> None:
        data = self._client.take()
        if data:
            self._arrival = max(self._arrival, self._clock.now + self._node.rng.uniform(0.0001, 0.002))
            self._clock.after(self._arrival - self._clock.now, self._execute, data, self._connection)

    def broken(self) -> None:
        was = self._client.available
        self._connection += 1
        answers = self._client.lost()
        if self._closed:
            return
        if was:
            self._changed(False, self._client.run_id)
        if answers:
            self._answered(answers)
        self._clock.after(0.05, self._connect)

    def _connect(self) -> None:
        if self._closed:
            return
        if not self._node.up:
            self._clock.after(0.1, self._connect)
            return
        self._connection += 1
        self._client.connected()
        self.flush()

    def _execute(self, data: bytes, connection: int) -> None:
        """The bytes reach the server, also after the death of who wrote them: the kernel keeps them (DESIGN 2.4)."""
        if not self._node.up or connection != self._connection:
            return
        reader = Reader()
        reader.feed(data)
        replies = b"".join(self._node.execute(command) for command in reader.replies())  # type: ignore[arg-type]
        if not self._closed:
            self._arrival = max(self._arrival, self._clock.now + self._node.rng.uniform(0.0001, 0.002))
            self._clock.after(self._arrival - self._clock.now, self._reply, replies, connection)

    def _reply(self, data: bytes, connection: int) -> None:
        if self._closed or connection != self._connection:
            return
        was = self._client.available
        answers = self._client.feed(data)
        if not was and self._client.available:
            self._changed(True, self._client.run_id)
        if answers:
            self._answered(answers)
        self.flush()


def _encode(value: object) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bool):
        return b"+OK\r\n" if value else b":0\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, (list, tuple)):
        return b"*%d\r\n" % len(value) + b"".join(map(_encode, value))
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)
