"""The exceptions of `sipfleet.local`: each says what was given, what was found and what to do next."""


class LocalError(Exception):
    """Anything that the local runtime refuses or could not do."""


class AlreadyRunningError(LocalError):
    """Another supervisor holds the state directory of this cluster."""


class NotRunningError(LocalError):
    """No supervisor answers on the socket of this cluster."""


class AddressError(LocalError):
    """An address cannot be used or handed out."""


class StoreServerError(LocalError):
    """The store cannot be started."""


class ReleaseError(LocalError):
    """A release cannot be installed or is not there."""


class RefusedError(LocalError):
    """The supervisor refused a request; `lines` are its reasons, one a line."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
