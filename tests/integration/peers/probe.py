"""Whether a SIP element or an ng relay at an address answers."""

from __future__ import annotations

import socket
from pathlib import Path

Address = tuple[str, int]


def _ask(address: Address, request: bytes, limit: float) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(limit)
        try:
            sock.bind((address[0], 0))
            sock.connect(address)
            sock.send(request.replace(b"@@LOCAL@@", b"%s:%d" % (sock.getsockname()[0].encode(), sock.getsockname()[1])))
            return sock.recv(4096)
        except OSError:
            return b""


def answers_options(address: Address, limit: float = 0.2) -> bool:
    """Whether an OPTIONS gets any SIP response within `limit` seconds."""
    host, port = address
    request = (
        f"OPTIONS sip:{host}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP @@LOCAL@@;branch=z9hG4bKprobe;rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:probe@@@LOCAL@@>;tag=probe\r\nTo: <sip:{host}:{port}>\r\n"
        "Call-ID: probe-@@LOCAL@@\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    return _ask(address, request.encode(), limit).startswith(b"SIP/2.0 ")


def answers_ng(address: Address, limit: float = 0.2) -> bool:
    """Whether an ng ping gets its pong within `limit` seconds."""
    return _ask(address, b"probe d7:command4:pinge", limit) == b"probe d6:result4:ponge"


def is_bound(address: Address) -> bool:
    """Whether some process has a UDP socket on exactly this address (IPv4)."""
    wanted = f"{socket.inet_aton(address[0])[::-1].hex().upper()}:{address[1]:04X}"
    return any(line.split()[1] == wanted for line in Path("/proc/net/udp").read_text().splitlines()[1:])
