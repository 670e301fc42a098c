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
