"""The session description of one G.711 call (RFC 8866, RFC 3264): one audio line, PCMU and telephone events."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .message import Address, numeric

_CONNECTION = re.compile(rb"^c=IN IP[46] ([0-9A-Fa-f:.]+)", re.MULTILINE)
_AUDIO = re.compile(rb"^m=audio (\d{1,5})[ /]", re.MULTILINE)
_RTCP = re.compile(rb"^a=rtcp:(\d{1,5})(?: IN IP[46] ([0-9A-Fa-f:.]+))?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the other side wants its audio and its RTCP."""

    rtp: Address
    rtcp: Address | None


def describe(address: Address, session: int, version: int) -> bytes:
    """An offer or an answer for audio at `address`; RTCP is on the next port."""
    host, port = address
    family = "IP6" if ":" in host else "IP4"
    lines = (
        "v=0",
        f"o=- {session} {version} IN {family} {host}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def remote(body: bytes) -> Remote | None:
    """The other side's addresses, or None when the body offers no audio (absent, port 0, no address)."""
    audio = _AUDIO.search(body)
    if audio is None:
        return None
    end = body.find(b"\nm=", audio.end())
    section = body[audio.start() : end if end >= 0 else len(body)]
    connection = _CONNECTION.search(section) or _CONNECTION.search(body[: body.find(b"m=")])
    if connection is None:
        return None
    host = connection[1].decode()
    rtp = numeric(host, int(audio[1]))
    if rtp is None:
        return None
    found = _RTCP.search(section)
    rtcp = numeric(found[2].decode() if found[2] else host, int(found[1])) if found else numeric(host, rtp[1] + 1)
    return Remote(rtp, rtcp)
