"""What an exposure comes to on Kubernetes, and which manifests it cannot serve. Pure."""

from __future__ import annotations

from sipfleet.api import MediaPool, SipCluster

AUTO_WAIT = 20.0
"""Seconds that `auto` waits for a load balancer to give an address before it makes do with the cluster's own."""


def problem(resource: SipCluster | MediaPool) -> tuple[str, str] | None:
    """(reason, message) when this manifest cannot be followed on Kubernetes: the field, what was given, what is
    allowed."""
    spec = resource.spec
    if spec.exposure.type == "virtualIP":
        return (
            "ExposureNotSupported",
            "spec.exposure.type: 'virtualIP' given, one of auto, clusterIP, loadBalancer, hostNetwork expected",
        )
    if isinstance(resource, MediaPool) and spec.exposure.type != "hostNetwork" and resource.spec.ports.mode == "range":
        return (
            "PortsNotSupported",
            f"spec.ports.mode: 'range' given with exposure {spec.exposure.type}, shared expected (Services have no "
            "port ranges), or exposure hostNetwork",
        )
    return None


def resolve(wanted: str, remembered: str | None, has_address: bool, waited: float) -> str | None:
    """The exposure to use; None while `auto` still waits for an address. What was chosen once stays.

    `waited` is the seconds since the Service was made.
    """
    if wanted != "auto":
        return wanted
    if remembered:
        return remembered
    if has_address:
        return "loadBalancer"
    return "clusterIP" if waited >= AUTO_WAIT else None
