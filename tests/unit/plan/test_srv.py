"""What DNS says of a SipCluster (DESIGN 5, RFC 3263)."""

from __future__ import annotations

from dataclasses import replace

from sipfleet.plan import (
    Cordon,
    Desired,
    Drain,
    DrainStart,
    Kind,
    LeaseState,
    Observed,
    PublishSrv,
    RemoveSlot,
    SetStatus,
    SlotObservation,
    SrvPolicy,
    SrvRecord,
    plan,
)
from tests.unit.plan.scenes import NOW, STANDING, leaving, look, pod, unborn, wish

OWN = SrvPolicy(("example.test",), (("UDP", 5060),), shared=False, ttl=30)
SHARED = replace(OWN, shared=True)


def proxies(policy: SrvPolicy = OWN, **changes: object) -> Desired:
    return wish(Kind.PROXY, srv=policy, **changes)


def record(ordinal: int, weight: int = 100) -> SrvRecord:
    return SrvRecord(
        "_sip._udp.example.test.", f"set-{ordinal}.example.test.", 5060, f"127.101.0.{ordinal + 1}", weight=weight
    )


def published(desired: Desired, observed: Observed) -> list[SrvRecord]:
    return list(plan(desired, observed, NOW).status.srv_records)


def test_pods_with_addresses_of_their_own_are_listed_by_free_capacity() -> None:
    slots = (pod(0, active=0), pod(1, active=5), pod(2, active=10))
    assert published(proxies(replicas=3), look(*slots)) == [record(0, 100), record(1, 50), record(2, 1)]


def test_a_relay_has_no_records() -> None:
    assert published(wish(Kind.RELAY), look(pod(0), pod(1))) == []


def test_only_pods_that_take_new_calls_are_listed() -> None:
    slots = (
        pod(0),
        pod(1, cordoned=True),
        pod(2, draining=True),
        unborn(3),
        pod(4, ready=False),
        pod(5, serving=False),
        pod(6, lease=LeaseState.LOST),
    )
    assert published(proxies(replicas=7), look(*slots)) == [record(0)]


def test_while_the_store_is_away_nobody_is_delisted() -> None:
    standing = (record(0, 70), record(1, 100))
    blind = {"lease": LeaseState.UNKNOWN, "active": None}
    assert published(proxies(), look(pod(0, **blind), pod(1, **blind), published=standing)) == list(standing)


def test_a_record_is_taken_away_before_its_pod_is_cordoned_and_in_the_same_plan() -> None:
    result = plan(proxies(replicas=1), look(pod(0), pod(1), published=(record(0), record(1))), NOW)
    assert list(result.actions) == [PublishSrv((record(0),)), Cordon(1, "u1"), Drain(1, "u1")]


def test_a_pod_is_removed_only_when_no_record_names_it_and_caches_have_forgotten() -> None:
    def steps(slot: SlotObservation, drained_for: float, *standing: SrvRecord) -> list[object]:
        status = replace(STANDING, drains=(DrainStart(1, "u1", NOW - drained_for),))
        observed = look(pod(0), slot, status=status, published=standing)
        return [
            action for action in plan(proxies(replicas=1), observed, NOW).actions if not isinstance(action, PublishSrv)
        ]

    assert steps(leaving(1), 60, record(0), record(1)) == []
    assert steps(leaving(1), 29, record(0)) == []
    assert steps(leaving(1), 30, record(0)) == [RemoveSlot(1, "u1")]
    dead = leaving(1, lease=LeaseState.LOST, serving=False)
    assert steps(dead, 1, record(0)) == [RemoveSlot(1, "u1")]


def test_a_shared_address_is_one_record_for_each_domain_and_service() -> None:
    policy = SrvPolicy(("a.test", "b.test"), (("UDP", 5060), ("TCP", 5061), ("TLS", 5062)), shared=True, ttl=5)
    records = published(proxies(policy), look(pod(0), pod(1), address="192.0.2.1"))
    assert [(r.name, r.target, r.port, r.address, r.ttl) for r in records] == [
        (f"{owner}.{domain}.", f"set.{domain}.", port, "192.0.2.1", 5)
        for owner, port in (("_sip._tcp", 5061), ("_sip._udp", 5060), ("_sips._tcp", 5062))
        for domain in ("a.test", "b.test")
    ]


def test_a_shared_address_is_published_with_the_first_pod_and_stays_through_a_bad_moment() -> None:
    shared = replace(record(0), target="set.example.test.", address="192.0.2.1")
    assert published(proxies(SHARED), look(unborn(0), unborn(1), address="192.0.2.1")) == []
    assert published(proxies(SHARED), look(pod(0), unborn(1), address="192.0.2.1")) == [shared]
    bad_moment = look(pod(0, serving=False), unborn(1), address="192.0.2.1", published=(shared,))
    assert published(proxies(SHARED), bad_moment) == [shared]
    assert published(proxies(SHARED), look(pod(0), pod(1))) == []


def test_a_shared_record_leaves_before_the_last_pod_does() -> None:
    shared = replace(record(0), target="set.example.test.", address="192.0.2.1")
    none = proxies(SHARED, replicas=0)
    first = plan(none, look(leaving(0), address="192.0.2.1", published=(shared,)), NOW)
    assert list(first.actions) == [PublishSrv(())]
    assert list(plan(none, look(leaving(0), address="192.0.2.1"), NOW).actions) == [RemoveSlot(0, "u0")]


def test_a_pod_that_the_runtime_itself_names_stays_until_caches_have_forgotten_it() -> None:
    """Behind a shared address too: callers inside find the pods by SRV."""
    shared = replace(record(0), target="set.example.test.", address="192.0.2.1")
    one = proxies(replace(SHARED, named_inside=True), replicas=1)

    def removes(desired: Desired, since: float, named: float = 0.0) -> bool:
        status = replace(STANDING, drains=(DrainStart(1, "u1", NOW - since),))
        seen = look(pod(0), leaving(1, named=named), status=status, address="192.0.2.1", published=(shared,))
        return RemoveSlot(1, "u1") in plan(desired, seen, NOW).actions

    assert [removes(one, since) for since in (0, 29, 30)] == [False, False, True]
    assert removes(proxies(SHARED, replicas=1), 0)
    # Its name service was late to take it out: the time of caches counts from then.
    assert [removes(one, 60, NOW - ago) for ago in (0, 29, 30)] == [False, False, True]


def test_weights_move_in_steps_so_that_a_call_does_not_rewrite_the_zone() -> None:
    standing = (record(0, 100), record(1, 100))
    assert published(proxies(), look(pod(0), pod(1, active=1), published=standing)) == list(standing)
    assert published(proxies(), look(pod(0), pod(1, active=2), published=standing)) == [record(0, 100), record(1, 80)]


def test_what_is_published_already_is_not_published_again_and_drift_is_corrected() -> None:
    both = (record(0), record(1))
    assert plan(proxies(), look(pod(0), pod(1), published=both), NOW).actions == ()
    foreign = look(
        pod(0), pod(1), published=(record(0),), status=SetStatus(replicas=2, revision="old", srv_records=both)
    )
    assert plan(proxies(), foreign, NOW).actions == (PublishSrv(both),)
