"""The exceptions of `sipfleet.calls`."""


class CallsError(Exception):
    """Anything that the call generator refuses or could not do."""


class MessageError(CallsError):
    """A datagram is not a SIP message, or lacks a header that RFC 3261 8.1.1 requires."""


class PlanError(CallsError):
    """A call plan cannot be carried out: says the setting, what was given and what is allowed."""


class EngineError(CallsError):
    """The process that carries the calls ended or did not answer."""
