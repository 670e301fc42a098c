"""The same records as a DNSEndpoint object (externaldns.k8s.io/v1alpha1), which ExternalDNS publishes. Pure.

Marks and inventory are left out: ExternalDNS keeps a registry of its own, and two of them in one zone would each take
the other's TXT records for foreign ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sipfleet.api import SipCluster
from sipfleet.plan.types import SrvRecord

from .zone import RRset, rrsets, srv_records

API_VERSION = "externaldns.k8s.io/v1alpha1"
KIND = "DNSEndpoint"
TYPES = ("A", "AAAA", "SRV", "NAPTR")
"""What ExternalDNS has to be told to manage (`--managed-record-types`)."""


def dns_endpoint(cluster: SipCluster, records: Sequence[SrvRecord]) -> dict[str, Any]:
    """The manifest for server-side apply, owned by the cluster. Without records it has no endpoints, and ExternalDNS
    takes away what it published."""
    metadata: dict[str, Any] = {
        "name": cluster.name,
        "namespace": cluster.namespace,
        "labels": {
            "app.kubernetes.io/managed-by": "sipfleet",
            "sipfleet.io/set": cluster.name,
            "sipfleet.io/kind": cluster.kind,
        },
    }
    if cluster.metadata.uid is not None:
        owner = {"apiVersion": cluster.api_version, "kind": cluster.kind, "name": cluster.name}
        metadata["ownerReferences"] = [{**owner, "uid": cluster.metadata.uid, "controller": True}]
    endpoints = [_endpoint(rrset) for rrset in rrsets(records)]
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {"endpoints": endpoints}}


def published_by(endpoint: Mapping[str, Any] | None) -> tuple[SrvRecord, ...]:
    """The records that a DNSEndpoint object asks for, for `Observed.published`; None stands for no object.

    It says what ExternalDNS was asked to publish: the zone follows at the interval of ExternalDNS.
    """
    endpoints = ((endpoint or {}).get("spec") or {}).get("endpoints") or ()
    return srv_records(_rrset(entry) for entry in endpoints)


def _endpoint(rrset: RRset) -> dict[str, Any]:
    """Names without, names in targets with the final dot (RFC 2782, RFC 3403), which is what ExternalDNS checks for."""
    return {
        "dnsName": rrset.name.removesuffix("."),
        "recordType": rrset.type,
        "recordTTL": rrset.ttl,
        "targets": list(rrset.rdata),
    }


def _rrset(entry: Mapping[str, Any]) -> RRset:
    targets = tuple(sorted(entry.get("targets") or ()))
    return RRset(f"{entry['dnsName']}.", entry["recordType"], entry.get("recordTTL", 0), targets)
