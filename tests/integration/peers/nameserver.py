"""Primary name servers of a test's own: Knot and BIND, with the key and the zone settings that docs/dns.md shows."""

from __future__ import annotations

import contextlib
import re
import socket
import textwrap
from collections.abc import Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.zone

from tests.integration.peers.process import Peer

PAGE = Path(__file__).resolve().parents[3] / "docs" / "dns.md"
PORT = 5353
SECRET = "8Fu/BGkOHxWmzOXYzZZTJA2VAW4u15jCtbBk2bEAEd0="
"""Of the key `sipfleet` on the page, which may change the zone; a key `reader` with this secret may not."""

APEX = """
@ 3600 SOA ns1 hostmaster 1 3600 600 86400 60
@ 3600 NS ns1
ns1 3600 A {address}
"""
FOREIGN = """
@ 3600 MX 10 mail
@ 3600 TXT "v=spf1 mx -all"
@ 3600 A 192.0.2.80
mail 3600 A 192.0.2.25
www 3600 A 192.0.2.80
alias 3600 CNAME www
away 3600 NS ns.away
ns.away 3600 A 192.0.2.66
* 3600 A 192.0.2.99
* 3600 TXT "any name"
"""
"""What people have in their zones."""


def block(beginning: str) -> str:
    """The fenced block of the page that begins so."""
    found = re.findall(r"^( *)```\w*\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = (text for _, text in found if text.lstrip().startswith(beginning))
    return textwrap.dedent(text)


def free_port(address: str) -> int:
    """A port that is free for UDP and TCP."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((address, 0))
            port = int(udp.getsockname()[1])
            with contextlib.suppress(OSError):
                tcp.bind((address, port))
                return port


class NameServer(Peer):
    """A primary server of `zones`; the last of a zone's state is read by a transfer, which tests alone may ask for."""

    def __init__(self, argv: Sequence[str], work: Path, address: str, port: int, zones: dict[str, str]) -> None:
        self.address, self.port, self.zones = address, port, tuple(zones)
        for zone, text in zones.items():
            (work / f"{zone}.zone").write_text(APEX.format(address=address) + text)
        super().__init__(argv, work / f"{Path(argv[0]).name}.log", self._serves)

    def _serves(self) -> bool:
        return all(self._has(zone) for zone in self.zones)

    def _has(self, zone: str) -> bool:
        try:
            answer = dns.query.udp(dns.message.make_query(zone, "SOA"), self.address, 0.5, self.port)
        except (dns.exception.DNSException, OSError):
            return False
        return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer)

    def records(self, zone: str = "example.test") -> set[str]:
        """All records of a zone but the SOA, as `name TTL type data` with absolute names."""
        messages = dns.query.xfr(self.address, zone, port=self.port, source=self.address, relativize=False)
        transfer = dns.zone.from_xfr(messages, relativize=False)
        return {
            f"{name} {ttl} {dns.rdatatype.to_text(rdata.rdtype)} {rdata.to_text()}"
            for name, ttl, rdata in transfer.iterate_rdatas()
            if rdata.rdtype != dns.rdatatype.SOA
        }

    def serial(self, zone: str = "example.test") -> int:
        """Serial number of the SOA: every update counts it up."""
        answer = dns.query.udp(dns.message.make_query(zone, "SOA"), self.address, 2, self.port)
        return int(answer.answer[0][0].serial)


class Knot(NameServer):
    """knotd."""

    def __init__(self, work: Path, address: str, zones: dict[str, str]) -> None:
        page = block("key:")
        settings = page[page.index("zone:\n") :].removeprefix("zone:\n")
        settings = settings.replace("acl: sipfleet", "acl: [sipfleet, reader, dump]")
        reader = f"  - id: reader\n    algorithm: hmac-sha256\n    secret: {SECRET}\n"
        dump = f"  - id: dump\n    address: {address}\n    action: transfer\n"
        dump += "  - id: reader\n    key: reader\n    action: transfer\n"
        text = (
            f"server:\n    rundir: {work}\n    listen: {address}@{PORT}\n"
            f"log:\n  - target: stderr\n    any: info\ndatabase:\n    storage: {work}\n"
            + page[: page.index("acl:\n")].rstrip()
            + f"\n{reader}\n{page[page.index('acl:') : page.index('zone:')].rstrip()}\n{dump}\n"
            f"template:\n  - id: default\n    storage: {work}\nzone:\n"
            + "".join(settings.replace("example.test", zone) for zone in zones).replace(
                ": sipfleet", ": [sipfleet, dump]"
            )
        )
        (work / "knot.conf").write_text(text)
        super().__init__(["knotd", "-c", str(work / "knot.conf")], work, address, PORT, zones)


class Bind(NameServer):
    """named. It listens only at addresses that an interface has, so at 127.0.0.1, at a port that nobody uses."""

    def __init__(self, work: Path, address: str, zones: dict[str, str]) -> None:
        address, port = "127.0.0.1", free_port("127.0.0.1")
        page = block('key "sipfleet"')
        key, zone_block = page[: page.index('zone "')], page[page.index('zone "') :]
        text = (
            f'options {{\n directory "{work}"; pid-file "{work}/named.pid"; session-keyfile "{work}/session.key";\n'
            f' managed-keys-directory "{work}"; listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};\n'
            f" allow-transfer {{ {address}; }}; recursion no; dnssec-validation no; notify no;\n}};\ncontrols {{ }};\n"
            + key
            + key.replace('"sipfleet"', '"reader"')
            + "".join(zone_block.replace("example.test", zone) for zone in zones)
        )
        (work / "named.conf").write_text(text)
        super().__init__(["named", "-g", "-n", "1", "-c", str(work / "named.conf")], work, address, port, zones)
