"""Targets that are gone send ICMP errors back to the proxy's listener; the listener goes on serving."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tests.integration.peers.probe import answers_options
from tests.integration.peers.process import Peer


def test_a_listener_serves_on_after_answers_to_closed_sockets(
    tmp_path: Path, loopback_address: Callable[[], str]
) -> None:
    """uvloop stops watching a descriptor for good when poll() reports an error on it."""
    address = (loopback_address(), 5060)
    config = tmp_path / "proxy.json"
    config.write_text(json.dumps({"listeners": [{"address": address[0]}], "domains": ["example.test"]}))
    argv = [sys.executable, "-m", "sipproxy", "--config", str(config)]
    with Peer(argv, tmp_path / "log", lambda: answers_options(address)):
        for turn in range(5):
            for number in range(3):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.bind((address[0], 0))
                    host, port = sock.getsockname()
                    sock.sendto(
                        f"OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{turn}{number}\r\n"
                        f"From: <sip:a@{host}>;tag=1\r\nTo: <sip:{host}>\r\nCall-ID: {turn}-{number}\r\n"
                        "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n".encode(),
                        address,
                    )
            assert answers_options(address, limit=2), f"deaf after turn {turn}"
