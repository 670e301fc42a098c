"""Session descriptions (RFC 8866) on bytes: what offer/answer needs is read, every other line passes as it stands.

`parse` gives a `Description` whose `__bytes__` is the body again. `rewrite` makes the description that a media relay
sends on: its own addresses, ports and o= line, no ICE, all else untouched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from sipcore.errors import SdpError

MAX_BYTES = 65_535
MAX_LINES = 2000
MAX_MEDIA = 32

DIRECTIONS = frozenset((b"sendrecv", b"sendonly", b"recvonly", b"inactive"))
"""RFC 8866 6.7."""

_IP4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}\Z")
_ICE = (b"candidate:", b"ice-", b"remote-candidates:", b"end-of-candidates")
"""RFC 8839 5: a relay that takes no part in ICE must not pass on what would lead around it."""


class Connection(msgspec.Struct, frozen=True):
    """A c= line, or the address of a=rtcp."""

    family: str
    """`IP4` or `IP6`."""
    address: str
    """As an operating system prints it: IPv6 lower-case and compressed."""

    @property
    def unspecified(self) -> bool:
        """0.0.0.0 or ::, hold as RFC 2543 B.5 had it."""
        return self.address in ("0.0.0.0", "::")

    def __bytes__(self) -> bytes:
        return f"IN {self.family} {self.address}".encode()


class Origin(msgspec.Struct, array_like=True):
    """What a relay owns of the o= line toward one side (RFC 8866 5.2)."""

    username: str
    session_id: int
    version: int


class Media(msgspec.Struct):
    """One m= line and the lines under it."""

    kind: bytes
    port: int
    protocol: bytes
    formats: list[bytes]
    lines: list[bytes]
    """Without m=."""
    connection: Connection | None = None
    """Of this media line alone."""
    direction: bytes = b""
    """Empty: that of the session."""
    rtcp_port: int = 0
    """RFC 3605; 0 = none given."""
    rtcp_connection: Connection | None = None
    rtcp_mux: bool = False
    """RFC 5761."""
    count: int = 1
    """`m=audio 5000/2`: how many ports."""

    @property
    def is_rtp(self) -> bool:
        return b"RTP/" in self.protocol

    @property
    def is_datagram(self) -> bool:
        """Whether it runs over UDP; TCP based media (RFC 4145) is not for a UDP relay."""
        return self.is_rtp or self.protocol.lower() in (b"udp", b"udptl") or self.protocol.startswith(b"UDP/")

    @property
    def payload_types(self) -> frozenset[int]:
        """RTP payload types of the m= line."""
        return frozenset(int(f) for f in self.formats if f.isdigit() and int(f) < 128) if self.is_rtp else frozenset()

    def __bytes__(self) -> bytes:
        ports = b"%d" % self.port if self.count == 1 else b"%d/%d" % (self.port, self.count)
        head = b"m=%b %b %b %b\r\n" % (self.kind, ports, self.protocol, b" ".join(self.formats))
        return head + b"".join(line + b"\r\n" for line in self.lines)


class Description(msgspec.Struct):
    """A session description."""

    lines: list[bytes]
    """Those before the first m=."""
    media: list[Media]
    connection: Connection | None = None
    direction: bytes = b"sendrecv"

    def endpoint(self, media: Media) -> tuple[str, int] | None:
        """Where this side wants its RTP; None for port 0."""
        connection = media.connection or self.connection
        return (connection.address, media.port) if media.port and connection else None

    def rtcp_endpoint(self, media: Media) -> tuple[str, int] | None:
        """Where this side wants its RTCP (RFC 3605, RFC 3550 11: the next port; the same with rtcp-mux)."""
        connection = media.connection or self.connection
        if not media.port or not connection:
            return None
        if media.rtcp_mux:
            return connection.address, media.port
        return (media.rtcp_connection or connection).address, media.rtcp_port or (media.port + 1) & 0xFFFF

    def media_direction(self, media: Media) -> bytes:
        return media.direction or self.direction

    def __bytes__(self) -> bytes:
        return b"".join(line + b"\r\n" for line in self.lines) + b"".join(map(bytes, self.media))


def parse(body: bytes) -> Description:
    """Read a session description; lines may end in CRLF or LF (RFC 8866 5).

    Raises `SdpError`.
    """
    if len(body) > MAX_BYTES:
        raise SdpError(f"SDP: {len(body)} bytes given, at most {MAX_BYTES} allowed")
    lines = [line.rstrip(b"\r") for line in body.strip().split(b"\n")]
    if len(lines) > MAX_LINES:
        raise SdpError(f"SDP: {len(lines)} lines given, at most {MAX_LINES} allowed")
    if lines[0] != b"v=0":
        raise SdpError(f"SDP: first line {lines[0][:40]!r} given, v=0 expected")
    description = Description([], [])
    media: Media | None = None
    into = description.lines
    for line in lines:
        if line[1:2] != b"=":
            if not line:
                continue
            raise SdpError(f"SDP: line {line[:40]!r} given, <type>=<value> expected")
        kind = line[0]
        if kind == 0x6D:  # m
            if len(description.media) >= MAX_MEDIA:
                raise SdpError(f"SDP: more than {MAX_MEDIA} media lines")
            media = _media(line)
            description.media.append(media)
            into = media.lines
            continue
        into.append(line)
        if kind == 0x61:  # a
            _attribute(line[2:], description, media)
        elif kind == 0x63:  # c
            connection = parse_connection(line[2:])
            if media is not None:
                media.connection = media.connection or connection
            else:
                description.connection = connection
    if not any(line.startswith(b"o=") for line in description.lines):
        raise SdpError("SDP: no o= line (RFC 8866 5.2)")
    for media in description.media:
        if media.port and not (media.connection or description.connection):
            raise SdpError(f"SDP: no c= line for m={media.kind.decode('ascii', 'replace')} (RFC 8866 5.7)")
    return description


def parse_connection(value: bytes) -> Connection:
    """Read `IN IP4 192.0.2.1` or `IN IP6 2001:db8::1`, TTL and count of multicast addresses left out.

    Raises `SdpError`; host names are refused: a relay sends to addresses.
    """
    parts = value.split()
    if len(parts) >= 3 and parts[0] == b"IN" and parts[1] in (b"IP4", b"IP6"):
        family = parts[1].decode()
        address = normal_address(parts[2].split(b"/", 1)[0].decode("ascii", "replace"), family)
        if address:
            return Connection(family, address)
    raise SdpError(f"SDP: address {value[:60]!r} given, IN IP4 or IN IP6 and an IP address expected")


def normal_address(text: str, family: str) -> str:
    """The address as an operating system prints it; empty when it is none of that family (`IP4` or `IP6`)."""
    if family == "IP4":
        return text if _IP4.match(text) else ""
    from ipaddress import IPv6Address

    try:
        return str(IPv6Address(text))
    except ValueError:
        return ""


def _media(line: bytes) -> Media:
    parts = line[2:].split()
    if len(parts) < 4:
        raise SdpError(f"SDP: {line[:60]!r} given, m=<media> <port> <proto> <fmt> ... expected")
    port, _, count = parts[1].partition(b"/")
    if not port.isdigit() or int(port) > 65535 or (count and not (count.isdigit() and 0 < int(count) <= 65535)):
        raise SdpError(f"SDP: port {parts[1][:20]!r} given, 0 to 65535 expected")
    return Media(parts[0], int(port), parts[2], parts[3:], [], count=int(count or 1))


def _attribute(attribute: bytes, description: Description, media: Media | None) -> None:
    if attribute in DIRECTIONS:
        if media is not None:
            media.direction = attribute
        else:
            description.direction = attribute
    elif media is None:
        return
    elif attribute == b"rtcp-mux":
        media.rtcp_mux = True
    elif attribute.startswith(b"rtcp:"):
        port, _, address = attribute[5:].strip().partition(b" ")
        if not port.isdigit() or int(port) > 65535:
            raise SdpError(f"SDP: a={attribute[:40]!r} given, a=rtcp:<port> [IN IP4 <address>] expected (RFC 3605)")
        media.rtcp_port = int(port)
        if address:
            media.rtcp_connection = parse_connection(address)


class MediaEdit(msgspec.Struct):
    """What a relay puts into one media line."""

    port: int
    """0: the line stays rejected."""
    rtcp_port: int = 0
    """0: no a=rtcp line is written."""
    rtcp_mux: bool = False
    protocol: bytes = b""
    """Empty: as it came."""


def rewrite(
    description: Description, origin: Origin, connection: Connection, edits: Sequence[MediaEdit | None]
) -> bytes:
    """The description as a relay sends it on; an edit of None leaves that media line as it is.

    c= lines of 0.0.0.0 stay (RFC 3264 8.4): the other side must see the hold.
    """
    out: list[bytes] = []
    for line in description.lines:
        if line.startswith(b"o="):
            out.append(
                f"o={origin.username} {origin.session_id} {origin.version} {bytes(connection).decode()}".encode()
            )
        elif line.startswith(b"c="):
            out.append(_connection_line(description.connection, connection))
        elif not _leads_around(line):
            out.append(line)
    for media, edit in zip(description.media, edits, strict=True):
        if edit is None:
            out.append(bytes(media)[:-2])
            continue
        protocol = edit.protocol or media.protocol
        out.append(b"m=%b %d %b %b" % (media.kind, edit.port, protocol, b" ".join(media.formats)))
        for line in media.lines:
            if line.startswith(b"c="):
                out.append(_connection_line(media.connection, connection))
            elif not _leads_around(line) and line != b"a=rtcp-mux" and not line.startswith(b"a=rtcp:"):
                out.append(line)
        if edit.port and edit.rtcp_port:
            out.append(b"a=rtcp:%d" % edit.rtcp_port)
        if edit.port and edit.rtcp_mux:
            out.append(b"a=rtcp-mux")
    out.append(b"")
    return b"\r\n".join(out)


def _connection_line(old: Connection | None, new: Connection) -> bytes:
    if old is not None and old.unspecified:
        return b"c=IN IP4 0.0.0.0" if new.family == "IP4" else b"c=IN IP6 ::"
    return b"c=" + bytes(new)


def _leads_around(line: bytes) -> bool:
    """ICE, and BUNDLE, which would put all media on one of our ports."""
    return line.startswith(b"a=") and (line.startswith(_ICE, 2) or line.startswith(b"a=group:BUNDLE"))
