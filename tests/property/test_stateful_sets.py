"""The planner's promises hold when a StatefulSet carries its plans out: `layout` never lets the controller end a pod
that the planner did not order to end, nor make one of the wrong revision for good."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sipfleet.kubernetes.layout import SetLayout, layout, template_revision
from sipfleet.plan import CreateSlot, Kind, Phase, Plan, RemoveSlot, Replace, plan
from tests.property.fleet import Fleet, HarmError, Pod, wanted
from tests.property.test_planner import EVENTS, KINDS, SEEDS, Event, calls, edited, on


class StatefulFleet(Fleet):
    """The same world, with a model of the StatefulSet controller (apps/v1, Parallel, RollingUpdate with a partition)
    between the planner and the pods."""

    spec = SetLayout(0, "", 0)
    current = ""
    """The revision that slots below the partition are made of (`status.currentRevision`)."""

    def step(self, failing: float = 0.0) -> Plan:
        observed = self.observe()
        self.surging = self._moving()
        result = plan(self.desired, observed, self.now)
        self._check(result, observed)
        self.status = result.status
        ended = []
        for action in result.actions:
            if isinstance(action, CreateSlot | RemoveSlot | Replace):
                ended.append(action)
            else:
                self._do(action)
            self.log.append((self.now, action))
        if self.random.random() >= failing:
            self._apply(result, ended)
        self._settle_times()
        return result

    def _apply(self, result: Plan, ended: list[CreateSlot | RemoveSlot | Replace]) -> None:
        revisions = {o: pod.revision for o, pod in self.pods.items() if pod.phase is not Phase.TERMINATING}
        before = self.spec
        self.spec = layout(result.status, result.actions, before.slots, revisions)
        if before.template != self.spec.template and self.spec.partition < self._lowest_safe():
            raise HarmError(f"{self.spec} with pods {revisions}")
        self.current = self.current or self.spec.template
        ordered = {one.ordinal for one in ended if not isinstance(one, CreateSlot)}
        for one in ended:
            if isinstance(one, Replace) and (pod := self.pods.get(one.ordinal)) is not None:
                self._end(pod, slot_goes=False)
                self._recreate(pod)
            elif isinstance(one, RemoveSlot) and one.ordinal >= self.spec.slots:
                self._remove(self.pods[one.ordinal])
        self._control(ordered)

    def _lowest_safe(self) -> int:
        """No pod that carries calls and is of another revision may be at or above the partition."""
        carrying = [o + 1 for o, pod in self.pods.items() if pod.calls and pod.revision != self.spec.template]
        return max(carrying, default=0)

    def _revision_at(self, ordinal: int) -> str:
        return self.current if ordinal < self.spec.partition else self.spec.template

    def _recreate(self, pod: Pod) -> None:
        """It gets SIGTERM; nothing is on it, so it ends at the next tick, or at once when nobody is there to end."""
        if pod.alive and not pod.calls:
            pod.phase, pod.cordoned, pod.draining = Phase.TERMINATING, True, True
            return
        self._uids += 1
        kept = pod.calls if self.desired.kind is Kind.RELAY else []
        fresh = Pod(
            pod.ordinal, f"u{self._uids}", self._revision_at(pod.ordinal), self.now + 1, calls=kept, used=bool(kept)
        )
        fresh.since = self.now
        self.pods[pod.ordinal] = fresh

    def _control(self, ordered: set[int]) -> None:
        """One turn of the controller."""
        for ordinal in range(self.spec.slots):
            if ordinal not in self.pods:
                self._uids += 1
                late = self.now + self.random.choice((0.5, 2, 8))
                self.pods[ordinal] = Pod(ordinal, f"u{self._uids}", self._revision_at(ordinal), late, since=self.now)
        for ordinal in [o for o in self.pods if o >= self.spec.slots]:
            if self.pods[ordinal].phase is not Phase.TERMINATING and self.pods[ordinal].calls:
                raise HarmError(f"scaled in with calls on {self.pods[ordinal]}")
        for ordinal in range(self.spec.slots - 1, self.spec.partition - 1, -1):
            pod = self.pods[ordinal]
            if pod.revision != self.spec.template and pod.phase is not Phase.TERMINATING:
                if ordinal not in ordered and pod.calls:
                    raise HarmError(f"the controller ends {pod} by itself: {self.spec}")
                self._recreate(pod)
        pods = [self.pods.get(ordinal) for ordinal in range(self.spec.slots)]
        if all(pod is not None and pod.alive and pod.revision == self.spec.template for pod in pods):
            self.current = self.spec.template

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        if self.spec.template:
            self._control(set())
            self._settle_times()


@settings(max_examples=150)
@given(KINDS, SEEDS, st.integers(0, 4), EVENTS)
def test_no_call_is_cut_and_the_set_settles_whatever_happens(
    kind: Kind, seed: int, replicas: int, events: list[tuple[Event, float]]
) -> None:
    fleet = StatefulFleet(wanted(kind, replicas=replicas), seed)
    for event, failing in events:
        event(fleet)
        fleet.step(failing)
        fleet.pass_time(1.0)
    fleet.heal()
    for pod in fleet.pods.values():
        pod.calls = [end for end in pod.calls if end < fleet.now + 400]
    fleet.settle(limit=30000)


def test_a_roll_replaces_every_pod_and_the_partition_ends_at_zero() -> None:
    fleet = StatefulFleet(wanted(Kind.RELAY, replicas=3), seed=1)
    fleet.settle()
    calls(6, 200)(fleet)
    edited(revision="good-2")(fleet)
    fleet.settle()
    assert fleet.revisions == {"good-2"}
    assert (fleet.spec, fleet.current) == (SetLayout(3, "good-2", 0), "good-2")


def test_a_bad_version_is_put_back_and_a_pod_that_dies_meanwhile_comes_back_old() -> None:
    fleet = StatefulFleet(wanted(Kind.RELAY, replicas=3), seed=1)
    fleet.settle()
    calls(6, 500)(fleet)
    edited(revision="bad-fail-1")(fleet)
    fleet.step()
    assert fleet.spec == SetLayout(4, "bad-fail-1", 3)
    on("lose_node", 1)(fleet)
    fleet.step()
    assert fleet.pods[1].revision == "good-1"
    fleet.settle()
    assert fleet.revisions == {"good-1"}
    assert template_revision(fleet.status) == "good-1"
    assert fleet.calls == 6  # none was cut, none has ended yet
