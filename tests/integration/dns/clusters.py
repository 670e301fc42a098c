"""SipClusters that publish at a test's name server, and the records that the planner would give them."""

from __future__ import annotations

import uuid
from typing import Any

from sipfleet.api import SipCluster, validated
from sipfleet.dns import Tsig
from sipfleet.plan import SrvRecord
from tests.integration.peers.nameserver import SECRET, NameServer

KEY = Tsig.of_text("sipfleet", "hmac-sha256", SECRET)


def cluster(
    server: NameServer,
    name: str = "demo",
    domains: tuple[str, ...] = ("example.test",),
    zone: str | None = None,
    annotations: dict[str, str] | None = None,
    host: str | None = None,
) -> SipCluster:
    """A SipCluster as the API server gives it; its UID depends on its name."""
    rfc2136 = {"server": host or server.address, "port": server.port, "tsigSecretRef": {"name": "dns-key"}}
    dns: dict[str, Any] = {"rfc2136": rfc2136} | ({"zone": zone} if zone else {})
    uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    made = validated(
        {
            "apiVersion": "sipfleet.io/v1alpha1",
            "kind": "SipCluster",
            "metadata": {"name": name, "namespace": "voice", "uid": uid, "annotations": annotations or {}},
            "spec": {"replicas": 2, "domains": list(domains), "exposure": {"type": "hostNetwork"}, "dns": dns},
        }
    )
    assert isinstance(made, SipCluster)
    return made


def record(ordinal: int, weight: int = 100, name: str = "demo", domain: str = "example.test") -> SrvRecord:
    """The record of a pod that has an address of its own."""
    target = f"{name}-{ordinal}.{domain}."
    return SrvRecord(f"_sip._udp.{domain}.", target, 5060, f"198.51.100.{ordinal + 10}", weight=weight, ttl=30)
