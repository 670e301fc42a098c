"""Calls made and judged from outside: `sipfleet call`, and what `sipfleet demo` and the tests count calls kept with.

It knows only the SIP address of a cluster and where its own callee listens. It shares no code with the proxy and the
relay, so that a fault of theirs cannot hide in the judge. `generator` is the front, `engine` the process that
carries the calls, `judge` the verdict, `results` what came of it.
"""

from .errors import CallsError, EngineError, MessageError, PlanError
from .generator import CallGenerator, CdrSource
from .judge import Limits
from .plan import CallPlan
from .results import CallResult, Event, Heard, Reason, Report, Status

__all__ = [
    "CallGenerator",
    "CallPlan",
    "CallResult",
    "CallsError",
    "CdrSource",
    "EngineError",
    "Event",
    "Heard",
    "Limits",
    "MessageError",
    "PlanError",
    "Reason",
    "Report",
    "Status",
]
