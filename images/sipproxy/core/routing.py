"""Static routes: which targets a Request-URI goes to. Domain and longest prefix decide; there is no open relay."""

from __future__ import annotations

import msgspec

from sipcore.config import ProxyConfig, endpoint
from sipcore.errors import ConfigError
from sipcore.uri import Address, Uri, UriError, host_port, ip_of, parse_uri

CACHE = 8192


class Target(msgspec.Struct, frozen=True):
    """Where a request goes next, and what its Request-URI is then."""

    uri: bytes
    address: Address

    @property
    def text(self) -> bytes:
        """What a branch is made of (docs/decisions/0002)."""
        return self.uri + host_port(self.address)


class Refusal(msgspec.Struct, frozen=True):
    """No target: the status that the request gets."""

    status: int


class Router:
    """The routes of one configuration, with a bounded cache of what they decided."""

    def __init__(self, config: ProxyConfig, own: frozenset[Address]) -> None:
        """`own` are the addresses of our listeners, as sent and as advertised.

        Raises `ConfigError` with the path of what cannot be used.
        """
        self._own = own
        self._own_hosts = {ip for ip, _ in own}
        self._own_names = {
            listener.advertised.partition(":")[0].lower().encode()
            for listener in config.listeners
            if listener.advertised
        }
        self._routes: dict[bytes, list[tuple[bytes, list[Uri]]]] = {}
        """Domain (empty: any of ours) -> (prefix, targets), the longest prefix first."""
        for i, route in enumerate(config.routes):
            targets = [_target(text, f"$.routes[{i}].targets[{j}]") for j, text in enumerate(route.targets)]
            rows = self._routes.setdefault(_domain(route.domain), [])
            rows.append((route.prefix.encode(), targets))
        for rows in self._routes.values():
            rows.sort(key=lambda row: -len(row[0]))
        self.addresses = frozenset(
            target.address for rows in self._routes.values() for _, targets in rows for target in targets
        )
        """Of all targets."""
        self._domains = {_domain(d) for d in config.domains} | {d for d in self._routes if d}
        self._aims: dict[bytes, tuple[Target | None, bool]] = {}
        self._cache: dict[bytes, list[Target] | Refusal] = {}

    def aim(self, text: bytes) -> tuple[Target | None, bool]:
        """(where a Request-URI of a dialog points to, whether that is ourselves); no target: its host is a name.

        Raises `UriError`.
        """
        found = self._aims.get(text)
        if found is None:
            if len(self._aims) >= CACHE:
                self._aims.clear()
            uri = parse_uri(text)
            address = uri.address
            found = self._aims[text] = (None if address is None else Target(text, address), self.is_own(uri))
        return found

    def is_own(self, uri: Uri) -> bool:
        """Whether this URI names the cluster: one of its domains or addresses."""
        if uri.host in self._domains or uri.host in self._own_names:
            return True
        ip = ip_of(uri.host)
        return ip is not None and (ip, uri.port or 5060) in self._own

    def is_our_route(self, uri: Uri) -> bool:
        """Whether a Route value is one of ours (RFC 3261 16.4)."""
        ip = ip_of(uri.host)
        if ip is None:
            return uri.host in self._own_names or uri.host in self._domains
        return (ip, uri.port or 5060) in self._own

    def targets(self, uri: bytes) -> list[Target] | Refusal:
        """The targets of a Request-URI, in the order to try them.

        403: not a domain of ours. 404: no route. 416: no SIP URI. 400: not to be read.
        """
        found = self._cache.get(uri)
        if found is None:
            if len(self._cache) >= CACHE:
                self._cache.clear()
            found = self._cache[uri] = self._look_up(uri)
        return found

    def _look_up(self, text: bytes) -> list[Target] | Refusal:
        try:
            uri = parse_uri(text)
        except UriError as error:
            return Refusal(416 if error.scheme else 400)
        if uri.scheme == b"sips":
            return Refusal(416)
        if uri.headers:
            return Refusal(400)  # RFC 3261 table 1: no headers in a Request-URI
        if not self.is_own(uri):
            return Refusal(403)
        for domain in (uri.host, b""):
            for prefix, targets in self._routes.get(domain, ()):
                if uri.user.startswith(prefix):
                    return [_aimed(uri, target) for target in targets]
        return Refusal(404)


def _aimed(uri: Uri, target: Uri) -> Target:
    address = target.address
    assert address is not None
    if target.user:
        text = b"sip:%b@%b%b" % (target.user, host_port(address), target.params)
    else:
        text = Uri(b"sip", uri.user, b"", 0, uri.params).at(address)
    return Target(text, address)


def _domain(text: str) -> bytes:
    """A domain as `parse_uri` gives it: lower case, an IPv6 address in brackets."""
    raw = text.strip().lower().encode()
    return b"[%b]" % raw if b":" in raw and not raw.startswith(b"[") else raw


def _target(text: str, path: str) -> Uri:
    try:
        uri = parse_uri((text if text.lower().startswith(("sip:", "sips:")) else "sip:" + text).encode())
    except UriError as error:
        raise ConfigError(f"{error} - at `{path}`") from None
    if uri.address is None:
        raise ConfigError(f"target: {text!r} given, a SIP URI with an IP address expected - at `{path}`")
    return uri


def own_addresses(config: ProxyConfig) -> frozenset[Address]:
    """The addresses by which the cluster is known: those of its listeners and those that they advertise.

    Raises `ConfigError`.
    """
    own: set[Address] = set()
    for i, listener in enumerate(config.listeners):
        try:
            own.add(endpoint(listener.address, listener.port))
            if listener.advertised:
                own.add(endpoint(listener.advertised, listener.port))
        except ConfigError as error:
            if listener.advertised and ip_of(listener.advertised.partition(":")[0].encode()) is None:
                continue  # a name; it is compared as a name
            raise ConfigError(f"{error} - at `$.listeners[{i}]`") from None
    return frozenset(own)
