"""SipCluster: the SIP proxies, what they listen on, where they route to, and what DNS says of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from .common import Resource, SetSpec
from .fields import (
    HOST,
    OBJECT_NAME,
    PREFIX,
    SIP_TARGET,
    Domain,
    Label,
    Port,
    Rule,
    SpecModel,
    list_of,
    sip_target,
    unique,
    whole,
)
from .status import SipClusterStatus

Target = Annotated[str, StringConstraints(pattern=SIP_TARGET, max_length=80), AfterValidator(sip_target)]


class Listener(SpecModel):
    """One socket address that the cluster is reached at."""

    name: Label
    transport: Literal["UDP"] = "UDP"
    """The SIP transport."""
    port: Port = 5060


class Route(SpecModel):
    """Where requests for a domain and a prefix of the user part go."""

    name: Label
    domain: Domain | None = None
    """A domain of `spec.domains`; without it the route is for all of them."""
    prefix: Annotated[str, StringConstraints(pattern=PREFIX, max_length=32)] = ""
    """The user part begins with this; the longest prefix that fits wins."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=16)]
    """SIP URIs such as `sip:192.0.2.7:5060`, tried in this order."""


class Routing(SpecModel):
    """Where calls go. A change is loaded in place; no pod restarts."""

    routes: Annotated[tuple[Route, ...], Field(max_length=128, json_schema_extra=list_of(key="name"))] = ()
    """Static routes. What no route fits is refused; nothing is relayed for domains that are not the cluster's own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "routes",
            "routes with different names",
            None,
            lambda m: unique(route.name for route in m.routes),
        ),
        Rule(
            "routes",
            "at most one route per domain and prefix",
            "self.routes.all(a, self.routes.exists_one(b, b.prefix == a.prefix && "
            "(has(a.domain) ? has(b.domain) && b.domain == a.domain : !has(b.domain))))",
            lambda m: unique((route.domain, route.prefix) for route in m.routes),
        ),
    )


class SecretRef(SpecModel):
    """A Secret in the namespace of the resource."""

    name: Annotated[str, StringConstraints(pattern=OBJECT_NAME, min_length=1, max_length=253)]


class Rfc2136(SpecModel):
    """A primary name server that takes dynamic updates (RFC 2136)."""

    server: Annotated[str, StringConstraints(pattern=HOST, min_length=1, max_length=253)]
    """Name or address of the zone's primary server."""
    port: Port = 53
    """UDP and TCP port of it."""
    tsig_secret_ref: SecretRef | None = None
    """The key that signs queries and updates (RFC 8945): a Secret with `name`, `secret` (base64, as in the server's
    configuration) and `algorithm` (`hmac-sha256` where it is left out). Without it nothing is signed, and the server
    has to trust our address."""


class ExternalDns(SpecModel):
    """A DNSEndpoint object (externaldns.k8s.io/v1alpha1), which ExternalDNS publishes."""


class Dns(SpecModel):
    """The published records: NAPTR, SRV, and the addresses of their targets (RFC 3263)."""

    ttl: Annotated[int, whole(1, 3600)] = 30
    """Time to live of the records in seconds."""
    zone: Domain | None = None
    """The zone that all of `spec.domains` lie in. Without it each domain is a zone of its own."""
    rfc2136: Rfc2136 | None = None
    """Publish by dynamic updates of a name server. Exclusive with `externalDNS`."""
    external_dns: Annotated[ExternalDns | None, Field(alias="externalDNS")] = None
    """Publish through ExternalDNS. Exclusive with `rfc2136`; with neither, only the names inside the cluster exist."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "",
            "at most one of rfc2136 and externalDNS",
            "!(has(self.rfc2136) && has(self.externalDNS))",
            lambda m: m.rfc2136 is None or m.external_dns is None,
        ),
    )


class SipClusterSpec(SetSpec):
    """What a SipCluster is wanted to be."""

    domains: Annotated[tuple[Domain, ...], Field(min_length=1, max_length=64, json_schema_extra=list_of())]
    """SIP domains that the cluster serves; requests for other domains are refused (403)."""
    listeners: Annotated[
        tuple[Listener, ...], Field(min_length=1, max_length=8, json_schema_extra=list_of(key="name"))
    ] = (Listener(name="udp"),)
    """Socket addresses that the cluster is reached at."""
    routing: Routing = Routing()
    dns: Dns = Dns()
    media_pools: Annotated[tuple[Label, ...], Field(max_length=16, json_schema_extra=list_of())] = ()
    """MediaPools of the same namespace that carry the media, the first with room is taken. Without one, media goes
    directly between the callers."""
    capacity: Annotated[int, whole(1, 100000)] = 2000
    """Dialogs per pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "domains",
            "each domain once",
            None,
            lambda m: unique(m.domains),
        ),
        Rule(
            "mediaPools",
            "each MediaPool once",
            None,
            lambda m: unique(m.media_pools),
        ),
        Rule(
            "listeners",
            "listeners with different names",
            None,
            lambda m: unique(listener.name for listener in m.listeners),
        ),
        Rule(
            "listeners",
            "one listener per transport and port",
            "self.listeners.all(a, self.listeners.exists_one(b, b.transport == a.transport && b.port == a.port))",
            lambda m: unique((listener.transport, listener.port) for listener in m.listeners),
        ),
        Rule(
            "routing.routes",
            "routes for domains of spec.domains only (the cluster is no open relay)",
            "self.routing.routes.all(r, !has(r.domain) || r.domain in self.domains)",
            lambda m: all(route.domain is None or route.domain in m.domains for route in m.routing.routes),
        ),
        Rule(
            "dns.zone",
            "a zone that all of spec.domains lie in",
            "!has(self.dns.zone) || self.domains.all(d, d == self.dns.zone || d.endsWith('.' + self.dns.zone))",
            lambda m: m.dns.zone is None or all(f".{domain}".endswith(f".{m.dns.zone}") for domain in m.domains),
        ),
    )


class SipCluster(Resource):
    """A cluster of SIP proxies."""

    kind: Literal["SipCluster"] = "SipCluster"
    spec: SipClusterSpec
    status: SipClusterStatus = SipClusterStatus()
