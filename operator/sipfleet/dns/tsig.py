"""The key that signs queries and updates (RFC 8945), as a Kubernetes Secret holds it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.tsig

from .errors import TsigError

ALGORITHMS = {
    name: getattr(dns.tsig, name.replace("-", "_").upper())
    for name in ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha1", "hmac-md5")
}
DEFAULT_ALGORITHM = "hmac-sha256"


@dataclass(frozen=True, slots=True)
class Tsig:
    """Name, algorithm and secret of a key."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)

    @classmethod
    def of_secret(cls, data: Mapping[str, str]) -> Tsig:
        """The key in the `data` of a Secret, whose values are base64 as the API server gives them.

        Raises `TsigError`, which never repeats what is secret.
        """
        texts = {key: _decoded(data, key) for key in ("name", "secret") if key in data}
        missing = sorted({"name", "secret"} - texts.keys())
        if missing:
            raise TsigError(f"the Secret has no {' and no '.join(missing)}; it needs name, secret and algorithm")
        algorithm = _decoded(data, "algorithm") if "algorithm" in data else DEFAULT_ALGORITHM
        return cls.of_text(texts["name"], algorithm, texts["secret"])

    @classmethod
    def of_text(cls, name: str, algorithm: str, secret: str) -> Tsig:
        """The key as it stands in a server's configuration: the secret is base64.

        Raises `TsigError`.
        """
        kind = algorithm.lower().rstrip(".")
        if kind not in ALGORITHMS:
            raise TsigError(f"algorithm {kind[:40]!r} given, allowed: {', '.join(ALGORITHMS)}")
        try:
            key = base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            raise TsigError("the key secret is no base64 text; take it as it stands in the server's configuration")
        try:
            dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            raise TsigError(f"key name {name[:60]!r} given, allowed: a domain name, as in the server's key") from None
        return cls(name, kind, key)

    @property
    def key(self) -> dns.tsig.Key:
        """For dnspython."""
        return dns.tsig.Key(self.name, self.secret, ALGORITHMS[self.algorithm])


def _decoded(data: Mapping[str, str], key: str) -> str:
    try:
        return base64.b64decode(data[key], validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        raise TsigError(f"{key} of the Secret is not base64 of plain text") from None
