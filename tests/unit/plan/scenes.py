"""Sets and pods for the tests of the planner, as short as a test can say them."""

from __future__ import annotations

from dataclasses import replace

from sipfleet.plan import (
    Action,
    Autoscale,
    Desired,
    FreeCapacity,
    Kind,
    LeaseState,
    Observed,
    Phase,
    Plan,
    PublishSrv,
    Rollout,
    SetStatus,
    SlotObservation,
    plan,
)

NOW = 1_700_000_000.0
ROLLOUT = Rollout(surge=1, drain_timeout=10800, cut=False, progress_deadline=300)


def wish(kind: Kind = Kind.RELAY, **changes: object) -> Desired:
    base = Desired(
        kind=kind,
        name="set",
        replicas=2,
        autoscale=None,
        capacity=10,
        rollout=ROLLOUT,
        revision="old",
        version=None,
        generation=3,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def rule(low: int = 1, high: int = 9, **changes: object) -> Autoscale:
    base = Autoscale(low, high, FreeCapacity(amount=5), down_window=300, up_pods=2, up_period=30)
    return replace(base, **changes)  # type: ignore[arg-type]


def pod(ordinal: int, **changes: object) -> SlotObservation:
    """A pod that serves and has no calls."""
    base = SlotObservation(
        ordinal=ordinal,
        uid=f"u{ordinal}",
        revision="old",
        version="1",
        phase=Phase.RUNNING,
        ready=True,
        serving=True,
        lease=LeaseState.ALIVE,
        active=0,
        capacity=10,
        empty=True,
        address=f"127.101.0.{ordinal + 1}",
        since=NOW - 1000,
    )
    if changes.get("active"):
        changes.setdefault("empty", False)
    return replace(base, **changes)  # type: ignore[arg-type]


def unborn(ordinal: int, **changes: object) -> SlotObservation:
    """A pod that is being started."""
    values = {
        "phase": Phase.PENDING,
        "ready": False,
        "serving": False,
        "lease": LeaseState.NONE,
        "version": None,
        "since": NOW - 1,
    }
    return pod(ordinal, **(values | changes))


def leaving(ordinal: int, **changes: object) -> SlotObservation:
    return pod(ordinal, **({"cordoned": True, "draining": True} | changes))


STANDING = SetStatus(replicas=2, revision="old")


def look(*slots: SlotObservation, status: SetStatus = STANDING, **changes: object) -> Observed:
    return Observed(slots=slots, status=status, store_available=True, **changes)  # type: ignore[arg-type]


def decide(desired: Desired, *slots: SlotObservation, status: SetStatus = STANDING, now: float = NOW) -> Plan:
    return plan(desired, look(*slots, status=status), now)


def steps(desired: Desired, *slots: SlotObservation, status: SetStatus = STANDING, now: float = NOW) -> list[Action]:
    """The actions, DNS aside."""
    actions = decide(desired, *slots, status=status, now=now).actions
    return [action for action in actions if not isinstance(action, PublishSrv)]


def condition(result: Plan, kind: str) -> tuple[str, str, str]:
    found = next(condition for condition in result.status.conditions if condition.type == kind)
    return found.status, found.reason, found.message
