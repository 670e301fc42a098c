"""The published zone of a SipCluster (DESIGN 5, RFC 3263): what stands in DNS, whose it is, and how it gets there.

What belongs here: record sets and their ownership (`zone`, pure), a zone's primary server (`rfc2136`, `exchange`),
DNSEndpoint objects (`externaldns`, pure), and the three calls of a runtime (`publish`). What does not: who takes calls
(`sipfleet.plan.srv`), the Kubernetes API, Secrets other than the text in them (`tsig`).
"""

from .errors import DnsError, TsigError
from .publish import ZONES_ANNOTATION, Problem, Published, publish, published, unpublish, zones
from .tsig import Tsig

__all__ = [
    "ZONES_ANNOTATION",
    "DnsError",
    "Problem",
    "Published",
    "Tsig",
    "TsigError",
    "publish",
    "published",
    "unpublish",
    "zones",
]
