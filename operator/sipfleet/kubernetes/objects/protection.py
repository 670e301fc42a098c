"""What keeps others from cutting calls: a disruption budget, and who may reach which port (DESIGN 4.6)."""

from __future__ import annotations

from sipfleet.api import MediaPool, SipCluster
from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

from .meta import Object, head


def disruption_budget(key: SetKey, uid: str) -> Object:
    """No pod that may carry calls is evicted. One that is cordoned and empty has lost its label and may go."""
    body = head("policy/v1", "PodDisruptionBudget", key, uid, key.name)
    body["spec"] = {
        "maxUnavailable": 0,
        "selector": {"matchLabels": {**names.selector(key), names.PROTECTED: "true"}},
    }
    return body


def network_policy(key: SetKey, uid: str, resource: SipCluster | MediaPool, operator_namespace: str) -> Object:
    """SIP and RTP from anywhere; hop and ng from proxies of this namespace and from the operator, which probes; the
    admin port from inside the cluster only."""
    body = head("networking.k8s.io/v1", "NetworkPolicy", key, uid, key.name)
    proxies = [{"podSelector": {"matchLabels": {names.APP_NAME: names.APPS["SipCluster"]}}}]
    operator = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator_namespace}}}]
    if isinstance(resource, SipCluster):
        world = [{"protocol": "UDP", "port": port} for port in sorted({one.port for one in resource.spec.listeners})]
        inner = [{"protocol": "UDP", "port": names.HOP_PORT}]
    else:
        ports = resource.spec.ports
        first, last = (
            (ports.min or 0, ports.max or 0)
            if ports.mode == "range"
            else (ports.base or 0, (ports.base or 0) + 2 * (ports.count or 0) - 1)
        )
        world = [{"protocol": "UDP", "port": first, "endPort": last}]
        inner = [{"protocol": "UDP", "port": names.NG_PORT}, {"protocol": "TCP", "port": names.NG_PORT}]
    body["spec"] = {
        "podSelector": {"matchLabels": names.selector(key)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": world},
            {"ports": inner, "from": proxies + operator},
            {"ports": [{"protocol": "TCP", "port": names.ADMIN_PORTS[key.kind]}], "from": [{"namespaceSelector": {}}]},
        ],
    }
    return body
