"""What is made with the cluster key: token, branch, dialog key and the MAC of the internal hop (docs/decisions/0002).

All of them are deterministic, so that any proxy that holds the key file makes and checks the same values.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct

import msgspec

from sipcore.errors import ConfigError

KEY_BYTES = 32
TOKEN_BYTES = 24
TOKEN_CHARS = 32
TOKEN_VERSION = 1
MAGIC_COOKIE = b"z9hG4bK"  # RFC 3261 8.1.1.7

_TOKEN = Struct("!B7sHHI8s")
_TOKEN_HEAD = Struct("!B7sHHI")
_TOKEN_CHARS = re.compile(rb"[A-Za-z0-9_-]{32}\Z")


class Token(msgspec.Struct, frozen=True):
    """The user part of our Record-Route URI (DESIGN 2.6)."""

    dialog_key: bytes
    """7 bytes; names a set of dialogs."""
    relay: int
    """Index of the relay at set-up, 0 = none."""
    owner: int
    """Index of the proxy that owned the dialog at set-up."""
    flow: int = 0
    """Reference of a flow in the store, 0 = any proxy may send."""
    side: int = 0
    """0: the caller's copy, or seen by both; 1: the callee's copy."""


class ClusterKey:
    """One key of the cluster, with its hashes prepared."""

    __slots__ = ("_branch", "_dialog", "_early", "_head", "_hop", "_token", "key_id")

    def __init__(self, key: bytes, key_id: int = 0) -> None:
        """`key` is 32 bytes, `key_id` 0 to 15.

        Raises `ConfigError` where it is not.
        """
        if len(key) != KEY_BYTES:
            raise ConfigError(f"cluster key: {len(key)} bytes given, {KEY_BYTES} expected (64 hex digits)")
        if not 0 <= key_id <= 15:
            raise ConfigError(f"cluster key id: {key_id} given, 0 to 15 allowed")
        self.key_id = key_id
        self._head = TOKEN_VERSION << 5 | key_id << 1
        self._branch = blake2b(key=key, digest_size=12, person=b"branch")
        self._early = blake2b(key=key, digest_size=12, person=b"early")
        self._dialog = blake2b(key=key, digest_size=7, person=b"dialog")
        self._token = blake2b(key=key, digest_size=8, person=b"token")
        self._hop = blake2b(key=key, digest_size=8, person=b"hop")

    @classmethod
    def parse(cls, text: str, key_id: int = 0) -> ClusterKey:
        """Read the content of a key file: 64 hex digits.

        Raises `ConfigError`.
        """
        try:
            key = bytes.fromhex(text.strip())
        except ValueError:
            raise ConfigError("cluster key: 64 hex digits expected") from None
        return cls(key, key_id)

    def branch(self, sent_by: bytes, branch: bytes, call_id: bytes, cseq: bytes, target: bytes) -> bytes:
        """The Via branch toward `target` of the request that came with this top Via (DESIGN 2.3)."""
        h = self._branch.copy()
        h.update(b"\0".join((sent_by, branch, call_id, cseq, target)))
        return MAGIC_COOKIE + h.hexdigest().encode()

    def early_id(self, sent_by: bytes, branch: bytes, call_id: bytes, cseq: bytes) -> bytes:
        """24 hex digits that name an INVITE by its caller's Via: the key of its early record."""
        h = self._early.copy()
        h.update(b"\0".join((sent_by, branch, call_id, cseq)))
        return h.hexdigest().encode()

    def dialog_key(self, call_id: bytes, tag: bytes) -> bytes:
        """7 bytes that name the dialogs of this Call-ID whose caller's tag is `tag`."""
        h = self._dialog.copy()
        h.update(call_id + b"\0" + tag)
        return h.digest()

    def token(self, token: Token, call_id: bytes, caller_tag: bytes) -> bytes:
        """32 characters for the user part of the Record-Route URI."""
        raw = _TOKEN_HEAD.pack(self._head | token.side, token.dialog_key, token.relay, token.owner, token.flow)
        h = self._token.copy()
        h.update(b"\0".join((raw, call_id, caller_tag)))
        return urlsafe_b64encode(raw + h.digest())

    def check_token(self, text: bytes, call_id: bytes, caller_tag: bytes) -> bool:
        """Whether the MAC of a token is right for this Call-ID and caller's tag."""
        raw = urlsafe_b64decode(text)
        h = self._token.copy()
        h.update(b"\0".join((raw[:16], call_id, caller_tag)))
        return compare_digest(h.digest(), raw[16:])

    def hop_mac(self, header: bytes, body: bytes) -> bytes:
        """8 bytes that prove that an internal hop comes from a proxy of this cluster."""
        h = self._hop.copy()
        h.update(header + b"\0" + body)
        return h.digest()


def parse_token(text: bytes) -> Token | None:
    """Take a token apart without proving it; None when it is somebody else's user part."""
    if not _TOKEN_CHARS.match(text):
        return None
    head, dialog_key, relay, owner, flow, _mac = _TOKEN.unpack(urlsafe_b64decode(text))
    if head >> 5 != TOKEN_VERSION:
        return None
    return Token(dialog_key, relay, owner, flow, head & 1)
