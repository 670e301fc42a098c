"""SIP URIs and name-addr values (RFC 3261 19.1, 20.10), as far as a proxy reads them: who, where, and nothing decoded.

Parsing is cached: a cluster sees the same targets again and again. The cache is bounded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

import msgspec

from sipcore.errors import SipcoreError

DEFAULT_PORT = 5060
CACHE = 8192

Address = tuple[str, int]

_SIP_URI = re.compile(
    rb"(?P<scheme>sips?):"
    rb"(?:(?P<user>[^@<>\s]*)@)?"
    rb"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)"
    rb"(?::(?P<port>[0-9]{1,5}))?"
    rb"(?P<params>(?:;[^?<>\s]*)?)"
    rb"(?P<headers>(?:\?[^<>\s]*)?)\Z",
    re.IGNORECASE,
)
_SCHEME = re.compile(rb"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_NAME_ADDR = re.compile(rb'(?:"(?:[^"\\]|\\.)*"\s*|[^<"]*)<([^<>]*)>(.*)\Z', re.DOTALL)


class UriError(SipcoreError):
    """A URI that cannot be read; `scheme` is true when it is only its scheme that nobody knows (416)."""

    def __init__(self, text: str, scheme: bool = False) -> None:
        super().__init__(text)
        self.scheme = scheme


class Uri(msgspec.Struct, frozen=True):
    """A sip or sips URI."""

    scheme: bytes
    """`sip` or `sips`."""
    user: bytes
    """As written, escapes included; empty when there is none."""
    host: bytes
    """In lower case, an IPv6 address in brackets."""
    port: int
    """0 when none is written."""
    params: bytes
    """With the leading semicolon, as written."""
    headers: bytes = b""
    """With the leading question mark."""

    @property
    def address(self) -> Address | None:
        """(ip, port) to send to when the host is an address, else None."""
        ip = ip_of(self.host)
        return (ip, self.port or DEFAULT_PORT) if ip else None

    def at(self, address: Address) -> bytes:
        """The same user and parameters at another place."""
        where = host_port(address)
        return b"%b:%b@%b%b" % (self.scheme, self.user, where, self.params) if self.user else b"sip:" + where


@lru_cache(CACHE)
def parse_uri(text: bytes) -> Uri:
    """Read a URI without brackets.

    Raises `UriError`.
    """
    match = _SIP_URI.match(text)
    if match is None:
        if _SCHEME.match(text) and not text[:5].lower().startswith((b"sip:", b"sips:")):
            raise UriError(f"URI: scheme of {_short(text)} given, sip or sips expected", scheme=True)
        raise UriError(f"URI: {_short(text)} given, sip:[user@]host[:port] expected")
    scheme, user, host, port, params, headers = match.groups()
    number = int(port or 0)
    if number > 65535:
        raise UriError(f"URI: port {number} given, 1 to 65535 expected")
    return Uri(scheme.lower(), user or b"", host.lower(), number, params, headers)


@lru_cache(CACHE)
def ip_of(host: bytes) -> str | None:
    """The text of an IP address, brackets taken off; None when the host is a name."""
    try:
        return str(ip_address(host.strip(b"[]").decode("ascii")))
    except ValueError:
        return None


@lru_cache(CACHE)
def host_port(address: Address) -> bytes:
    """(ip, port) as a sent-by or hostport: `ip:port` or `[ip6]:port`."""
    ip, port = address
    return (b"[%b]:%d" if ":" in ip else b"%b:%d") % (ip.encode(), port)


def name_addr(value: bytes) -> tuple[bytes, bytes]:
    """(URI, header parameters with the leading semicolon) of a From, To, Contact, Route or Record-Route value.

    Raises `UriError`. A URI without brackets ends at the first semicolon (RFC 3261 20.10).
    """
    match = _NAME_ADDR.match(value.strip())
    if match is not None:
        return match[1], match[2].strip()
    if b"<" in value or b'"' in value or b">" in value:
        raise UriError(f"name-addr: {_short(value)} given, [name] <URI> expected")
    uri, semicolon, params = value.strip().partition(b";")
    if b"?" in uri or b"," in uri:
        raise UriError(f"name-addr: {_short(value)} given, a URI with ? or comma stands in brackets")
    return uri.strip(), semicolon + params


def _short(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))
