"""The declarative interface: the models of SipCluster and MediaPool (sipfleet.io/v1alpha1) and what is made of them.

What belongs here: what a manifest may say, how it is refused, the CRDs, and pure mappings to and from the planner's
types. What does not: sockets, processes, the Kubernetes API.
"""

from .common import API_VERSION, Autoscale, Exposure, ObjectMeta, Rollout, Store
from .errors import Fault, ManifestError
from .manifest import load_manifests, parse_manifests, validated
from .mediapool import Interface, MediaPool, MediaPoolSpec, Ports, Timeouts
from .report import remembered, report
from .sipcluster import Dns, ExternalDns, Listener, Rfc2136, Route, Routing, SecretRef, SipCluster, SipClusterSpec
from .status import MediaPoolStatus, SipClusterStatus
from .wanted import desired, revision, scaled

Resource = SipCluster | MediaPool
"""Any of the two kinds."""

__all__ = [
    "API_VERSION",
    "Autoscale",
    "Dns",
    "Exposure",
    "ExternalDns",
    "Fault",
    "Interface",
    "Listener",
    "ManifestError",
    "MediaPool",
    "MediaPoolSpec",
    "MediaPoolStatus",
    "ObjectMeta",
    "Ports",
    "Resource",
    "Rfc2136",
    "Rollout",
    "Route",
    "Routing",
    "SecretRef",
    "SipCluster",
    "SipClusterSpec",
    "SipClusterStatus",
    "Store",
    "Timeouts",
    "desired",
    "load_manifests",
    "parse_manifests",
    "remembered",
    "report",
    "revision",
    "scaled",
    "validated",
]
