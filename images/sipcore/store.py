"""The store as proxies and relays see it: key names, scripts, and a pipelined client without I/O.

The edge owns the socket: it calls `connected` after connect(), writes what `take` gives, gives what it reads to `feed`,
and calls `lost` when the connection ends. Commands without a tag are writes whose reply nobody waits for: they are kept
while the store is away (bounded) and sent again after a reconnect, so they must be idempotent. Commands with a tag are
answered once: with the list of replies, or with None when the connection is lost before.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from hashlib import sha1

import msgspec

from sipcore.errors import ConfigError
from sipcore.resp import ErrorReply, Reader, Value, pack

Command = Sequence[bytes | str | int | float]

LEASE_LIFE_MS = 3000
LEASE_KEPT_MS = 10_800_000
EARLY_LIFE_S = 240
DIALOG_LIFE_S = 10_860
CDR_GUARD_S = 86_400
ENDED_LIFE_S = 64
"""A dialog that ended: twice the 32 s in which a BYE is sent again (RFC 3261 timer F)."""
CDR_STREAM_LENGTH = 1_000_000
FLOW_LOG_LENGTH = 2000
"""Entries of some hundred flows at most; readers come each second, and read the hash when they missed one."""

SENTINEL_PORT = 26379
PROBE = b"sf:probe"
"""A key that nobody sets: deleting it shows whether the server takes writes."""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Writes kept while the store is away; the oldest go first (the owners write everything again into a new store)."""


class Script:
    """A Lua script with its SHA1; `call` makes the command."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode()).hexdigest()

    def template(self, keys: int, *args: bytes | None) -> bytes:
        """`call` as RESP2 with holes: the length and the text of each key, and of each argument that is None, are left
        to `%`. Three times as fast as `call`, where every call of a telephone pays for it."""
        head = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%d\r\n" % (
            3 + keys + len(args),
            self.sha.encode(),
            len(str(keys)),
            keys,
        )
        parts = [b"$%d\r\n%b\r\n" if arg is None else b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
        return head + b"$%d\r\n%b\r\n" * keys + b"".join(parts)

    def call(self, keys: Sequence[bytes | str], *args: bytes | str | int) -> Command:
        return (b"EVALSHA", self.sha, len(keys), *keys, *args)


_EPOCH = """
local function epoch(v)
  local a, b, c, d = string.byte(v, 5, 8)
  return ((a * 256 + b) * 256 + c) * 256 + d
end
"""

HEARTBEAT = Script(
    """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local index = tonumber(ARGV[3])
if index == 0 and ARGV[5] ~= '' then index = tonumber(redis.call('HGET', KEYS[4], ARGV[5]) or '0') end
local last = tonumber(redis.call('GET', KEYS[3]) or '-1')
if last < 0 then last = (t[1] * 1000003 + t[2]) % 60000 end
if index == 0 then
  index = last % 65535 + 1
  last = index
elseif index > last then
  last = index
end
redis.call('SET', KEYS[3], last)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[5], index) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now))
local beats = redis.call('HGETALL', KEYS[2])
for i = 1, #beats, 2 do
  if now - tonumber(beats[i + 1]) > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], beats[i])
    redis.call('HDEL', KEYS[2], beats[i])
  end
end
return {string.format('%.0f', now), index, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
"""
)
"""KEYS leases, beats, index, slots; ARGV id, lease, index (0: hand one out), age in ms at which entries go, slot.

With a slot (a pod's name) its next incarnation gets the same index.
-> [server time in ms, index, leases, beats], the last two flat lists of id, value."""

LEASES = Script(
    """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return {string.format('%.0f', now), 0, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
"""
)
"""KEYS leases, beats; reads the leases of another set. -> [ms, 0, leases, beats]"""

RELEASE = Script(
    """
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""
)
"""KEYS leases, beats; ARGV id: a pod that ends cleanly takes its lease away."""

ADOPT = Script(
    """
local v = redis.call('GET', KEYS[1])
if v and string.sub(v, 1, 8) == ARGV[1] then
  v = ARGV[2] .. string.sub(v, 9)
  redis.call('SET', KEYS[1], v, 'EX', ARGV[3])
end
return v
"""
)
"""KEYS record; ARGV expected header, new header, life in s. -> the value as it is now, or nil.

The record is ours when its header is the new one."""

PUT = Script(
    _EPOCH
    + """
local v = redis.call('GET', KEYS[1])
if v and epoch(v) > epoch(ARGV[1]) then return v end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
)
"""KEYS record; ARGV value, life in s: write unless somebody has a later epoch. -> 1, or the later value"""

END = Script(
    _EPOCH
    + """
local v = redis.call('GET', KEYS[1])
if v and epoch(v) > tonumber(ARGV[1]) then return 0 end
if v then redis.call('SET', KEYS[1], 'X' .. string.sub(v, 2), 'EX', ARGV[5]) end
if redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[3]) then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'cdr', ARGV[2])
end
return 1
"""
)
"""KEYS dialog, CDR guard, CDR stream; ARGV epoch, CDR, guard life in s, stream length, life of the ended record in s.

-> 1, or 0 = not ours any more (DESIGN 2.8). The record is kept a little, marked as ended: a BYE whose proxy
died before it forwarded it comes again, and without a Route it finds its way only by the record."""

TELL_FLOWS = Script(
    """
local function seen(v)
  local a, b, c, d, e, f = string.byte(v, 3, 8)
  return ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
end
local told = {}
for i = 2, #ARGV, 2 do
  local name, new = ARGV[i], ARGV[i + 1]
  local v = redis.call('HGET', KEYS[1], name)
  if not v or seen(v) <= seen(new) then
    if string.byte(new, 1) == 0 and string.byte(new, 2) == 0 then
      redis.call('HDEL', KEYS[1], name)
    else
      redis.call('HSET', KEYS[1], name, new)
    end
    told[#told + 1] = string.char(#name) .. name .. new
  end
end
if #told > 0 then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  local number = 1
  if last then number = tonumber(string.match(last[1], '%d+')) + 1 end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', number), 'f', table.concat(told))
end
return #told
"""
)
"""KEYS flows, log; ARGV length of the log, then name and value of each flow (`sipcore.flow`).

The later packet wins. What won is one entry of the log, whose ids are 1-0, 2-0, ...: a reader sees that it missed one.
-> how many won"""

SCRIPTS = (HEARTBEAT, LEASES, RELEASE, ADOPT, PUT, END, TELL_FLOWS)


class Keys:
    """Names of the keys of one SipCluster or MediaPool."""

    __slots__ = ("beats", "cdr", "flow_log", "flows", "index", "leases", "place", "prefix", "slots")

    def __init__(self, namespace: str, name: str) -> None:
        self.prefix = f"sf:{namespace}/{name}".encode()
        self.leases = self.prefix + b":leases"
        self.beats = self.prefix + b":beats"
        self.index = self.prefix + b":index"
        self.slots = self.prefix + b":slots"
        self.cdr = self.prefix + b":cdr"
        self.place = self.prefix + b":place"
        self.flows = self.prefix + b":flows"
        self.flow_log = self.prefix + b":flows:log"

    def early(self, early_id: bytes) -> bytes:
        return b"%b:early:%b" % (self.prefix, early_id)

    def dialog(self, dialog_key: bytes) -> bytes:
        return b"%b:dialog:%b" % (self.prefix, dialog_key.hex().encode())

    def cdr_guard(self, cdr_id: str) -> bytes:
        return b"%b:cdr:%b" % (self.prefix, cdr_id.encode())

    def sessions(self, pod: str) -> bytes:
        return b"%b:sessions:%b" % (self.prefix, pod.encode())


class StoreUrl(msgspec.Struct, frozen=True):
    """`redis://[:password@]host:port[/db]`, `unix:///path`, or `sentinel://[:password@]host:port[,host:port...]/NAME[?db=N]`
    where NAME is what the sentinels call the master."""

    host: str = ""
    port: int = 6379
    path: str = ""
    password: str = ""
    """Of the store; sentinels that ask for one get the same."""
    db: int = 0
    sentinels: tuple[tuple[str, int], ...] = ()
    """(host, port); a name may have several addresses, each a sentinel's."""
    master: str = ""

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Raises `ConfigError`, in which no password stands."""
        from urllib.parse import unquote, urlsplit

        try:
            if text.startswith("sentinel://"):
                return cls._sentinel(text.removeprefix("sentinel://"))
            url = urlsplit(text)
            if url.scheme == "unix" and url.path:
                return cls(path=url.path, password=unquote(url.password or ""))
            if url.scheme == "redis" and url.hostname:
                db = int(url.path.strip("/") or 0)
                return cls(url.hostname, url.port or 6379, "", unquote(url.password or ""), db)
        except ValueError:
            pass
        raise ConfigError(
            f"store: {without_password(text)!r} given, redis://[:password@]host:port[/db], "
            "sentinel://[:password@]host:port[,host:port...]/NAME[?db=N], unix:///path or none expected"
        )

    @classmethod
    def _sentinel(cls, text: str) -> StoreUrl:
        """Raises `ValueError`."""
        from urllib.parse import unquote, urlsplit

        authority, _, rest = text.partition("/")
        name, _, query = rest.partition("?")
        user, _, hosts = authority.rpartition("@")
        anybody, _, password = user.partition(":")
        if not name or "/" in name or anybody or not re.fullmatch(r"(db=\d{1,5})?", query):
            raise ValueError(text)
        sentinels = []
        for one in hosts.split(","):
            url = urlsplit(f"//{one}")
            if not url.hostname or url.path or url.username is not None:
                raise ValueError(one)
            sentinels.append((url.hostname, url.port or SENTINEL_PORT))
        return cls(
            password=unquote(password),
            db=int(query.removeprefix("db=") or 0),
            sentinels=tuple(sentinels),
            master=unquote(name),
        )


def without_password(url: str) -> str:
    """The URL as it may stand in a log."""
    return re.sub(r"//.*@", "//***@", url)


Answer = tuple[object, "list[Value] | None"]


class StoreReply(msgspec.Struct):
    """Event of a core: the answers to commands with this tag; None when the store is away."""

    tag: object
    replies: list[Value] | None


class StoreState(msgspec.Struct):
    """Event of a core: the store came, went, or is another (perhaps empty) one."""

    available: bool
    run_id: str = ""


class _Pending:
    __slots__ = ("count", "data", "replies", "tag")

    def __init__(self, tag: object, count: int, data: bytes) -> None:
        self.tag = tag
        self.count = count
        self.data = data
        self.replies: list[Value] = []


_HANDSHAKE = object()

_TAKES_NO_WRITES = frozenset(("READONLY", "NOREPLICAS", "MASTERDOWN", "MISCONF"))
"""Errors of a server that is a replica, a master cut off from its replicas, or one that cannot save."""


def _takes_no_writes(error: ErrorReply) -> bool:
    # Before Redis 7 a script wraps the error of its command: "ERR Error running script ... -READONLY You can't write".
    return error.code in _TAKES_NO_WRITES or "-READONLY " in str(error)


class StoreClient:
    """One pipelined connection: commands out, replies in, in order."""

    def __init__(self, url: StoreUrl | None = None, scripts: Sequence[Script] = SCRIPTS) -> None:
        self.available = False
        self.run_id = ""
        """`run_id` of the server, changes when the store is another (perhaps empty) one."""
        self.demoted = False
        """The server takes no writes: the edge ends the connection and looks for the master."""
        self.dropped = 0
        """Writes that were thrown away because the buffer was full."""
        self._url = url or StoreUrl()
        self._scripts = scripts
        self._out: list[bytes] = []
        self._flight: deque[_Pending] = deque()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._reader = Reader()
        self._connected = False

    def connected(self) -> None:
        """The socket is connected: send the handshake; `available` becomes true with its answer."""
        self._connected = True
        self.demoted = False
        self._reader = Reader()
        commands: list[Command] = []
        if self._url.password:
            commands.append((b"AUTH", self._url.password))
        if self._url.db:
            commands.append((b"SELECT", self._url.db))
        if self._url.sentinels:
            commands.append((b"ROLE",))
        commands += [(b"SCRIPT", b"LOAD", script.text) for script in self._scripts]
        commands.append((b"DEL", PROBE))
        commands.append((b"INFO", b"server"))
        self._put(commands, _HANDSHAKE)

    def send(self, commands: Sequence[Command], tag: object = None) -> bool:
        """Queue commands. With a tag the replies come out of `feed` (or None out of `lost`).

        False when the store is away: without a tag they wait for it, with a tag nothing is queued nor will be answered.
        """
        if self.available:
            self._put(commands, tag)
            return True
        if tag is None:
            self._wait(b"".join(map(pack, commands)))
        return False

    def take(self) -> bytes:
        """Bytes to write to the socket now."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def feed(self, data: bytes) -> list[Answer]:
        """Bytes from the socket -> answers of tagged commands.

        Raises `RespError` when the peer does not speak RESP, `ConfigError` when the store refuses the handshake; call
        `lost` then, and also when `demoted` is set: what was refused is then among what waits for the next connection.
        """
        self._reader.feed(data)
        answers: list[Answer] = []
        flight = self._flight
        for value in self._reader.replies():
            if not flight:
                continue
            if type(value) is ErrorReply and _takes_no_writes(value):
                self.demoted = True
                break
            pending = flight[0]
            pending.replies.append(value)
            if len(pending.replies) < pending.count:
                continue
            flight.popleft()
            if pending.tag is _HANDSHAKE:
                self._welcome(pending.replies)
            elif pending.tag is not None:
                answers.append((pending.tag, pending.replies))
        return answers

    def lost(self) -> list[Answer]:
        """The connection ended: what was waited for is answered with None, writes in flight wait for the next one."""
        self._connected = self.available = False
        self._out.clear()
        flight, self._flight = self._flight, deque()
        unsure = [p.data for p in flight if p.tag is None]
        for data in reversed(unsure):
            self._waiting.appendleft(data)
            self._waiting_bytes += len(data)
        self._trim()
        return [(p.tag, None) for p in flight if p.tag is not None and p.tag is not _HANDSHAKE]

    def _welcome(self, replies: list[Value]) -> None:
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise ConfigError(f"store: handshake refused: {reply}")
            if isinstance(reply, list) and reply[:1] != [b"master"]:
                raise ConfigError(f"store: role {reply[:1]!r} given, a master expected")
        info = replies[-1]
        text = info.decode("utf-8", "replace") if isinstance(info, bytes) else ""
        for line in text.splitlines():
            if line.startswith("run_id:"):
                self.run_id = line[7:].strip()
        self.available = True
        while self._waiting:
            data = self._waiting.popleft()
            self._out.append(data)
            self._flight.append(_Pending(None, _count(data), data))
        self._waiting_bytes = 0

    def _put(self, commands: Sequence[Command], tag: object) -> None:
        data = b"".join(map(pack, commands))
        self._out.append(data)
        self._flight.append(_Pending(tag, len(commands), data))

    def _wait(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._trim()

    def _trim(self) -> None:
        while self._waiting_bytes > MAX_WAITING_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft())
            self.dropped += 1


def _count(data: bytes) -> int:
    """How many commands a packed pipeline holds."""
    reader = Reader()
    reader.feed(data)
    return len(reader.replies())
