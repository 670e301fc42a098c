"""Debian's Kamailio as a stateful proxy that records its route: the check that a harness works with a proven peer."""

from __future__ import annotations

from pathlib import Path

from tests.integration.peers.probe import Address, answers_options
from tests.integration.peers.process import Peer


class Kamailio(Peer):
    """Kamailio on `address` (UDP) that routes by the request URI."""

    def __init__(self, work: Path, address: Address) -> None:
        argv = ["kamailio", "-DD", "-E", "-x", "fm", "-X", "fm", "-m", "256", "-w", str(work), "-Y", str(work)]
        argv += ["-l", f"udp:{address[0]}:{address[1]}", "-f", str(Path(__file__).with_name("kamailio.cfg"))]
        super().__init__(argv, work / "kamailio.log", lambda: answers_options(address))
