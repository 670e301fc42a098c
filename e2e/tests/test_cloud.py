"""What the fake cloud decides: addresses, who serves them, and the routes. No cluster is needed for it."""

from __future__ import annotations

from typing import Any

from e2e.cluster.cloud import Health, Service, State, assign, read, route_commands


def service(name: str, *, wanted: str | None = None, address: str | None = None, port: int = 30001) -> Service:
    return Service("default", name, port, wanted, address)


def test_every_service_gets_an_address_of_its_own() -> None:
    given = assign([service(f"s{number}") for number in range(200)])
    assert len(given) == len(set(given.values())) == 200
    assert all(address.startswith("198.51.100.") for address in given.values())


def test_a_service_that_is_made_again_gets_the_same_address() -> None:
    assert assign([service("a")]) == assign([service("a")])


def test_an_address_that_a_status_shows_is_kept_whoever_comes_later() -> None:
    first = assign([service("a")])["default/a"]
    given = assign([service("0-takes-it", address=first), service("a")])
    assert given["default/0-takes-it"] == first != given["default/a"]


def test_a_service_may_ask_for_an_address() -> None:
    assert assign([service("a", wanted="198.51.100.7")]) == {"default/a": "198.51.100.7"}
    assert assign([service("a", wanted="198.51.100.7", address="198.51.100.9")]) == {"default/a": "198.51.100.7"}


def test_an_address_that_is_taken_or_not_ours_is_not_given() -> None:
    given = assign([service("a", wanted="198.51.100.7"), service("b", wanted="198.51.100.7")])
    assert given == {"default/a": "198.51.100.7"}
    assert assign([service("a", wanted="203.0.113.10"), service("b", wanted="nonsense")]) == {}


def test_two_failed_checks_in_a_row_take_a_node_out_and_one_good_one_brings_it_in() -> None:
    health = Health()
    assert [health.observe(good) for good in (False, True, False, True, False, False, False, True)] == [
        False,
        True,
        False,
        False,
        False,
        True,
        False,
        True,
    ]
    assert health.serving


def test_an_address_is_routed_to_the_nodes_that_serve_it_and_to_no_others() -> None:
    state = State(services={"default/a": service("a")}, nodes=("192.0.2.11", "192.0.2.12"))
    assert state.checks() == {("192.0.2.11", 30001), ("192.0.2.12", 30001)}
    assert state.routes() == {}
    state.health[("192.0.2.12", 30001)] = Health(serving=True)
    (nodes,) = state.routes().values()
    assert nodes == ("192.0.2.12",)
    state.services.clear()
    state.forget()
    assert state.routes() == {}
    assert state.health == {}


def test_only_what_differs_is_routed_anew() -> None:
    before = {"198.51.100.1": ("192.0.2.11",), "198.51.100.2": ("192.0.2.11",), "198.51.100.3": ("192.0.2.12",)}
    after = {"198.51.100.1": ("192.0.2.11",), "198.51.100.2": ("192.0.2.11", "192.0.2.12")}
    assert route_commands(before, after) == [
        "route delete 198.51.100.3/32",
        "route replace 198.51.100.2/32 nexthop via 192.0.2.11 nexthop via 192.0.2.12",
    ]


def item(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": "a"}, "spec": {"type": "LoadBalancer", **spec}, "status": {}}


def test_what_is_read_of_a_service() -> None:
    local = item(externalTrafficPolicy="Local", healthCheckNodePort=31000, loadBalancerIP="198.51.100.9")
    assert read(local) == Service("default", "a", 31000, "198.51.100.9", None)
    # Any node can serve where the policy is Cluster, as long as its kube-proxy works.
    assert read(item()) == Service("default", "a", 10256, None, None)


def test_a_service_of_another_class_or_on_its_way_out_is_not_ours() -> None:
    assert read(item(loadBalancerClass="example.com/other")) is None
    leaving = item()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert read(leaving) is None
    assert read({"metadata": {}, "spec": {"type": "ClusterIP"}}) is None
