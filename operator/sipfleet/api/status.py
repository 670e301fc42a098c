"""What stands in `status`: written by the operator, read by people, `kubectl` and the planner at its next call."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .fields import WireModel, list_of


class ConditionStatus(WireModel):
    """A condition, as Kubernetes writes them."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: str
    """When `status` last changed, RFC 3339, UTC."""
    observed_generation: int = 0
    """The generation of the resource that the condition is about."""


class PodStatus(WireModel):
    """One pod."""

    name: str
    ordinal: int
    uid: str
    phase: str
    """Pending, Unschedulable, Starting, Serving, Cordoned, Draining, Empty, Lost, Failed, Terminating or Dead."""
    revision: str
    version: str | None = None
    """The package version that the pod reports in its lease."""
    active: int | None = None
    """Dialogs or sessions on it now: what is left when it drains."""
    capacity: int | None = None
    address: str | None = None
    draining_since: str | None = None
    message: str | None = None


class SrvRecordStatus(WireModel):
    """One SRV record (RFC 2782) of the published set."""

    name: str
    priority: int
    weight: int
    port: int
    target: str
    ttl: int
    address: str


class RecommendationStatus(WireModel):
    """A count that was recommended until a lower one took its place."""

    until: float
    """Unix time in seconds."""
    replicas: int


class DrainStatus(WireModel):
    """A drain that is under way."""

    ordinal: int
    uid: str
    since: float
    """Unix time in seconds."""


class PlanStatus(WireModel):
    """What the planner remembers between two calls. Not an interface: it may change with any release."""

    replicas: int | None = None
    recommended: int | None = None
    recommendations: list[RecommendationStatus] = Field(default_factory=list)
    last_scale_time: float | None = None
    last_scale_up_time: float | None = None
    revision: str = ""
    rolling: str | None = None
    partition: int | None = None
    surge: int = 0
    roll_start: float | None = None
    failed: str | None = None
    failed_message: str = ""
    drains: list[DrainStatus] = Field(default_factory=list)


class SetStatusModel(WireModel):
    """What both kinds report."""

    observed_generation: int = 0
    """The generation of `spec` that this status is about."""
    conditions: list[ConditionStatus] = Field(default_factory=list, json_schema_extra=list_of(key="type"))
    replicas: int = 0
    """Pods that are there, the surge of a roll and draining ones included."""
    desired_replicas: int | None = None
    """The count that was decided: `spec.replicas`, or what the autoscaler says."""
    ready_replicas: int = 0
    """Pods that serve and take new calls."""
    selector: str = ""
    """Label selector of the pods, for the scale subresource."""
    free_capacity: int | None = None
    """Calls for which there is room on the pods that take new ones."""
    version: str | None = None
    """The release that all pods run; while a roll lasts, both, such as `0.1.0 -> 0.2.0`."""
    address: str | None = None
    """Where the set is reached, when its pods share an address."""
    exposure: str | None = None
    """What `spec.exposure` came to: `loadBalancer`, `clusterIP` or `hostNetwork`."""
    pods: list[PodStatus] = Field(default_factory=list)
    plan: PlanStatus = PlanStatus()


class SipClusterStatus(SetStatusModel):
    """Status of a SipCluster."""

    active_dialogs: int | None = None
    """Calls up now."""
    srv_records: list[SrvRecordStatus] = Field(default_factory=list)
    """The SRV records that are published."""


class MediaPoolStatus(SetStatusModel):
    """Status of a MediaPool."""

    active_sessions: int | None = None
    """Media sessions up now."""
