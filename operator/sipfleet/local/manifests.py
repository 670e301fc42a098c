"""What one machine can run: rules between manifests, and those that cannot change while a cluster runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sipfleet.api import Fault, ManifestError, MediaPool, Resource, SipCluster


def _fault(resource: Resource, path: str, given: object, allowed: str) -> Fault:
    return Fault("local", None, f"{resource.kind}/{resource.name}", path, str(given), allowed)


def check_fleet(present: Sequence[Resource], given: Sequence[Resource]) -> None:
    """Whether `given`, applied on top of `present`, can run as one cluster on this machine.

    Raises `ManifestError` with every reason against it.
    """
    replaced = {(r.kind, r.namespace, r.name) for r in given}
    everything = [r for r in present if (r.kind, r.namespace, r.name) not in replaced] + list(given)
    faults = list(_faults(everything))
    if not given:
        faults.append(Fault("local", None, "", "", "no manifest", "a SipCluster, a MediaPool or both"))
    if faults:
        raise ManifestError(faults)


def _faults(resources: Sequence[Resource]) -> Iterator[Fault]:
    clusters = [r for r in resources if isinstance(r, SipCluster)]
    pools = [r for r in resources if isinstance(r, MediaPool)]
    for extra in clusters[1:]:
        yield _fault(extra, "metadata.name", extra.name, f"one SipCluster at a time; {clusters[0].name} is it")
    names = {(p.namespace, p.name) for p in pools}
    for cluster in clusters:
        if (cluster.namespace, cluster.name) in names:
            yield _fault(cluster, "metadata.name", cluster.name, "a name that no MediaPool has (pods are called by it)")
        for number, name in enumerate(cluster.spec.media_pools):
            if (cluster.namespace, name) not in names:
                have = ", ".join(sorted(n for space, n in names if space == cluster.namespace)) or "none is given"
                yield _fault(cluster, f"spec.mediaPools[{number}]", name, f"MediaPools of its namespace: {have}")
    stores = {r.spec.store.url for r in resources}
    if len(stores) > 1:
        for resource in resources:
            yield _fault(
                resource, "spec.store", resource.spec.store.url or "managed", "the same store in all manifests"
            )
    for pool in pools:
        if pool.spec.exposure.address is not None:
            given = pool.spec.exposure.address
            yield _fault(pool, "spec.exposure.address", given, "none: each relay has an address of its own here")


def check_fixed(resources: Iterable[Resource], address: str | None, store: str | None) -> None:
    """Whether what cannot change while a cluster runs stays as it is: its SIP address and its store.

    Raises `ManifestError`.
    """
    faults = []
    for resource in resources:
        wanted = resource.spec.exposure.address
        if isinstance(resource, SipCluster) and wanted is not None and wanted != address:
            faults.append(_fault(resource, "spec.exposure.address", wanted, f"{address} until the next sipfleet up"))
        if resource.spec.store.url != store:
            allowed = f"{store or 'managed'} until the next sipfleet up"
            faults.append(_fault(resource, "spec.store", resource.spec.store.url or "managed", allowed))
    if faults:
        raise ManifestError(faults)


def unused(resource: Resource) -> tuple[str, str] | None:
    """Reason and message for what a manifest asks for and one machine does not do: it publishes into no zone, and knows
    the load from leases alone."""
    found = list(_unused(resource))
    return (found[0][0], "; ".join(text for _, text in found)) if found else None


def _unused(resource: Resource) -> Iterator[tuple[str, str]]:
    if isinstance(resource, SipCluster):
        dns = resource.spec.dns
        field = "rfc2136" if dns.rfc2136 is not None else "externalDNS" if dns.external_dns is not None else None
        if field is not None:
            told = "the local runtime only shows records (sipfleet get srv)"
            yield "DnsNotPublished", f"spec.dns.{field} is ignored: {told}"
    autoscale = resource.spec.autoscale
    if autoscale is not None and autoscale.prometheus is not None:
        yield "PrometheusNotRead", "spec.autoscale.prometheus is ignored: the local runtime knows the load from leases"
