"""The Services of a set (DESIGN 5, 6): one address for SIP, one for each media slot, and a headless one for DNS."""

from __future__ import annotations

from collections.abc import Iterable

from sipfleet.api import MediaPool, SipCluster
from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

from .meta import Object, head

TYPES = {"loadBalancer": "LoadBalancer", "clusterIP": "ClusterIP"}
"""Service type by what the exposure came to; on host network pods are reached without a Service."""


def sip_service_name(key: SetKey) -> str:
    return f"{key.name}-udp"


def slot_name(key: SetKey, ordinal: int) -> str:
    """A slot's Service and its pod have the same name."""
    return f"{key.name}-{ordinal}"


def slots_of(key: SetKey, made: Iterable[str]) -> set[str]:
    """Those of a set's Services that are of media slots."""
    return {name for name in made if name.rpartition("-")[0] == key.name and name.rpartition("-")[2].isdecimal()}


def headless_service(key: SetKey, uid: str, cluster: SipCluster | None) -> Object:
    """Names for pods and SRV records in the cluster. A cordoned pod is in no answer: its label `listed` is gone."""
    body = head("v1", "Service", key, uid, key.name)
    if cluster is not None:
        body["metadata"]["labels"][names.NAMES] = "srv"
    ports = [_udp(names.SIP_PORT_NAME, cluster.spec.listeners[0].port)] if cluster is not None else []
    body["spec"] = {
        "clusterIP": "None",
        "selector": {**names.selector(key), names.LISTED: "true"},
        "ports": ports or [_udp("ng", names.NG_PORT)],
    }
    return body


def sip_service(key: SetKey, uid: str, cluster: SipCluster, exposure: str) -> Object:
    """The address that the world sends SIP to; `exposure` is `loadBalancer` or `clusterIP`."""
    body = head("v1", "Service", key, uid, sip_service_name(key))
    ports = sorted({listener.port for listener in cluster.spec.listeners})
    body["spec"] = _spec(exposure, {**names.selector(key), names.TRAFFIC: "on"}, cluster.spec.exposure.address) | {
        "ports": [_udp(names.SIP_PORT_NAME if n == 0 else f"sip-{n}", port) for n, port in enumerate(ports)]
    }
    return body


def slot_service(key: SetKey, uid: str, pool: MediaPool, exposure: str, ordinal: int) -> Object:
    """The address of one media slot; it stays when the pod in the slot is another one."""
    name = slot_name(key, ordinal)
    body = head("v1", "Service", key, uid, name)
    ports = pool.spec.ports
    first, count = ports.base or 0, ports.count or 0
    selector = {**names.selector(key), names.TRAFFIC: "on", names.POD_NAME: name}
    body["spec"] = _spec(exposure, selector, None) | {
        # A pod that was told to end and still has calls counts as no endpoint otherwise, and a load balancer whose
        # health check asks the node would cut what is left.
        "publishNotReadyAddresses": True,
        "ports": [
            _udp(f"{kind}-{pair}", first + 2 * pair + odd)
            for pair in range(count)
            for odd, kind in enumerate(("rtp", "rtcp"))
        ],
    }
    return body


def _spec(exposure: str, selector: dict[str, str], address: str | None) -> Object:
    spec: Object = {"type": TYPES[exposure], "selector": selector, "internalTrafficPolicy": "Cluster"}
    if exposure == "loadBalancer":
        # The client's own source address has to arrive, and no second node may stand in between.
        spec |= {"externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": True}
        if address is not None:
            spec["loadBalancerIP"] = address
    return spec


def _udp(name: str, port: int) -> Object:
    return {"name": name, "protocol": "UDP", "port": port, "targetPort": port}


def address_of(service: Object | None, exposure: str) -> str | None:
    """The address that a Service was given; None while there is none."""
    if service is None:
        return None
    if exposure == "clusterIP":
        given = service.get("spec", {}).get("clusterIP")
        return given if given not in (None, "", "None") else None
    for ingress in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        if ingress.get("ip"):
            return str(ingress["ip"])
    return None
