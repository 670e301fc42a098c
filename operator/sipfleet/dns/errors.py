"""What goes wrong between us and a name server. `DnsError` is the one exception family of this package."""

from __future__ import annotations


class DnsError(Exception):
    """Records could not be read or published. `reason` is a CamelCase word for conditions and events."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TsigError(DnsError):
    """A Secret that holds no key. The message never repeats the secret."""

    def __init__(self, message: str) -> None:
        super().__init__("BadTsigSecret", message)


class BadNameError(DnsError):
    """A record that cannot be published under this name."""

    def __init__(self, message: str) -> None:
        super().__init__("BadName", message)


class ServerError(DnsError):
    """A name server refused, or did not answer: which server, which zone, what it said, and what to do about it."""

    def __init__(self, reason: str, server: str, zone: str, said: str, advice: str) -> None:
        super().__init__(reason, f"server {server}, zone {zone}: {said}: {advice}")


class ZoneChangedError(ServerError):
    """A prerequisite of an update did not hold (RFC 2136 3.2): somebody changed the zone since it was read."""

    def __init__(self, server: str, zone: str, rcode: str) -> None:
        super().__init__("ZoneChanges", server, zone, rcode, "another writer was faster each time; it is tried again")
