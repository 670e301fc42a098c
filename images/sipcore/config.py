"""Configuration files of `sipproxy` and `rtprelay` (docs/decisions/0003): TOML or JSON, read into structs.

A fault is told with its path. Text and environment are passed in; reading them is the edge's. Durations are seconds.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

import msgspec

from sipcore.errors import ConfigError
from sipcore.placeholders import fill

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

URLS = frozenset(("$.store",))
"""Fields in which `sipcore.placeholders` encodes what it fills in."""

_LAST_NUMBER = re.compile(r"-(\d{1,9})\Z")


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A field that nobody knows is a fault, not a comment.

    Defaults are not written: a program of an earlier release, which refuses fields that it does not know, reads a file
    that a newer operator wrote for it.
    """


class Pod(_Strict, kw_only=True):
    """Who this program is."""

    namespace: str = "default"
    set: str = "standalone"
    """Name of the SipCluster or MediaPool."""
    name: str = "standalone-0"
    uid: str = ""
    """Of this process alone: whoever starts processes one by one gives each its own. Empty: made at start."""
    object_uid: str = ""
    """`metadata.uid` of the Kubernetes pod, the same for every process that runs in it, one after another."""
    ordinal: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Left out: what stands in `name`; read it as `slot`."""
    revision: str = ""

    @property
    def slot(self) -> int:
        """The pod's place in its set: `ordinal`, else the number at the end of `name` (`media-3`), else 0."""
        if self.ordinal is not None:
            return self.ordinal
        found = _LAST_NUMBER.search(self.name)
        return int(found[1]) if found else 0

    def incarnation(self, random: bytes) -> str:
        """The UID of a process of this pod: `uid`, else made of 8 random bytes.

        With an `object_uid` it is `<object uid>.<8 hex digits>`: a container that is restarted in place is another
        incarnation, and two incarnations never share a lease (DESIGN 2.7).
        """
        return self.uid or (f"{self.object_uid}.{random[:4].hex()}" if self.object_uid else random.hex())


class Listener(_Strict, kw_only=True):
    """An address where SIP arrives and from where it leaves."""

    name: str = "udp"
    transport: Literal["UDP"] = "UDP"
    address: str
    port: Port = 5060
    advertised: str = ""
    """`host` or `host:port` for Via and Record-Route when it is not the address itself."""


class Route(_Strict, kw_only=True):
    """A static route: requests for `domain` whose user begins with `prefix` go to the first target that answers."""

    name: str = ""
    domain: str = ""
    """Empty: every domain of ours."""
    prefix: str = ""
    targets: Annotated[list[str], msgspec.Meta(min_length=1)]
    """SIP URIs with IP address (and port, 5060 when it is left out)."""


class ProxyTimers(_Strict, kw_only=True):
    """RFC 3261 table 4 and FEATURES SIP-04."""

    t1: Seconds = 0.5
    t2: Seconds = 4.0
    t4: Seconds = 5.0
    fr: Seconds = 30.0
    """No response at all to an INVITE from a target (timer B where it is shorter)."""
    c: Seconds = 180.0
    """RFC 3261 16.6 step 11: no final response."""


class Media(_Strict, kw_only=True):
    """Where media relays are; neither pools nor relays: SDP passes untouched."""

    pools: list[str] = []
    """MediaPools in order; their relays are known by their leases."""
    relays: list[str] = []
    """ng addresses `ip:port` of relays without a lease (a real rtpengine, or no store)."""


class ProxyConfig(_Strict, kw_only=True):
    """`sipproxy --config FILE`."""

    pod: Pod = msgspec.field(default_factory=Pod)
    key_file: str = ""
    """64 hex digits, shared by all proxies of the cluster; empty: a key of this process alone."""
    listeners: Annotated[list[Listener], msgspec.Meta(min_length=1)]
    internal: str = ""
    """`ip:port` of the hop between proxies; empty: none."""
    admin: str = ""
    """`ip:port` of the admin port; empty: none."""
    store: str = "none"
    """`redis://...`, `sentinel://...`, `unix://...` or `none`."""
    domains: list[str] = []
    routes: list[Route] = []
    media: Media = msgspec.field(default_factory=Media)
    capacity: Positive = 5000
    """Dialogs."""
    flows: bool = False
    """Whether only the proxy where a client's packets arrive can speak to it, as under a Service (docs/decisions/0007).
    Needs `store` and `internal`. Listeners that are `advertised` then have another socket beside them."""
    ask_targets: bool = False
    """Whether a proxy that starts asks the targets of its routes, by OPTIONS, under which address they see it. Needs
    `store`, in which it says so."""
    timers: ProxyTimers = msgspec.field(default_factory=ProxyTimers)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class RelayTimeouts(_Strict, kw_only=True):
    """FEATURES RTP-04."""

    rtp: Seconds = 60.0
    silent: Seconds = 3600.0
    """A leg on hold or muted."""
    final: Seconds = 10800.0


class RelayConfig(_Strict, kw_only=True):
    """`rtprelay --config FILE`; the flags of the command line set the same."""

    pod: Pod = msgspec.field(default_factory=Pod)
    ng: str = "127.0.0.1:2223"
    interfaces: Annotated[list[str], msgspec.Meta(min_length=1)]
    """`[NAME/]ADDRESS[!ADVERTISED]`."""
    slots_file: str = ""
    """JSON `{"0": "198.51.100.7"}`: what the world calls the first interface, by the pod's slot. The relay waits until
    its slot is in it. Empty: as `interfaces` says."""
    ports: str = "30000-40000"
    """`FIRST-LAST` or `shared:COUNT@FIRST`."""
    speak_first: bool = True
    """False behind a Service: for up to 2 s nothing is sent to a party that has not sent yet."""
    admin: str = ""
    store: str = "none"
    capacity: Positive = 5000
    """Sessions."""
    timeouts: RelayTimeouts = msgspec.field(default_factory=RelayTimeouts)
    tos: Annotated[int, msgspec.Meta(ge=0, le=255)] = 184
    log_level: Literal["debug", "info", "warning", "error"] = "info"


C = TypeVar("C", ProxyConfig, RelayConfig)


def parse_config(text: str, suffix: str, kind: type[C], environ: Mapping[str, str] = MappingProxyType({})) -> C:
    """Read a configuration text; `suffix` is `.toml` or `.json`, `environ` is what `${NAME}` is filled in from.

    Raises `ConfigError` with the path of the field, what was given and what is allowed.
    """
    try:
        if suffix == ".toml":
            raw: object = tomllib.loads(text)
        elif suffix == ".json":
            raw = json.loads(text)
        else:
            raise ConfigError(f"configuration file: suffix {suffix!r} given, .toml or .json expected")
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"configuration file: {error}") from None
    try:
        config = msgspec.convert(fill(raw, environ, URLS), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from None
    if config.pod.uid and config.pod.object_uid:
        raise ConfigError("configuration: $.pod: uid and object_uid given, at most one of the two expected")
    return config


def endpoint(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`ip:port` or `[ip]:port` -> (ip, port). An IPv6 address needs the brackets, an IPv4 address may have them.

    Raises `ConfigError`.
    """
    from ipaddress import ip_address

    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if (not colon or (":" in host and not host.startswith("["))) and default_port is not None:
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    try:
        if not 0 <= int(port) <= 65535:
            raise ValueError
        return str(ip_address(host)), int(port)
    except ValueError:
        raise ConfigError(f"address: {text!r} given, ip:port or [ip6]:port expected") from None
