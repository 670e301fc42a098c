"""What SipCluster and MediaPool have in common: where they are reached, how many pods, how pods are replaced, the
store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .fields import HTTP_URL, PERCENT, STORE_URL, VERSION, IpAddress, Label, Rule, Seconds, SpecModel, WireModel, whole

GROUP = "sipfleet.io"
VERSION_NAME = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION_NAME}"


class ObjectMeta(WireModel):
    """The part of Kubernetes' ObjectMeta that sipfleet reads; the rest passes by."""

    name: Label
    """Name of the resource; its pods are called `<name>-<ordinal>`."""
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)] = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    uid: str | None = None
    generation: int | None = None
    deletion_timestamp: datetime | None = None


class Exposure(SpecModel):
    """How the world reaches the pods."""

    type: Literal["auto", "clusterIP", "loadBalancer", "hostNetwork", "virtualIP"] = "auto"
    """`auto` takes what the place offers; `virtualIP` is one address that every pod can receive on and send from."""
    address: IpAddress | None = None
    """IPv4 or IPv6 address that the pods are reached at. Needed for `virtualIP`, a wish for `loadBalancer`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "address",
            "an address when type is virtualIP",
            "self.type != 'virtualIP' || has(self.address)",
            lambda m: m.type != "virtualIP" or m.address is not None,
        ),
        Rule(
            "address",
            "an address only when type is virtualIP or loadBalancer",
            "!has(self.address) || self.type in ['virtualIP', 'loadBalancer']",
            lambda m: m.address is None or m.type in ("virtualIP", "loadBalancer"),
        ),
    )


class ScaleUp(SpecModel):
    """How fast the count may grow."""

    pods: Annotated[int, whole(1, 100)] = 4
    """At most so many pods are added per period."""
    period: Seconds = 15
    """Length of the period in seconds."""


class ScaleDown(SpecModel):
    """How careful the count shrinks."""

    window: Annotated[int, whole(0, 86400)] = 300
    """Seconds: the count goes down to the highest count that was needed in this window."""


class Prometheus(SpecModel):
    """Where the number of calls of each pod is read."""

    url: Annotated[str, StringConstraints(pattern=HTTP_URL, max_length=300)]
    """A server that answers Prometheus' queries, such as `http://prometheus.monitoring:9090`. Credentials do not belong
    into a manifest."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    """PromQL that gives one sample per pod, with the pod's name in the label `pod`: dialogs or sessions now. Without
    it, what the pods of sipfleet say in `GET /metrics`."""


class Autoscale(SpecModel):
    """The number of pods follows the calls: a buffer of free capacity is kept."""

    min: Annotated[int, whole(1, 1000)]
    """Never fewer pods than this."""
    max: Annotated[int, whole(1, 1000)]
    """Never more pods than this (a surge pod of a roll comes on top)."""
    free_capacity: (
        Annotated[int, whole(0, 1000000)] | Annotated[str, StringConstraints(pattern=PERCENT, max_length=3)]
    ) = "20%"
    """The buffer: a number of dialogs or sessions such as 500, or a part of the whole capacity from "1%" to "99%"."""
    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()
    prometheus: Prometheus | None = None
    """The load comes from here; without it, from the leases of the pods. A pod without a fresh sample counts as
    unknown, and nothing is scaled down meanwhile."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("max", "max not less than min", "self.min <= self.max", lambda m: m.min <= m.max),
    )


class Rollout(SpecModel):
    """How pods are replaced when something changes that cannot change in place."""

    surge: Annotated[int, whole(0, 10)] = 1
    """Pods beyond `replicas` while a roll lasts. With 0 a slot is drained before anything new is seen to serve."""
    drain_timeout: Seconds = 10800
    """Seconds that a drain may take. No call outlives 10800 s, the final timeout of the relay."""
    drain_timeout_action: Literal["Wait", "Cut"] = "Wait"
    """At the drain timeout: `Wait` stops the step and says DrainBlocked, `Cut` ends the calls that are left."""
    migrate_after: Annotated[int, whole(0, 600)] | None = None
    """Seconds of draining after which media is moved to another relay instead of waited for (300 once moving is there;
    today every drain waits, and a value set here is answered with the reason MigrationNotAvailable)."""
    progress_deadline: Annotated[int, whole(1, 3600)] = 300
    """Seconds that a pod of a new revision may take until it serves; then the roll is stopped and put back."""


class ManagedStore(SpecModel):
    """A store that sipfleet runs itself."""


class Store(SpecModel):
    """Where dialogs, sessions and leases stand: a Redis-compatible server."""

    managed: ManagedStore | None = None
    """sipfleet runs the store."""
    url: (
        Annotated[
            str,
            StringConstraints(pattern=STORE_URL, max_length=300),
        ]
        | None
    ) = None
    """A server of your own, `redis://host:port/db`. Credentials do not belong into a manifest."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "",
            "exactly one of managed and url",
            "has(self.managed) != has(self.url)",
            lambda m: (m.managed is None) != (m.url is None),
        ),
    )


class SetSpec(SpecModel):
    """What both kinds say about their pods."""

    capacity: Annotated[int, whole(1, 100000)]
    replicas: Annotated[int, whole(0, 1000)] | None = None
    """A fixed number of pods. Exclusive with `autoscale`; there is no default."""
    autoscale: Autoscale | None = None
    """The number of pods follows the calls. Exclusive with `replicas`."""
    exposure: Exposure = Exposure()
    rollout: Rollout = Rollout()
    version: Annotated[str, StringConstraints(pattern=VERSION, min_length=1, max_length=63)] | None = None
    """The release that the pods run; without it, the one that the operator came with."""
    store: Store = Store(managed=ManagedStore())

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "replicas",
            "exactly one of replicas and autoscale",
            "has(self.replicas) != has(self.autoscale)",
            lambda m: (m.replicas is None) != (m.autoscale is None),
        ),
    )


class Resource(WireModel):
    """What every kind is: apiVersion, kind, metadata, spec, status. Fields beside these are refused."""

    model_config = ConfigDict(extra="forbid")

    api_version: Literal["sipfleet.io/v1alpha1"] = "sipfleet.io/v1alpha1"
    metadata: ObjectMeta

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, `default` where the manifest has none."""
        return self.metadata.namespace

    def to_wire(self) -> dict[str, Any]:
        """The manifest as it is stored or printed: camelCase, what is null left out."""
        return self.model_dump(mode="json", exclude_none=True)
