"""From what proxies have seen to `EgressAddress` and `SourceAddressPreserved`."""

from __future__ import annotations

import pytest

from sipcore.record import Lease
from sipfleet.kubernetes.observe import slim_node
from sipfleet.kubernetes.outlook import Ground, Seen, probes

from .scenes import lease, node

NODE, OTHER_NODE, CLUSTER = "192.0.2.21", "192.0.2.22", "192.0.2.101"


def ground() -> Ground:
    made = []
    for address, network in ((NODE, "10.1.0.0/24"), (OTHER_NODE, "10.1.1.0/24")):
        one = node(podCIDRs=[network])
        one["status"]["addresses"] = [{"type": "InternalIP", "address": address}]
        made.append(slim_node(one))
    return Ground.of(made)


def proxy(ordinal: int = 0, *, advertised: str = CLUSTER, **said: object) -> Seen:
    found: Lease = lease(f"demo-{ordinal}", kind="proxy", **said)
    return Seen(f"10.1.0.{ordinal + 7}", advertised, found)


def judged(*proxies: Seen) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in probes(proxies, ground())}


def test_nothing_seen_is_nothing_said() -> None:
    assert probes([proxy()], ground()) == ()
    assert probes([], ground()) == ()


@pytest.mark.parametrize(
    ("seen_as", "verdict"),
    [
        ([f"{CLUSTER}:5060"], ("True", "Same")),
        ([f"{NODE}:40021"], ("False", "Differs")),
        ([f"{CLUSTER}:5060", f"{NODE}:40021"], ("False", "Differs")),
        (["10.1.0.7:5060"], ("Unknown", "PodAddress")),
        (["10.1.0.7:5060", f"{CLUSTER}:5060"], ("True", "Same")),
        (["10.1.0.8:5060"], ("False", "Differs")),
    ],
)
def test_what_targets_see(seen_as: list[str], verdict: tuple[str, str]) -> None:
    assert judged(proxy(seen_as=seen_as)) == {"EgressAddress": verdict}


def test_one_proxy_under_another_address_is_enough_and_the_message_names_it() -> None:
    found = [proxy(0, seen_as=[f"{CLUSTER}:5060"]), proxy(1, seen_as=[f"{OTHER_NODE}:5060"])]
    [one] = probes(found, ground())
    assert one.status == "False"
    assert one.message == f"targets of routes see demo-1 as {OTHER_NODE}:5060 and not as {CLUSTER}"


def test_on_host_network_the_address_of_the_pod_is_the_one_that_the_world_is_told() -> None:
    assert judged(proxy(0, advertised="10.1.0.7", seen_as=["10.1.0.7:5060"])) == {"EgressAddress": ("True", "Same")}


def test_an_ipv6_address_is_read_without_its_brackets() -> None:
    found = proxy(0, advertised="2001:db8::5", seen_as=["[2001:db8::5]:5060"])
    assert judged(found) == {"EgressAddress": ("True", "Same")}


@pytest.mark.parametrize(
    ("sources", "verdict"),
    [
        ({"198.51.100.7": True}, ("True", "Seen")),
        ({"198.51.100.7": False}, ("Unknown", "Translated")),
        ({"198.51.100.7": False, "198.51.100.8": True}, ("True", "Seen")),
        ({NODE: False}, ("False", "NodeAddress")),
        ({NODE: False, "198.51.100.8": True}, ("False", "NodeAddress")),
        ({NODE: True}, ("True", "Seen")),
        ({"2001:db8::9": True}, ("True", "Seen")),
    ],
)
def test_where_requests_come_from(sources: dict[str, bool], verdict: tuple[str, str]) -> None:
    assert judged(proxy(sources=sources)) == {"SourceAddressPreserved": verdict}


def test_callers_in_the_pod_network_prove_nothing() -> None:
    assert probes([proxy(sources={"10.1.1.9": True, "10.1.0.200": False})], ground()) == ()
