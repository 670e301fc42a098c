"""What the planner reads and what it says: plain frozen data, no behaviour beyond what a field means.

    plan(desired, observed, now) -> Plan(actions, status)

A *slot* is the place of a pod, with an ordinal; a *pod* is an incarnation in a slot, with a UID. All times are Unix
time in seconds (float), all durations seconds. `docs/decisions/0004-planner-and-runtimes.md` is the contract with the
runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Kind(StrEnum):
    """What the pods of a set are."""

    PROXY = "Proxy"
    RELAY = "Relay"


class Phase(StrEnum):
    """What the runtime knows about the process of a pod. Whether it serves calls is said by other fields."""

    PENDING = "Pending"
    """Being placed, fetched or started; no process yet."""
    UNSCHEDULABLE = "Unschedulable"
    """No place was found for it; `message` says why. The runtime goes on trying."""
    RUNNING = "Running"
    """The process is there."""
    FAILED = "Failed"
    """It does not come up: in back-off after repeated exits, or its image or release cannot be had. A first exit is
    not that: the runtime starts the process again at once and shows RUNNING (not ready) or PENDING meanwhile."""
    TERMINATING = "Terminating"
    """Told to end; it ends when it is empty. The planner leaves it alone and fills the slot when it is gone."""
    DEAD = "Dead"
    """Gone without the runtime bringing it back: its node is lost, or its process ended and nobody restarts it."""


class LeaseState(StrEnum):
    """What the store says of a pod's lease (DESIGN 2.7). LOST and NONE need an observer that had the same run of the
    store, writable, for a whole lease life; before that, and while the store is away, it is UNKNOWN."""

    ALIVE = "Alive"
    LOST = "Lost"
    """It had a lease and the lease ran out."""
    NONE = "None"
    """This incarnation never wrote one: it has not come up, so nobody can have given it a call."""
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class FreeCapacity:
    """The buffer of free capacity: `amount` dialogs or sessions, or `percent` of the capacity of all pods. One is
    None."""

    amount: int | None = None
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Autoscale:
    """How the number of pods follows the calls."""

    min: int
    max: int
    free_capacity: FreeCapacity
    down_window: float
    """Seconds: the count goes down to the highest recommendation of this window."""
    up_pods: int
    """At most so many pods are added ..."""
    up_period: float
    """... in so many seconds."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How pods are replaced."""

    surge: int
    """Pods beyond `replicas` while a roll or an eviction lasts; 0 means that a slot is drained before anything new is
    seen to serve."""
    drain_timeout: float
    """Seconds from the start of a drain until it counts as blocked."""
    cut: bool
    """At `drain_timeout`: True cuts the calls that are left (`drainTimeoutAction: Cut`), False waits on (`Wait`)."""
    progress_deadline: float
    """Seconds that a new pod may take until it serves; after that its revision counts as bad."""


@dataclass(frozen=True, slots=True)
class SrvPolicy:
    """What a SipCluster publishes in DNS (RFC 3263, RFC 2782)."""

    domains: tuple[str, ...]
    services: tuple[tuple[str, int], ...]
    """(transport, port) of each listener; transport is `UDP`, `TCP` or `TLS`."""
    shared: bool
    """True: one address for all pods (`Observed.address`). False: each pod has an address of its own."""
    ttl: int
    named_inside: bool = False
    """The runtime's own name service lists the pods too, until their drain begins; caches keep that for `ttl`."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What the user wants of one set. `sipfleet.api.desired` makes it of a resource."""

    kind: Kind
    name: str
    replicas: int | None
    """Manual count, or None: `autoscale` decides."""
    autoscale: Autoscale | None
    capacity: int
    """Dialogs or sessions per pod."""
    rollout: Rollout
    revision: str
    """Hash of everything whose change must replace pods (`sipfleet.api.revision`)."""
    version: str | None
    generation: int = 1
    deleting: bool = False
    """The resource is being deleted: drain all, then remove all."""
    srv: SrvPolicy | None = None
    accepted: bool = True
    """False: the manifest of today cannot be followed, this is the last good one."""
    accepted_reason: str = "Accepted"
    accepted_message: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a monitoring system says of one pod."""

    load: int | None
    """Dialogs or sessions now; None when it has no fresh sample of the pod."""


@dataclass(frozen=True, slots=True)
class SlotObservation:
    """One pod as a runtime sees it. A slot without a pod is not listed."""

    ordinal: int
    uid: str
    revision: str
    """Of the running pod, as it was created."""
    version: str | None = None
    """Package version from its lease."""
    phase: Phase = Phase.RUNNING
    ready: bool = False
    serving: bool = False
    """An OPTIONS or an RTP packet went through it at the last probe."""
    lease: LeaseState = LeaseState.UNKNOWN
    cordoned: bool = False
    draining: bool = False
    active: int | None = None
    """Dialogs (owned by a proxy) or sessions (of a relay, also those that stand in the store for the next incarnation
    of the slot)."""
    transactions: int | None = None
    capacity: int | None = None
    empty: bool = False
    """A proxy without open transaction or owned dialog, a relay without session: as its lease says; for a relay
    without a process, when the store holds no session of its slot."""
    address: str | None = None
    since: float = 0.0
    """Since when `phase`, `ready` and `serving` of this incarnation are what they are."""
    evict: bool = False
    """Its node is cordoned or tainted: it must leave although its revision is right."""
    message: str = ""
    """Why it is in this phase, for people."""
    named: float = 0.0
    """Unix time at which the runtime's own name service was last seen to name it, where that is watched."""
    measured: Measured | None = None
    """Takes the place of `active` where the number of pods is decided, and nowhere else. None: nobody was asked."""


@dataclass(frozen=True, slots=True, order=True)
class SrvRecord:
    """One SRV record (RFC 2782) with the address of its target."""

    name: str
    """Owner name, such as `_sip._udp.example.test.`"""
    target: str
    port: int
    address: str
    """What the A or AAAA record of `target` says."""
    priority: int = 0
    weight: int = 100
    ttl: int = 30


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as Kubernetes has them."""

    type: str
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str
    since: int
    """Unix time of the last change of `status`, whole seconds."""
    observed_generation: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A count that was recommended until `until`, when a lower one took its place."""

    until: float
    replicas: int


@dataclass(frozen=True, slots=True)
class DrainStart:
    """Since when the slot is being drained. A pod that dies meanwhile does not start the time anew."""

    ordinal: int
    uid: str
    since: float


@dataclass(frozen=True, slots=True)
class SetStatus:
    """All that the planner remembers; nothing else is kept between two calls. A runtime stores it *before* it carries
    out the actions that came with it."""

    replicas: int | None = None
    """The count that was decided; None before the first decision."""
    recommended: int | None = None
    recommendations: tuple[Recommendation, ...] = ()
    last_scale_time: float | None = None
    last_scale_up_time: float | None = None
    revision: str = ""
    """The stable revision: what a pod is made of unless a roll says otherwise."""
    rolling: str | None = None
    """The revision being rolled out. The template of a set is `rolling or revision`."""
    partition: int | None = None
    """Slots from this ordinal on are made of `rolling`, those below of `revision`. None: no slot has been ordered
    yet."""
    surge: int = 0
    """Slots granted beyond `replicas`."""
    roll_start: float | None = None
    failed: str | None = None
    """A revision that did not serve; it is not tried again until the user asks for another one."""
    failed_message: str = ""
    drains: tuple[DrainStart, ...] = ()
    conditions: tuple[Condition, ...] = ()
    srv_records: tuple[SrvRecord, ...] = ()
    observed_generation: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """What a runtime found out about a condition that only it can probe (`EgressAddress`, `SourceAddressPreserved`,
    `MetricsAvailable`)."""

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What stands now, of one set."""

    slots: tuple[SlotObservation, ...] = ()
    status: SetStatus = SetStatus()
    store_available: bool | None = None
    published: tuple[SrvRecord, ...] = ()
    """The SRV records that are published now."""
    address: str | None = None
    """The address that all pods share, where the exposure has one."""
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateSlot:
    """Make a pod of this revision in an empty slot. The runtime keeps what a revision was made of while a pod or a
    status names it."""

    ordinal: int
    revision: str


@dataclass(frozen=True, slots=True)
class Cordon:
    """No new calls to this pod."""

    ordinal: int
    uid: str


@dataclass(frozen=True, slots=True)
class Uncordon:
    """New calls again; also ends a drain."""

    ordinal: int
    uid: str


@dataclass(frozen=True, slots=True)
class Drain:
    """A proxy hands its dialogs over, a relay waits for its sessions to end."""

    ordinal: int
    uid: str


@dataclass(frozen=True, slots=True)
class RemoveSlot:
    """End the pod and its slot. Given only for the highest slots, from the top down."""

    ordinal: int
    uid: str


@dataclass(frozen=True, slots=True)
class Replace:
    """End the pod and make one of this revision in its slot. Carried out only while the pod in the slot has this
    UID."""

    ordinal: int
    uid: str
    revision: str


@dataclass(frozen=True, slots=True)
class Cut:
    """End the calls that are left on this pod; it is empty or gone afterwards."""

    ordinal: int
    uid: str


@dataclass(frozen=True, slots=True)
class PublishSrv:
    """Publish exactly these records."""

    records: tuple[SrvRecord, ...]


Action: TypeAlias = CreateSlot | Cordon | Uncordon | Drain | RemoveSlot | Replace | Cut | PublishSrv


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order, and what to remember."""

    actions: tuple[Action, ...]
    status: SetStatus
