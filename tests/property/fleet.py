"""A small world for the planner: pods, calls, a store, time. It carries actions out, with delays and deaths, and
complains (`HarmError`) when an action does what must never be done.

It is a model, not a runtime: pure, deterministic by its seed, and it knows the truth, while the planner sees what
`observe()` tells.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from sipfleet.plan import (
    Action,
    Autoscale,
    Cordon,
    CreateSlot,
    Cut,
    Desired,
    Drain,
    FreeCapacity,
    Kind,
    LeaseState,
    Measured,
    Observed,
    Phase,
    Plan,
    PublishSrv,
    RemoveSlot,
    Replace,
    Rollout,
    SetStatus,
    SlotObservation,
    SrvPolicy,
    SrvRecord,
    Uncordon,
    plan,
)

CAPACITY = 4
LEASE_LIFE = 3.0


class HarmError(AssertionError):
    """The planner did what it must never do."""


def wanted(kind: Kind, **changes: object) -> Desired:
    """A desired set with sensible values."""
    base = Desired(
        kind=kind,
        name="set",
        replicas=2,
        autoscale=None,
        capacity=CAPACITY,
        rollout=Rollout(surge=1, drain_timeout=10800, cut=False, progress_deadline=60),
        revision="good-1",
        version=None,
        srv=SrvPolicy(("example.test",), (("UDP", 5060),), shared=False, ttl=5) if kind is Kind.PROXY else None,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def automatic(low: int, high: int, **changes: object) -> Autoscale:
    """An autoscale rule with a short window."""
    base = Autoscale(low, high, FreeCapacity(amount=2), down_window=30, up_pods=4, up_period=5)
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass
class Pod:
    """One incarnation. `calls` holds the time at which each call ends."""

    ordinal: int
    uid: str
    revision: str
    up_at: float
    calls: list[float] = field(default_factory=list)
    phase: Phase = Phase.PENDING
    cordoned: bool = False
    draining: bool = False
    leased: bool = False
    hung_since: float | None = None
    failed: bool = False
    evict: bool = False
    since: float = 0.0
    shown: tuple[object, ...] = ()
    used: bool = False

    @property
    def alive(self) -> bool:
        return self.phase is Phase.RUNNING and self.hung_since is None

    @property
    def serving(self) -> bool:
        return self.alive and self.leased and not self.revision.startswith("bad")


class Fleet:
    """The set, its calls and its time."""

    def __init__(self, desired: Desired, seed: int, now: float = 1_000_000.0) -> None:
        self.desired = desired
        self.random = random.Random(seed)
        self.now = now
        self.pods: dict[int, Pod] = {}
        self.status = SetStatus()
        self.published: tuple[SrvRecord, ...] = ()
        self.store_back_at: float = now - 10
        self.no_room_for: int | None = None
        """A pod of this ordinal or a higher one finds no place."""
        self.metrics: str | None = None
        """What a monitoring system says: nobody asks it (None), the `truth`, `nothing`, or `lies`."""
        self.drain_orders: dict[int, float] = {}
        self.surging = False
        self.cut_calls = 0
        self.log: list[tuple[float, Action]] = []
        self._uids = 0

    # -- what happens by itself ---------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Pods come up, calls end, proxies hand over, what terminates ends."""
        self.now += seconds
        for pod in list(self.pods.values()):
            self._live(pod)
        self._settle_times()

    def _live(self, pod: Pod) -> None:
        placed = self.no_room_for is None or pod.ordinal < self.no_room_for
        if pod.phase is Phase.UNSCHEDULABLE and placed:
            pod.phase, pod.up_at = Phase.PENDING, self.now + 1
        if pod.phase is Phase.PENDING and not placed and not pod.used:
            pod.phase = Phase.UNSCHEDULABLE
        if pod.phase is Phase.PENDING and self.now >= pod.up_at:
            pod.phase = Phase.FAILED if pod.revision.startswith("bad-fail") else Phase.RUNNING
        if pod.alive and self.store_away is None:
            pod.leased = pod.leased or not pod.revision.startswith("bad-mute")
        pod.calls = [end for end in pod.calls if end > self.now]
        if pod.alive and pod.draining and self.desired.kind is Kind.PROXY:
            peers = [p for p in self.pods.values() if p is not pod and p.serving and not p.draining]
            if peers:
                self.random.choice(peers).calls.extend(pod.calls)
                pod.calls = []
        if pod.phase is Phase.TERMINATING and not pod.calls:
            del self.pods[pod.ordinal]

    def _settle_times(self) -> None:
        for pod in self.pods.values():
            shown = (pod.phase, pod.serving)
            if shown != pod.shown:
                pod.shown, pod.since = shown, self.now

    @property
    def store_away(self) -> float | None:
        """Until when nobody can say anything of leases; None when the store has been there for long enough."""
        return self.store_back_at if self.now < self.store_back_at + LEASE_LIFE else None

    def call(self, seconds: float) -> bool:
        """A new call: a relay's goes to the lowest pod with room, a proxy's anywhere. False when nobody has room."""
        takers = [
            pod
            for _, pod in sorted(self.pods.items())
            if pod.serving and not pod.cordoned and not pod.draining and len(pod.calls) < CAPACITY
        ]
        if not takers:
            return False
        pod = takers[0] if self.desired.kind is Kind.RELAY else self.random.choice(takers)
        pod.calls.append(self.now + seconds)
        pod.used = True
        return True

    # -- what others do -----------------------------------------------------------------------------------------------

    def kill(self, ordinal: int) -> None:
        """SIGKILL: the runtime starts it again in place; a relay restores its sessions, a proxy's are adopted."""
        pod = self.pods.get(ordinal)
        if pod is None or not pod.alive:
            return
        self._uids += 1
        pod.uid, pod.phase, pod.up_at, pod.leased = f"u{self._uids}", Phase.PENDING, self.now + 1, False
        pod.cordoned = pod.draining = False
        self._leave_dialogs(pod)
        self._settle_times()

    def lose_node(self, ordinal: int) -> None:
        """Gone for good: the runtime says Dead."""
        pod = self.pods.get(ordinal)
        if pod is not None and pod.phase in (Phase.RUNNING, Phase.PENDING):
            pod.phase, pod.leased, pod.hung_since = Phase.DEAD, False, None
            self._leave_dialogs(pod)
            self._settle_times()

    def hang(self, ordinal: int) -> None:
        """The process is there and does nothing."""
        pod = self.pods.get(ordinal)
        if pod is not None and pod.alive:
            pod.hung_since = self.now
            self._leave_dialogs(pod)
            self._settle_times()

    def evict(self, ordinal: int) -> None:
        """Its node is cordoned."""
        if ordinal in self.pods:
            self.pods[ordinal].evict = True

    def terminate(self, ordinal: int) -> None:
        """A plain delete from outside: it drains itself and ends when it is empty."""
        pod = self.pods.get(ordinal)
        if pod is not None and pod.alive:
            pod.phase, pod.cordoned, pod.draining = Phase.TERMINATING, True, True
            self._settle_times()

    def lose_store(self, seconds: float) -> None:
        """The store is away for a while."""
        self.store_back_at = self.now + seconds

    def heal(self) -> None:
        """Nothing more goes wrong."""
        self.no_room_for = None
        self.metrics = "truth" if self.metrics is not None else None
        self.store_back_at = min(self.store_back_at, self.now)
        for pod in list(self.pods.values()):
            pod.evict = False
            if pod.hung_since is not None and not pod.leased:  # nobody but the runtime's liveness probe can tell
                pod.hung_since, pod.phase, pod.up_at = None, Phase.PENDING, self.now + 1

    def _leave_dialogs(self, pod: Pod) -> None:
        if self.desired.kind is Kind.PROXY:  # dialogs stand in the store; the peers adopt them
            peers = [p for p in self.pods.values() if p is not pod and p.serving]
            for end in pod.calls if peers else []:
                self.random.choice(peers).calls.append(end)
            pod.calls = []

    # -- what the planner sees ----------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        """The truth, as far as a runtime can know it."""
        return Observed(
            slots=tuple(self._observe(pod) for _, pod in sorted(self.pods.items())),
            status=self.status,
            store_available=self.now >= self.store_back_at,
            published=self.published,
        )

    def _observe(self, pod: Pod) -> SlotObservation:
        known = self.store_away is None
        lease = LeaseState.UNKNOWN
        if known:
            lease = LeaseState.ALIVE if pod.alive and pod.leased else LeaseState.LOST if pod.leased else LeaseState.NONE
            if pod.hung_since is not None and self.now < pod.hung_since + LEASE_LIFE:
                lease = LeaseState.ALIVE
            if pod.phase is Phase.TERMINATING:
                lease = LeaseState.ALIVE
        return SlotObservation(
            ordinal=pod.ordinal,
            uid=pod.uid,
            revision=pod.revision,
            version="1" if pod.leased else None,
            phase=pod.phase,
            ready=pod.alive,
            serving=pod.serving,
            lease=lease,
            cordoned=pod.cordoned,
            draining=pod.draining,
            active=len(pod.calls) if known else None,
            capacity=CAPACITY,
            empty=known and not pod.calls,
            address=f"127.101.0.{pod.ordinal + 1}",
            since=pod.since,
            evict=pod.evict,
            measured=self._measure(pod),
        )

    def _measure(self, pod: Pod) -> Measured | None:
        if self.metrics is None:
            return None
        if self.metrics == "nothing" or not pod.alive:
            return Measured(None)
        return Measured(len(pod.calls) if self.metrics == "truth" else self.random.choice((None, 0, 1, CAPACITY, 99)))

    # -- what the planner does ----------------------------------------------------------------------------------------

    def step(self, failing: float = 0.0) -> Plan:
        """Plan, check the plan, store the status, carry the actions out until one fails, each with that probability."""
        observed = self.observe()
        self.surging = self._moving()
        result = plan(self.desired, observed, self.now)
        self._check(result, observed)
        self.status = result.status
        for action in result.actions:
            if self.random.random() < failing:
                break
            self._do(action)
            self.log.append((self.now, action))
        self._settle_times()
        return result

    def _check(self, result: Plan, observed: Observed) -> None:
        again = plan(self.desired, replace(observed, status=result.status), self.now)
        if again != result:
            raise HarmError(f"the same look gives another plan: {_differences(result, again)}")
        if len(set(result.actions)) != len(result.actions):
            raise HarmError(f"an action twice: {result.actions}")
        cordoned = {slot.ordinal for slot in observed.slots if slot.cordoned or slot.draining}
        cordoned |= {action.ordinal for action in result.actions if isinstance(action, Cordon | Drain)}
        cordoned -= {action.ordinal for action in result.actions if isinstance(action, Uncordon)}
        listed = {int(record.target.split(".")[0].rpartition("-")[2]) for record in result.status.srv_records}
        if cordoned & listed:
            raise HarmError(f"DNS lists {cordoned & listed}, which take no calls")
        for drain in result.status.drains:
            self.drain_orders.setdefault(drain.ordinal, drain.since)
        for ordinal in set(self.drain_orders) - {drain.ordinal for drain in result.status.drains}:
            del self.drain_orders[ordinal]

    def limits(self) -> tuple[int, int]:
        """The smallest and the largest number of slots, without surge."""
        if self.desired.deleting:
            return 0, 0
        rule = self.desired.autoscale
        if rule is not None:
            return rule.min, rule.max
        return self.desired.replicas or 0, self.desired.replicas or 0

    def _do(self, action: Action) -> None:
        match action:
            case PublishSrv(records):
                self.published = records
            case CreateSlot(ordinal, revision):
                self._create(ordinal, revision)
            case Cordon(ordinal, uid):
                self._pod(ordinal, uid).cordoned = True
            case Drain(ordinal, uid):
                self._pod(ordinal, uid).draining = True
            case Uncordon(ordinal, uid):
                pod = self._pod(ordinal, uid)
                pod.cordoned = pod.draining = False
            case Cut(ordinal, uid):
                self._cut(self._pod(ordinal, uid))
            case RemoveSlot(ordinal, uid):
                self._remove(self._pod(ordinal, uid))
            case Replace(ordinal, uid, revision):
                self._replace(self._pod(ordinal, uid), revision)

    def _pod(self, ordinal: int, uid: str) -> Pod:
        pod = self.pods.get(ordinal)
        if pod is None or pod.uid != uid:
            raise HarmError(f"an action for a pod that is not there: {ordinal} {uid}")
        return pod

    def _create(self, ordinal: int, revision: str) -> None:
        _, most = self.limits()
        surge = self.desired.rollout.surge if self.surging or self._moving() else 0
        if ordinal in self.pods:
            raise HarmError(f"slot {ordinal} is taken")
        if ordinal >= most + surge:
            raise HarmError(f"slot {ordinal} is beyond {most} + {surge}")
        self._uids += 1
        pod = Pod(ordinal, f"u{self._uids}", revision, self.now + self.random.choice((0.5, 2, 8)))
        pod.since = self.now
        self.pods[ordinal] = pod

    def _moving(self) -> bool:
        """A roll (forth or back) or an eviction is under way."""
        revisions = {pod.revision for pod in self.pods.values()}
        evicted = any(pod.evict for pod in self.pods.values())
        return evicted or self.status.rolling is not None or bool(revisions - {self.status.revision})

    def _cut(self, pod: Pod) -> None:
        if not self.desired.rollout.cut:
            raise HarmError("cut although the user said Wait")
        if self.now - self.drain_orders[pod.ordinal] < self.desired.rollout.drain_timeout:
            raise HarmError("cut before the drain timeout")
        self.cut_calls += len(pod.calls)
        pod.calls = []

    def _end(self, pod: Pod, slot_goes: bool) -> None:
        if pod.calls and ((pod.alive and pod.leased) or pod.phase is Phase.TERMINATING):
            raise HarmError(f"{pod} is ended with {len(pod.calls)} calls on it")
        if pod.calls and slot_goes:
            raise HarmError(f"{pod} goes with its slot, and with {len(pod.calls)} sessions that stand in the store")
        if pod.alive and pod.ordinal in {int(r.target.split(".")[0].rpartition("-")[2]) for r in self.published}:
            raise HarmError(f"{pod} is ended while DNS names it")

    def _remove(self, pod: Pod) -> None:
        least, _ = self.limits()
        if pod.ordinal < least:
            raise HarmError(f"slot {pod.ordinal} is removed below {least}")
        if pod.ordinal != max(self.pods):
            raise HarmError(f"slot {pod.ordinal} is removed from below {max(self.pods)}")
        self._end(pod, slot_goes=True)
        del self.pods[pod.ordinal]

    def _replace(self, pod: Pod, revision: str) -> None:
        if (
            revision == self.status.rolling
            and revision != pod.revision
            and any(other.revision != revision for ordinal, other in self.pods.items() if ordinal > pod.ordinal)
        ):
            raise HarmError(f"slot {pod.ordinal} gets {revision} before those above it")
        self._end(pod, slot_goes=False)
        self._uids += 1
        fresh = Pod(pod.ordinal, f"u{self._uids}", revision, self.now + 1, calls=pod.calls, used=bool(pod.calls))
        fresh.since = self.now
        self.pods[pod.ordinal] = fresh

    # -- what the tests ask -------------------------------------------------------------------------------------------

    @property
    def calls(self) -> int:
        """Calls that are up."""
        return sum(len(pod.calls) for pod in self.pods.values())

    @property
    def takers(self) -> int:
        """Pods that take new calls."""
        return sum(pod.serving and not pod.cordoned and not pod.draining for pod in self.pods.values())

    @property
    def revisions(self) -> set[str]:
        """What the pods are made of."""
        return {pod.revision for pod in self.pods.values()}

    def condition(self, kind: str) -> str:
        """`True`, `False` or `Unknown`."""
        return next(condition.status for condition in self.status.conditions if condition.type == kind)

    def since(self, start: int) -> list[Action]:
        """Actions carried out since the log had `start` entries, DNS aside."""
        return [action for _, action in self.log[start:] if not isinstance(action, PublishSrv)]

    def run(self, seconds: float, tick: float = 5.0) -> None:
        """Let it work for a while, without faults."""
        end = self.now + seconds
        while self.now < end:
            self.step()
            self.pass_time(tick)

    def settle(self, limit: float = 6000.0, tick: float = 10.0) -> None:
        """Run until nothing is left to do and the status does not change any more."""
        end, quiet = self.now + limit, 0
        while quiet < 3:
            if self.now > end:
                raise HarmError(f"does not settle: {self.status} {self.pods} last: {self.log[-6:]}")
            before = self.status
            result = self.step()
            waits = self.condition("Progressing") == "True"
            quiet = quiet + 1 if not waits and not result.actions and result.status == before else 0
            self.pass_time(tick)


def _differences(one: Plan, other: Plan) -> str:
    fields = [
        f"{name}: {getattr(one.status, name)} then {getattr(other.status, name)}"
        for name in SetStatus.__dataclass_fields__
        if getattr(one.status, name) != getattr(other.status, name)
    ]
    return f"{one.actions} then {other.actions}; {'; '.join(fields)}"
