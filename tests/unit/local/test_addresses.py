"""Loopback addresses of pods: stable, different, and never more than there are."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from sipfleet.local.addresses import Addresses, network
from sipfleet.local.errors import AddressError


def test_the_network_is_that_of_the_clusters_own_loopback_address() -> None:
    assert network("demo", "127.20.0.1") == "127.20.0"


def test_without_a_loopback_address_the_network_comes_from_the_name_and_is_loopback() -> None:
    nets = {network(name) for name in ("demo", "carrier", "lab")} | {
        network("demo", "192.0.2.7"),
        network("demo", "::1"),
    }
    assert len(nets) == 3, "the same name gives the same network, whatever the address"
    assert all(IPv4Address(f"{net}.1").is_loopback and not net.startswith("127.0.") for net in nets)


def test_a_slot_keeps_its_address_when_others_come_and_go_and_when_the_supervisor_restarts() -> None:
    first = Addresses("127.20.0")
    given = {slot: first.of(slot) for slot in ("demo-0", "demo-1", "media-0")}
    again = Addresses("127.20.0", first.table)
    assert again.of("media-1") not in given.values()
    assert {slot: again.of(slot) for slot in given} == given


def test_addresses_of_another_network_are_forgotten() -> None:
    moved = Addresses("127.30.0", {"demo-0": "127.20.0.10"})
    assert moved.of("demo-0") == "127.30.0.10"


def test_an_address_that_another_cluster_uses_is_passed_over_and_forgotten() -> None:
    free = lambda address: address not in ("127.20.0.10", "127.20.0.12")  # noqa: E731
    again = Addresses("127.20.0", {"demo-0": "127.20.0.11", "demo-1": "127.20.0.12"}, free)
    assert [again.of(slot) for slot in ("demo-0", "demo-1", "demo-2")] == ["127.20.0.11", "127.20.0.13", "127.20.0.14"]


def test_when_all_are_handed_out_one_of_a_slot_that_is_gone_is_taken_and_otherwise_none() -> None:
    full = Addresses("127.20.0")
    names = [f"media-{n}" for n in range(245)]
    assert len({full.of(name) for name in names}) == 245
    with pytest.raises(AddressError, match=r"all 245 pod addresses of 127\.20\.0\.0/24"):
        full.of("one-more", set(names))
    assert full.of("one-more", set(names) - {"media-7"}) == "127.20.0.17"
