"""What a set's proxies have seen of the world, as conditions (DESIGN 6): `EgressAddress` and `SourceAddressPreserved`.

A proxy asks the targets of its routes when it starts, and looks at each new call: its lease says under which addresses
targets see it, and which addresses requests come from. Targets and callers inside the pod network prove nothing of what
is outside. Pure: nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from sipcore.record import Lease
from sipfleet.kubernetes.client import Object
from sipfleet.plan import Probe

Network = IPv4Network | IPv6Network
EGRESS, SOURCE = "EgressAddress", "SourceAddressPreserved"


@dataclass(frozen=True, slots=True)
class Seen:
    """A proxy, what it is called where, and what it says."""

    address: str
    """The pod's own."""
    advertised: str
    """What the world is told."""
    lease: Lease


@dataclass(frozen=True, slots=True)
class Ground:
    """What belongs to the cluster."""

    nodes: Collection[str]
    """Addresses of nodes."""
    pod_networks: Collection[Network]
    """As far as nodes name theirs."""

    @classmethod
    def of(cls, nodes: Iterable[Object]) -> Ground:
        """`nodes` as `observe.slim_node` keeps them."""
        addresses: set[str] = set()
        networks: set[Network] = set()
        for node in nodes:
            addresses.update(one["address"] for one in node["status"]["addresses"])
            networks.update(ip_network(one, strict=False) for one in node["spec"].get("podCIDRs") or ())
        return cls(addresses, networks)

    def inside(self, address: str) -> bool:
        """Whether it is of the pod network."""
        ip = ip_address(address)
        return any(ip in network for network in self.pod_networks)


def probes(proxies: Sequence[Seen], ground: Ground) -> tuple[Probe, ...]:
    """Both conditions; one of which nothing is known is left out."""
    return tuple(one for one in (_egress(proxies), _source(proxies, ground)) if one is not None)


def _egress(proxies: Sequence[Seen]) -> Probe | None:
    same: set[str] = set()
    other: list[str] = []
    inside = False
    for proxy in proxies:
        for text in proxy.lease.seen_as:
            address = text.rpartition(":")[0].strip("[]")
            if address == proxy.advertised:
                same.add(address)
            elif address == proxy.address:
                inside = True
            else:
                other.append(f"{proxy.lease.pod} as {text} and not as {proxy.advertised}")
    if other:
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        return Probe(EGRESS, "False", "Differs", f"targets of routes see {min(other)}{more}")
    if same:
        return Probe(EGRESS, "True", "Same", f"targets of routes see {', '.join(sorted(same))}")
    if inside:
        return Probe(
            EGRESS, "Unknown", "PodAddress", "targets of routes see pods under their own addresses: none is outside"
        )
    return None


def _source(proxies: Sequence[Seen], ground: Ground) -> Probe | None:
    own: set[str] = set()
    nodes: set[str] = set()
    other = False
    for proxy in proxies:
        for address, is_own in proxy.lease.sources.items():
            if ground.inside(address):
                continue
            if is_own:
                own.add(address)
            elif address in ground.nodes:
                nodes.add(address)
            else:
                other = True
    if nodes:
        text = f"requests come from {min(nodes)}, a node, and not from the address of who sent them"
        return Probe(SOURCE, "False", "NodeAddress", text)
    if own:
        return Probe(SOURCE, "True", "Seen", "requests come from the addresses of who sends them")
    if other:
        text = "all callers so far are behind a NAT, or something before the pods translates"
        return Probe(SOURCE, "Unknown", "Translated", text)
    return None
