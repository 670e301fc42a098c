"""The SRV records of a SipCluster (DESIGN 5, RFC 3263 4.1, RFC 2782): who takes new calls, and how many.

A pod that is cordoned or drains is never among the `takers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .types import Desired, Observed, SlotObservation, SrvPolicy, SrvRecord

OWNERS = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}
FULL_WEIGHT = 100
WEIGHT_STEP = 15
"""A weight that would change by less keeps its value, so that not every call rewrites the zone."""


def shared_target(set_name: str, domain: str) -> str:
    """The name of the address that all pods share."""
    return f"{set_name}.{domain}."


def pod_target(set_name: str, ordinal: int, domain: str) -> str:
    """The name of a pod that has an address of its own."""
    return f"{set_name}-{ordinal}.{domain}."


def srv_records(desired: Desired, observed: Observed, takers: Sequence[SlotObservation]) -> tuple[SrvRecord, ...]:
    """The records to publish, sorted; `takers` are the pods that take new calls and will go on doing so."""
    policy = desired.srv
    if policy is None:
        return ()
    if policy.shared:
        return _of_shared_address(desired, policy, observed, bool(takers))
    weights = _weights(desired, observed, takers)
    return tuple(
        sorted(
            SrvRecord(
                name=f"{OWNERS[transport]}.{domain}.",
                target=pod_target(desired.name, slot.ordinal, domain),
                port=port,
                address=slot.address,
                weight=weights[slot.ordinal],
                ttl=policy.ttl,
            )
            for domain in policy.domains
            for transport, port in policy.services
            for slot in takers
            if slot.address is not None
        )
    )


def _of_shared_address(desired: Desired, policy: SrvPolicy, observed: Observed, taken: bool) -> tuple[SrvRecord, ...]:
    """One record per service. A moment without any pod that takes calls does not take the name away: a missing name is
    cached (RFC 2308), a missing answer is tried again."""
    wanted = not desired.deleting and (desired.autoscale is not None or bool(desired.replicas))
    if observed.address is None or not (taken or (wanted and observed.published)):
        return ()
    return tuple(
        sorted(
            SrvRecord(
                name=f"{OWNERS[transport]}.{domain}.",
                target=shared_target(desired.name, domain),
                port=port,
                address=observed.address,
                weight=FULL_WEIGHT,
                ttl=policy.ttl,
            )
            for domain in policy.domains
            for transport, port in policy.services
        )
    )


def _weights(desired: Desired, observed: Observed, takers: Sequence[SlotObservation]) -> dict[int, int]:
    """Free capacity in percent of the freest pod's, at least 1 (RFC 2782: weight 0 is hardly ever chosen)."""
    published = {record.target: record.weight for record in observed.published}
    free = {
        slot.ordinal: max(0, (slot.capacity or desired.capacity) - slot.active)
        for slot in takers
        if slot.active is not None
    }
    most = max(free.values(), default=0)
    weights = {}
    for slot in takers:
        names = (
            (pod_target(desired.name, slot.ordinal, domain) for domain in desired.srv.domains) if desired.srv else ()
        )
        standing = next((published[name] for name in names if name in published), None)
        exact = round(FULL_WEIGHT * free[slot.ordinal] / most) if most and slot.ordinal in free else None
        if exact is None or (standing is not None and abs(exact - standing) < WEIGHT_STEP):
            weights[slot.ordinal] = standing or FULL_WEIGHT
        else:
            weights[slot.ordinal] = max(1, exact)
    return weights


def named_pods(desired: Desired, records: Sequence[SrvRecord]) -> frozenset[int]:
    """Ordinals of the pods that these records name."""
    if desired.srv is None or desired.srv.shared:
        return frozenset()
    prefix = f"{desired.name}-"
    return frozenset(
        int(ordinal)
        for record in records
        if (ordinal := record.target.partition(".")[0].removeprefix(prefix)).isdecimal()
    )
