"""A caller that finds a cluster as RFC 3263 4 and RFC 2782 say: NAPTR, then SRV, then addresses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import dns.rdatatype

from tests.integration.peers.nameserver import NameServer

SPOKEN = ("SIP+D2U",)


def ask(server: NameServer, name: str, kind: str) -> list[Any]:
    """The records of this name and type; each type of record has attributes of its own."""
    answer, _ = dns.query.udp_with_fallback(dns.message.make_query(name, kind), server.address, 2, server.port)
    wanted = dns.rdatatype.from_text(kind)
    return [rdata for rrset in answer.answer if rrset.rdtype == wanted for rdata in rrset]


def in_order(records: list[Any], dice: random.Random) -> Iterator[Any]:
    """SRV records in the order in which they are tried (RFC 2782, "Usage rules")."""
    left = sorted(records, key=lambda record: (record.priority, record.weight))
    while left:
        group = [record for record in left if record.priority == left[0].priority]
        draw = dice.randint(0, sum(record.weight for record in group))
        running = 0
        for record in group:
            running += record.weight
            if running >= draw:
                left.remove(record)
                yield record
                break


def locate(server: NameServer, domain: str, dice: random.Random) -> list[tuple[str, int]]:
    """Where a call to `domain` is tried, in this order."""
    offers = [record for record in ask(server, domain, "NAPTR") if record.service.decode() in SPOKEN]
    if not offers:
        return []
    best = min(offers, key=lambda record: (record.order, record.preference))
    return [
        (address.to_text(), record.port)
        for record in in_order(ask(server, best.replacement.to_text(), "SRV"), dice)
        for address in ask(server, record.target.to_text(), "A")
    ]
