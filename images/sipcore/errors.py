"""The one exception family of sipcore: everything that is raised for bad input is a `SipcoreError`."""


class SipcoreError(ValueError):
    """Input that does not follow its format; the text says what was given, what was expected and where."""


class ConfigError(SipcoreError):
    """A configuration file that cannot be used; one line for each fault."""


class RecordVersionError(SipcoreError):
    """A record of a newer major version than this release reads."""


class RecordError(SipcoreError):
    """Bytes in the store that are no record of ours."""


class RespError(SipcoreError):
    """Bytes from the store that are not RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""


class SentinelError(SipcoreError):
    """A sentinel that does not say where the master is."""


class BencodeError(SipcoreError):
    """Bytes that are no bencode (BEP 3)."""


class NgError(SipcoreError):
    """A datagram that is no ng command or answer; `cookie` is empty when it cannot even be answered."""

    def __init__(self, reason: str, cookie: bytes) -> None:
        super().__init__(reason)
        self.cookie = cookie


class SdpError(SipcoreError):
    """A body that is no session description (RFC 8866)."""


class RtpError(SipcoreError):
    """A packet that is neither RTP nor RTCP (RFC 3550)."""
