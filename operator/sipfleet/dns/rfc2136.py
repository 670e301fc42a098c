"""A zone's primary server: plain queries and dynamic updates with prerequisites (RFC 2136), signed (RFC 8945).

What stands is asked from the primary itself, never from a resolver's cache. An update is one message: its prerequisites
say that everything it touches is still as it was read, so that of two writers at a time one is told to look again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import random
import socket
from collections.abc import Iterable, Iterator, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from .errors import BadNameError, ServerError, ZoneChangedError
from .exchange import exchange
from .tsig import Tsig
from .zone import ADDRESSES, MARK_TTL, Change, Decision, Key, Owner, RRset, entry

ANSWER_LIMIT = 2.0
"""Seconds that a server may take to answer one message."""
PAUSES = (0.2, 0.8)
"""Seconds before the second and the third try, with up to as much again at random."""
AT_ONCE = 16
"""Queries that are under way at the same time."""
MOST_ASKED = 128
"""Prerequisites of one message that only asks."""
LONGEST = 65535
"""Octets of one message over TCP."""

CHANGED = frozenset({dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET})
"""Rcodes of an update whose prerequisites do not hold."""
ADVICE = {
    dns.rcode.REFUSED: "the server's policy forbids it: allow this key to query and update the names in the zone",
    dns.rcode.NOTAUTH: "the server is not the primary of this zone, or wants a key: compare spec.dns.zone and "
    "spec.dns.rfc2136.server with its configuration, and set tsigSecretRef",
    dns.rcode.NOTZONE: "a name is outside the zone: compare spec.dns.zone with the server's zone",
    dns.rcode.NOTIMP: "the server does not take dynamic updates",
    dns.rcode.FORMERR: "the server does not understand the message; see its log",
    dns.rcode.SERVFAIL: "the server failed; see its log (is the zone loaded and its journal writable?)",
}
KEY_ERRORS: tuple[tuple[type[Exception], str, str, str], ...] = (
    (
        dns.tsig.PeerBadKey,
        "BadKey",
        "NOTAUTH (BADKEY)",
        "it does not know key {key}, or not for this in this zone: compare name and algorithm of the key in the Secret "
        "with the server's",
    ),
    (
        dns.tsig.PeerBadSignature,
        "BadSignature",
        "NOTAUTH (BADSIG)",
        "the secret of key {key} is another one there: compare the Secret with the server's key",
    ),
    (
        dns.tsig.PeerBadTime,
        "BadTime",
        "NOTAUTH (BADTIME)",
        "the clocks of the operator's node and of the server differ by more than 300 s: set them by NTP",
    ),
    (dns.tsig.PeerError, "BadSignature", "NOTAUTH", "it does not take the signature of key {key}"),
    (
        dns.tsig.BadTime,
        "BadTime",
        "an answer signed at another time",
        "the clocks of the operator's node and of the server differ by more than 300 s: set them by NTP",
    ),
    (
        dns.exception.DNSException,
        "BadAnswer",
        "an answer that is malformed or not signed with key {key}",
        "is this the server, and does it sign with this key?",
    ),
)


class Primary:
    """The server that a zone is changed at."""

    def __init__(self, host: str, port: int, zone: str, tsig: Tsig | None) -> None:
        """`host` is a name or an address, `zone` has the final dot."""
        self.zone = zone
        self._host, self._port, self._tsig = host, port, tsig
        self._addresses: list[str] = []
        self._slots = asyncio.Semaphore(AT_ONCE)

    @property
    def server(self) -> str:
        """As it is called in messages."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    async def check(self) -> None:
        """Whether the server is one of this very zone.

        Raises `ServerError`.
        """
        answer = await self._ask(self._query(self.zone, "SOA"))
        zone = absolute(self.zone)
        if answer.flags & dns.flags.AA:
            starts = [rrset.name for rrset in (*answer.answer, *answer.authority) if rrset.rdtype == dns.rdatatype.SOA]
            if zone in starts:
                return
            if starts:
                advice = f"set spec.dns.zone to {starts[0].to_text(omit_final_dot=True)}, where the domains lie"
                raise self._error("WrongZone", f"no zone of its own there, but a part of {starts[0]}", advice)
        advice = "name the zone's primary in spec.dns.rfc2136.server"
        raise self._error("NotAuthoritative", "not authoritative for the zone", advice)

    async def look_up(self, keys: Iterable[Key]) -> dict[Key, RRset]:
        """What stands under these names and types; a CNAME or the zone cut that is met is among it.

        Raises `ServerError`.
        """
        found: dict[Key, RRset] = {}
        async with _Group() as group:
            tasks = [group.create_task(self._look_up(key)) for key in sorted(set(keys))]
        for task in tasks:
            found |= task.result()
        return found

    async def _look_up(self, key: Key) -> dict[Key, RRset]:
        name, kind = key
        async with self._slots:
            answer = await self._ask(self._query(name, kind))
        if not answer.flags & dns.flags.AA:
            cut = next((rrset for rrset in answer.authority if rrset.rdtype == dns.rdatatype.NS), None)
            if cut is None:
                advice = "name the zone's primary in spec.dns.rfc2136.server"
                raise self._error("NotAuthoritative", f"not authoritative for {name}", advice)
            return {(name, "NS"): as_rrset(cut)}
        at = absolute(name)
        sets = [as_rrset(rrset) for rrset in answer.answer if rrset.name == at]
        return {rrset.key: rrset for rrset in sets if rrset.type in (kind, "CNAME")}

    async def absent(self, keys: Sequence[Key]) -> frozenset[Key]:
        """Those of these record sets that the server does not hold, whatever a wildcard makes it answer.

        Asked by updates that have prerequisites and nothing else (RFC 2136 2.4.3). Raises `ServerError`.
        """
        if len(keys) > MOST_ASKED:
            return await self.absent(keys[:MOST_ASKED]) | await self.absent(keys[MOST_ASKED:])
        message = dns.update.UpdateMessage(absolute(self.zone))
        for name, kind in keys:
            message.absent(absolute(name), kind)
        try:
            if keys:
                await self._ask(message)
        except ZoneChangedError:
            half = len(keys) // 2
            return await self.absent(keys[:half]) | await self.absent(keys[half:]) if half else frozenset()
        return frozenset(keys)

    async def update(self, decided: Decision, owner: Owner) -> None:
        """Carry a decision out: each domain in one message, all of it or none, and many domains in one where they fit.

        Raises `ZoneChangedError` when the zone is no longer as it was read, and `ServerError`.
        """
        inventory = absolute(owner.inventory(self.zone))
        message = dns.update.UpdateMessage(absolute(self.zone))
        for domain in decided.enlist:
            message.add(inventory, MARK_TTL, "TXT", entry(domain))
        for batch in batches(decided.changes):
            await self._change(batch, message)
            message = dns.update.UpdateMessage(absolute(self.zone))
        for domain in decided.delist:
            message.delete(inventory, "TXT", entry(domain))
        if message.update:
            await self._ask(message)

    async def _change(self, changes: Sequence[Change], message: dns.update.UpdateMessage) -> None:
        """Send the changes in this message, or in two where they do not fit into one."""
        first = list(message.update)
        put_in(message, changes)
        try:
            self._signed(message).to_wire(max_size=LONGEST)
        except dns.exception.TooBig:
            if len(changes) == 1:
                advice = "publish fewer pods under one name"
                raise self._error("TooBig", f"{changes[0].name} does not fit into a message", advice) from None
            half = len(changes) // 2
            for part in (changes[:half], changes[half:]):
                message = dns.update.UpdateMessage(absolute(self.zone))
                message.update = first
                await self._change(part, message)
                first = []
            return
        await self._ask(message)

    def _query(self, name: str, kind: str) -> dns.message.QueryMessage:
        message = dns.message.make_query(absolute(name), kind)
        message.flags &= ~dns.flags.RD
        return message

    def _signed(self, message: dns.message.Message) -> dns.message.Message:
        if self._tsig is not None:
            message.use_tsig(self._tsig.key)
        return message

    async def _ask(self, message: dns.message.Message) -> dns.message.Message:
        """The answer; what failed for a moment is tried three times.

        A repeated update is harmless: if it was carried out although nobody heard so, its prerequisites do not hold
        again, the zone is read anew, and there is nothing left to change.
        """
        for pause in PAUSES:
            try:
                return await self._ask_once(message)
            except ServerError as error:
                if error.reason not in ("Unreachable", "ServerFailure"):
                    raise
            await asyncio.sleep(pause * (1 + random.random()))
        return await self._ask_once(message)

    async def _ask_once(self, message: dns.message.Message) -> dns.message.Message:
        wire = self._signed(message).to_wire(max_size=LONGEST)
        said = "no address was tried"
        for address in await self._resolve():
            try:
                answer = await exchange(wire, address, self._port, ANSWER_LIMIT)
            except OSError as error:
                said = f"no answer within {ANSWER_LIMIT:g} s" if isinstance(error, TimeoutError) else str(error)
                continue
            self._addresses = [address]
            return self._read(message, answer)
        self._addresses = []
        raise self._error("Unreachable", said, "does it listen there, on UDP and TCP, and may the operator reach it?")

    async def _resolve(self) -> list[str]:
        if not self._addresses:
            loop = asyncio.get_running_loop()
            try:
                infos = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            except OSError as error:
                advice = "name the server in spec.dns.rfc2136.server by an address or a name that resolves"
                raise self._error("Unreachable", str(error), advice) from None
            self._addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        return self._addresses

    def _read(self, sent: dns.message.Message, wire: bytes) -> dns.message.Message:
        """The answer if it is a good one.

        Raises `ServerError`.
        """
        keyring = sent.keyring if sent.had_tsig else None
        try:
            answer = dns.message.from_wire(wire, keyring=keyring, request_mac=sent.mac)
            signed, code = answer.had_tsig, answer.rcode()
        except dns.exception.DNSException as error:
            code = dns.rcode.Rcode(wire[3] & 0xF)
            if code not in ADVICE or isinstance(error, dns.tsig.PeerError):
                raise self._key_error(error) from None
            raise self._refused(code) from None
        if not sent.is_response(answer):
            raise self._error("BadAnswer", "an answer to another question", "is this the server?")
        if self._tsig is not None and not signed and code not in ADVICE:
            raise self._key_error(None)
        if code in CHANGED:
            raise ZoneChangedError(self.server, self.zone, dns.rcode.to_text(code))
        if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise self._refused(code)
        return answer

    def _key_error(self, error: Exception | None) -> ServerError:
        key = f"{self._tsig.name} ({self._tsig.algorithm})" if self._tsig is not None else "(none is set)"
        _, reason, said, advice = next((row for row in KEY_ERRORS if isinstance(error, row[0])), KEY_ERRORS[-1])
        return self._error(reason, said.format(key=key), advice.format(key=key))

    def _refused(self, code: dns.rcode.Rcode) -> ServerError:
        reasons = {dns.rcode.REFUSED: "Refused", dns.rcode.NOTAUTH: "NotAuth", dns.rcode.SERVFAIL: "ServerFailure"}
        advice = ADVICE.get(code, "see the server's log")
        return self._error(reasons.get(code, "UpdateFailed"), dns.rcode.to_text(code), advice)

    def _error(self, reason: str, said: str, advice: str) -> ServerError:
        return ServerError(reason, self.server, self.zone, said, advice)


class _Group(asyncio.TaskGroup):
    """A group whose first failure is raised as it is."""

    async def __aexit__(self, *args: object) -> None:
        try:
            await super().__aexit__(*args)  # type: ignore[arg-type]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None


def batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Changes that go into one message: whole domains, as many as surely fit."""
    batch: list[Change] = []
    size = 0
    for _, group in itertools.groupby(changes, key=lambda change: change.domain):
        domain = list(group)
        added = sum(map(_octets, domain))
        if batch and size + added > LONGEST:
            yield batch
            batch, size = [], 0
        batch += domain
        size += added
    if batch:
        yield batch


def _octets(change: Change) -> int:
    """What a change takes in a message at most, names not compressed (RFC 1035 4.1)."""
    sets = (
        *change.present,
        *change.dropped,
        *change.put,
        *(RRset(name, kind, 0, ("",)) for name, kind in change.absent),
    )
    return sum(len(rrset.name) + len(text) + 12 for rrset in sets for text in rrset.rdata)


def put_in(message: dns.update.UpdateMessage, changes: Sequence[Change]) -> None:
    """Write prerequisites and updates of these changes into a message."""
    for change in changes:
        for rrset in change.present:
            message.present(absolute(rrset.name), rrset.type, *rrset.rdata)
        for name, kind in change.absent:
            message.absent(absolute(name), kind)
    for change in changes:
        for rrset in change.dropped:
            message.delete(absolute(rrset.name), rrset.type)
        for rrset in change.put:
            message.add(absolute(rrset.name), rrset.ttl, rrset.type, *rrset.rdata)


def absolute(name: str) -> dns.name.Name:
    """A name for dnspython.

    Raises `BadNameError`.
    """
    try:
        return dns.name.from_text(name)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise BadNameError(f"{name}: {error}") from None


def as_rrset(rrset: dns.rrset.RRset) -> RRset:
    """dnspython's record set as ours."""
    kind = dns.rdatatype.to_text(rrset.rdtype)
    texts = (rdata.to_text() for rdata in rrset)
    if kind in ADDRESSES:
        texts = (str(ipaddress.ip_address(text)) for text in texts)
    return RRset(rrset.name.to_text().lower(), kind, rrset.ttl, tuple(sorted(texts)))
