"""Where a SipCluster sends a call: its static routes, read as the proxy reads them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sipfleet.calls.message import Address, hop_of, hostport

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One of `spec.routing.routes`."""

    name: str
    domain: str
    """Empty: every domain of the cluster."""
    prefix: str
    targets: tuple[Address, ...]
    """In the order in which they are tried."""


def routes_of(cluster: Object) -> list[Route]:
    """The routes of a SipCluster as they stand in its manifest."""
    found = []
    for one in cluster["spec"].get("routing", {}).get("routes") or []:
        targets = tuple(address for text in one["targets"] if (address := hop_of(text)) is not None)
        found.append(Route(one["name"], one.get("domain") or "", one.get("prefix") or "", targets))
    return found


def route_for(routes: list[Route], user: str, domain: str) -> Route | None:
    """The route that a call to `sip:user@domain` takes: one of that very domain before one of all domains, the longest
    prefix first."""
    for wanted in (domain.lower(), ""):
        fitting = [one for one in routes if one.domain == wanted and user.startswith(one.prefix)]
        if fitting:
            return max(fitting, key=lambda one: len(one.prefix))
    return None


def target_through(routes: list[Route], domains: list[str], callee: Address) -> str | None:
    """A URI that the cluster sends to this callee first; None when no route does."""
    for one in routes:
        user, domain = f"{one.prefix}test", one.domain or domains[0]
        if one.targets and one.targets[0] == callee and route_for(routes, user, domain) is one:
            return f"sip:{user}@{domain}"
    return None


def objection(cluster: Object, target: str, callee: Address) -> str | None:
    """Why a call to `target` through this cluster would not reach the callee, and what to do; None: it would."""
    metadata = cluster["metadata"]
    user, _, host = target.removeprefix("sip:").partition(";")[0].partition("@")
    domain = host.partition(":")[0].lower()
    domains = cluster["spec"]["domains"]
    if domain not in domains:
        return f"{target}: the SipCluster does not serve {domain or 'a URI without user'}, but {', '.join(domains)}"
    routes = routes_of(cluster)
    route = route_for(routes, user, domain)
    if route is not None and route.targets and route.targets[0] == callee:
        return None
    if route is None:
        where = f"no route fits {target}"
    else:
        sent = ", then ".join(hostport(one) for one in route.targets)
        where = f"route {route.name} sends {target} to {sent}, and not to our callee at {hostport(callee)}"
    return f"{where}; add a route for test calls, which needs no restart:\n  {patch(metadata, cluster, callee)}"


def patch(metadata: Object, cluster: Object, callee: Address) -> str:
    """A command that adds a route of a prefix of its own."""
    route = f'{{"name":"sipfleet-call","prefix":"sipfleet-call","targets":["sip:{hostport(callee)}"]}}'
    if cluster["spec"].get("routing", {}).get("routes"):
        where, value = "/spec/routing/routes/-", route
    else:
        where, value = "/spec/routing", f'{{"routes":[{route}]}}'
    change = f'[{{"op":"add","path":"{where}","value":{value}}}]'
    return f"kubectl -n {metadata['namespace']} patch sipcluster {metadata['name']} --type=json -p '{change}'"
