"""What is said to a server and what is believed of its answers; a fake stands at its socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import dns.tsig
import pytest

from sipfleet.dns import DnsError, Tsig
from sipfleet.dns.rfc2136 import LONGEST, Primary, absolute, batches, put_in
from sipfleet.dns.zone import Change, Found, Owner, decide
from sipfleet.plan import SrvRecord

KEY = Tsig.of_text("sipfleet", "hmac-sha256", "c2VjcmV0LXNlY3JldC1zZWNyZXQ=")
US = Owner("voice", "demo", "11111111-0000-4000-8000-000000000000")
Answer = Callable[[bytes], bytes | None]


class Fake(asyncio.DatagramProtocol):
    """A server that answers each datagram with what `answer` makes of it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)  # type: ignore[attr-defined]


def check_against(answer: Answer, key: Tsig | None = KEY) -> str:
    """Reason and message of what `Primary.check` says of such a server; empty when it believes it."""

    async def scene() -> str:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Fake(answer), local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        try:
            await Primary("127.0.0.1", port, "example.test.", key).check()
        except DnsError as error:
            return f"{error.reason}: {error}"
        finally:
            transport.close()
        return ""

    return asyncio.run(scene())


def good(query: bytes, signed: bool = True, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    """A right answer to the question for the SOA."""
    keyring = {KEY.key.name: KEY.key}
    asked = dns.message.from_wire(query, keyring=keyring if signed else False)
    answer = dns.message.make_response(asked)
    if not signed:
        answer.tsig, answer.keyring = None, None
    answer.flags |= dns.flags.AA
    answer.set_rcode(rcode)
    if rcode == dns.rcode.NOERROR:
        soa = "ns1.example.test. hostmaster.example.test. 1 2 3 4 5"
        answer.answer.append(dns.rrset.from_text("example.test.", 60, "IN", "SOA", soa))
    return answer.to_wire()


def test_a_signed_answer_with_authority_is_believed() -> None:
    assert check_against(good) == ""


def test_an_answer_that_nobody_signed_is_not_believed() -> None:
    told = check_against(lambda query: good(query, signed=False))
    assert told.startswith("BadAnswer: ")
    assert "not signed with key sipfleet (hmac-sha256)" in told


def test_an_unsigned_refusal_is_told_as_what_it_is() -> None:
    told = check_against(lambda query: good(query, signed=False, rcode=dns.rcode.REFUSED))
    assert told.startswith("Refused: ")
    assert "zone example.test.: REFUSED: the server's policy forbids it" in told


def test_a_forged_signature_is_not_believed() -> None:
    def forge(query: bytes) -> bytes:
        wire = bytearray(good(query))
        wire[40] ^= 1
        return bytes(wire)

    assert check_against(forge).startswith("BadAnswer: ")


def test_an_answer_to_another_question_is_not_believed() -> None:
    def other(query: bytes) -> bytes:
        return good(query, signed=False).replace(b"\x07example", b"\x07exampl3")

    told = check_against(other, key=None)
    assert told.startswith("BadAnswer: ")
    assert "an answer to another question" in told


def test_a_resolver_is_told_from_a_primary() -> None:
    def cached(query: bytes) -> bytes:
        wire = bytearray(good(query, signed=False))
        wire[2] &= 0xFB  # AA
        return bytes(wire)

    told = check_against(cached, key=None)
    assert told.startswith("NotAuthoritative: ")
    assert "name the zone's primary in spec.dns.rfc2136.server" in told


@pytest.mark.parametrize("seed", range(40))
def test_a_mangled_answer_is_a_dns_error_or_believed_only_with_its_signature(seed: int) -> None:
    dice = random.Random(seed)

    def mangle(query: bytes) -> bytes:
        wire = bytearray(good(query))
        for _ in range(dice.randint(1, 4)):
            wire[dice.randrange(3, len(wire))] = dice.randrange(256)
        return bytes(wire[: dice.randint(12, len(wire))])

    told = check_against(mangle)
    assert told.split(":")[0] in {
        *("BadAnswer", "BadKey", "BadSignature", "BadTime", "Refused", "NotAuth", "ServerFailure", "UpdateFailed"),
        *("Unreachable", "WrongZone", "NotAuthoritative"),
    }


def record(ordinal: int, domain: str) -> SrvRecord:
    return SrvRecord(f"_sip._udp.{domain}", f"demo-{ordinal}.{domain}", 5060, f"192.0.{ordinal // 250}.{ordinal % 250}")


def test_the_domains_of_a_zone_go_into_as_few_messages_as_they_surely_fit_into() -> None:
    wish = [record(pod, f"d{number}.example.test.") for number in range(60) for pod in range(6)]
    changes = decide(wish, Found(), US).changes
    packed = list(batches(changes))
    assert [change for batch in packed for change in batch] == list(changes)
    domains = [{change.domain for change in batch} for batch in packed]
    assert sum(map(len, domains)) == 60, "no domain in two messages"
    assert 1 < len(packed) < 6
    for batch in packed:
        message = dns.update.UpdateMessage(absolute("example.test."))
        put_in(message, batch)
        assert len(message.to_wire(max_size=LONGEST)) <= LONGEST


def test_an_update_deletes_only_record_sets_that_it_expects_to_find() -> None:
    found = Found({rrset.key: rrset for change in first() for rrset in change.after}, frozenset({"d.test."}))
    message = dns.update.UpdateMessage(absolute("test."))
    put_in(message, decide((record(1, "d.test."),), found, US).changes)
    expected = {(rrset.name, rrset.rdtype) for rrset in message.prerequisite if rrset.deleting is None}
    deleted = {(rrset.name, rrset.rdtype) for rrset in message.update if rrset.deleting is not None}
    assert deleted
    assert deleted <= expected
    assert all(rrset.rdtype != dns.rdatatype.ANY for rrset in message.update)


def first() -> tuple[Change, ...]:
    return decide((record(0, "d.test."),), Found(), US).changes
