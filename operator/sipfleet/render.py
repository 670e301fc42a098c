"""From manifests to the configuration files of `sipproxy` and `rtprelay`: pure, and the same for both runtimes.

A pod runs what its revision says (capacity, ports, listeners, interfaces, pools) with what changes in place taken from
the manifest of today (domains, routes). Where a pod stands comes from the runtime, as a `Place`: of one pod, or of
all pods of a revision, with `${NAME}` where they differ (`sipcore.placeholders`; a dollar in a path is written `$$`).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sipcore.config import Listener, Media, Pod, ProxyConfig, RelayConfig, RelayTimeouts, Route
from sipfleet.api import MediaPool, SipCluster


@dataclass(frozen=True, slots=True)
class Place:
    """Where and who a pod is, or what the programs fill in for each pod of a revision."""

    pod: str
    uid: str
    """Of this process; without an ordinal the UID of the Kubernetes pod, in which processes follow one another."""
    ordinal: int | None
    """None: the file is for all pods of a revision, and each finds its ordinal at the end of its name."""
    revision: str
    address: str
    """The pod's own address."""
    address6: str = ""
    """Its IPv6 address, where media may use one."""
    shared: str | None = None
    """The address that all pods of the set receive on and send from, where there is one."""
    advertised: str = ""
    """What the world calls the pod or the cluster, when that is neither address."""
    admin_port: int = 9090
    hop_port: int = 5070
    ng_port: int = 2223
    store: str = "none"
    key_file: str = ""
    own_flows: bool = False
    """A proxy here can speak to a client only where that client's packets arrive (DESIGN 2.2)."""
    ask_targets: bool = False
    """A proxy that starts here asks the targets of its routes how they see it (DESIGN 6)."""
    translated: bool = False
    """The address that the world knows is translated on the way, so a relay here can only answer
    (docs/decisions/0007)."""
    slots_file: str = ""
    """Where a relay reads what the world calls its slot (docs/decisions/0007)."""

    def endpoint(self, port: int) -> str:
        """The pod's own address with a port. What is filled in later may be an IPv6 address: brackets fit both."""
        return f"[{self.address}]:{port}" if ":" in self.address or "$" in self.address else f"{self.address}:{port}"


def _pod(resource: SipCluster | MediaPool, place: Place) -> Pod:
    return Pod(
        namespace=resource.namespace,
        set=resource.name,
        name=place.pod,
        uid=place.uid if place.ordinal is not None else "",
        object_uid=place.uid if place.ordinal is None else "",
        ordinal=place.ordinal,
        revision=place.revision,
    )


def proxy_config(revision: SipCluster, today: SipCluster, place: Place) -> ProxyConfig:
    """Configuration of one proxy.

    `revision` is the manifest that the pod's revision was made of, `today` the newest one. With a shared address each
    listener is there twice: first on the shared address, which the world uses, then on the pod's own, where a probe
    reaches this pod and no other.
    """
    listeners = revision.spec.listeners
    shared = [
        Listener(name=one.name, address=place.shared, port=one.port, advertised=place.advertised)
        for one in listeners
        if place.shared
    ]
    advertised = place.advertised or place.shared or ""
    own = [
        Listener(name=f"{one.name}-pod" if shared else one.name, address=place.address, port=one.port)
        for one in listeners
    ]
    if not shared:
        for one in own:
            one.advertised = advertised
    return ProxyConfig(
        pod=_pod(revision, place),
        key_file=place.key_file,
        listeners=shared + own,
        internal=place.endpoint(place.hop_port),
        admin=place.endpoint(place.admin_port),
        store=place.store,
        domains=list(today.spec.domains),
        routes=[
            Route(
                name=route.name,
                domain=route.domain or "",
                prefix=route.prefix,
                targets=list(route.targets),
            )
            for route in today.spec.routing.routes
        ],
        media=Media(pools=list(revision.spec.media_pools)),
        capacity=revision.spec.capacity,
        flows=place.own_flows,
        ask_targets=place.ask_targets,
    )


def relay_config(revision: MediaPool, place: Place) -> RelayConfig:
    """Configuration of one relay; an interface has the families of the manifest that the place has addresses of.

    Of an address that is filled in later nobody knows the family: it stands once in each interface.
    """
    spec = revision.spec
    own = f"{place.address}!{place.advertised}" if place.advertised else place.address
    media = {"IPv4": own}
    if place.address6:
        media["IPv6"] = place.address6
    ports = spec.ports
    return RelayConfig(
        pod=_pod(revision, place),
        ng=place.endpoint(place.ng_port),
        interfaces=[
            f"{interface.name}/{text}"
            for interface in spec.interfaces
            for text in (
                [own] if "$" in place.address else [media[one] for one in interface.ip_families if one in media]
            )
        ],
        slots_file=place.slots_file,
        speak_first=not place.translated,
        ports=f"shared:{ports.count}@{ports.base}" if ports.mode == "shared" else f"{ports.min}-{ports.max}",
        admin=place.endpoint(place.admin_port),
        store=place.store,
        capacity=spec.capacity,
        timeouts=RelayTimeouts(
            rtp=float(spec.timeouts.rtp), silent=float(spec.timeouts.silent), final=float(spec.timeouts.final)
        ),
    )


def config_text(config: ProxyConfig | RelayConfig) -> str:
    """The content of the configuration file (JSON)."""
    return msgspec.json.format(msgspec.json.encode(config), indent=1).decode() + "\n"
