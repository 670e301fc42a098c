"""Configuration files made of manifests: what the programs are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sipcore.config import ProxyConfig, RelayConfig, endpoint, parse_config
from sipfleet.api import MediaPool, SipCluster, load_manifests
from sipfleet.render import Place, config_text, proxy_config, relay_config

CLUSTER = """
apiVersion: sipfleet.io/v1alpha1
kind: SipCluster
metadata: {name: demo, namespace: voice}
spec:
  replicas: 2
  domains: [example.test]
  listeners: [{name: udp, port: 5060}, {name: alt, port: 5062}]
  routing: {routes: [{name: all, prefix: "+49", targets: ["sip:192.0.2.7", "sip:[2001:db8::1]:5070"]}]}
  mediaPools: [media]
  capacity: 700
"""
POOL = """
apiVersion: sipfleet.io/v1alpha1
kind: MediaPool
metadata: {name: media, namespace: voice}
spec:
  replicas: 1
  interfaces: [{name: core}, {name: access}]
  timeouts: {rtp: 20, silent: 200, final: 2000}
  capacity: 90
"""
PLACE = Place(
    pod="demo-1",
    uid="cafe",
    ordinal=1,
    revision="12345678",
    address="127.20.0.11",
    shared="127.20.0.1",
    store="unix:///run/store.sock",
    key_file="/run/cluster.key",
)


def cluster(text: str = CLUSTER) -> SipCluster:
    (found,) = load_manifests(text)
    assert isinstance(found, SipCluster)
    return found


def pool(text: str = POOL) -> MediaPool:
    (found,) = load_manifests(text)
    assert isinstance(found, MediaPool)
    return found


def test_a_proxy_listens_on_the_shared_address_first_and_on_its_own_for_the_probe() -> None:
    config = proxy_config(cluster(), cluster(), PLACE)
    assert [(one.address, one.port) for one in config.listeners] == [
        ("127.20.0.1", 5060),
        ("127.20.0.1", 5062),
        ("127.20.0.11", 5060),
        ("127.20.0.11", 5062),
    ]
    assert len({one.name for one in config.listeners}) == 4


def test_without_a_shared_address_a_proxy_listens_on_its_own_and_advertises_what_the_world_calls_it() -> None:
    alone = Place(pod="demo-1", uid="u", ordinal=1, revision="r", address="10.0.0.7", advertised="sip.example.test")
    config = proxy_config(cluster(), cluster(), alone)
    assert [(one.address, one.advertised) for one in config.listeners] == [("10.0.0.7", "sip.example.test")] * 2


def test_a_proxy_knows_who_it_is_and_where_its_peers_and_its_store_are() -> None:
    config = proxy_config(cluster(), cluster(), PLACE)
    assert (config.pod.namespace, config.pod.set, config.pod.name, config.pod.ordinal) == ("voice", "demo", "demo-1", 1)
    assert (config.pod.uid, config.pod.revision) == ("cafe", "12345678")
    assert (config.internal, config.admin) == ("127.20.0.11:5070", "127.20.0.11:9090")
    assert (config.store, config.key_file) == ("unix:///run/store.sock", "/run/cluster.key")


def test_routing_is_that_of_today_and_capacity_that_of_the_revision() -> None:
    changed = CLUSTER.replace("+49", "+33").replace("700", "9000").replace("5062", "5064")
    today = cluster(changed.replace("[example.test]", "[example.test, voice.test]"))
    config = proxy_config(cluster(), today, PLACE)
    assert (config.routes[0].prefix, config.domains) == ("+33", ["example.test", "voice.test"])
    assert (config.capacity, config.listeners[1].port) == (700, 5062)


def test_a_relay_gets_every_interface_on_its_own_address() -> None:
    config = relay_config(pool(), PLACE)
    assert config.interfaces == ["core/127.20.0.11", "access/127.20.0.11"]
    assert (config.ng, config.capacity, config.ports) == ("127.20.0.11:2223", 90, "20000-29999")
    assert (config.timeouts.rtp, config.timeouts.silent, config.timeouts.final) == (20.0, 200.0, 2000.0)


def test_an_interface_has_the_families_of_the_manifest_that_the_place_has_addresses_of() -> None:
    both = pool(POOL.replace("{name: core}", "{name: core, ipFamilies: [IPv6, IPv4]}"))
    place = Place(pod="m-0", uid="u", ordinal=0, revision="r", address="10.0.0.7", address6="2001:db8::7")
    assert relay_config(both, place).interfaces == ["core/2001:db8::7", "core/10.0.0.7", "access/10.0.0.7"]
    assert relay_config(both, PLACE).interfaces == ["core/127.20.0.11", "access/127.20.0.11"]


def test_shared_ports_and_an_advertised_address_are_written_as_the_relay_reads_them() -> None:
    shared = pool(POOL.replace("capacity: 90", "ports: {mode: shared, base: 20000, count: 16}"))
    place = Place(pod="m-0", uid="u", ordinal=0, revision="r", address="10.0.0.7", advertised="192.0.2.9")
    config = relay_config(shared, place)
    assert (config.ports, config.interfaces[0]) == ("shared:16@20000", "core/10.0.0.7!192.0.2.9")


ALL_PODS = Place(
    pod="${POD_NAME}",
    uid="${POD_UID}",
    ordinal=None,
    revision="12345678",
    address="${POD_IP}",
    store="sentinel://:${STORE_PASSWORD}@sipfleet-store:26379/sipfleet",
    key_file="/etc/sipfleet/key/cluster.key",
    slots_file="/etc/sipfleet/slots/slots.json",
)


@pytest.mark.parametrize("address", ["10.0.0.7", "2001:db8::7"])
def test_one_file_of_a_revision_tells_each_pod_who_it_is(address: str) -> None:
    environ = {"POD_NAME": "demo-4", "POD_UID": "6f1c", "POD_IP": address, "STORE_PASSWORD": "s@cret"}
    proxy = parse_config(
        config_text(proxy_config(cluster(), cluster(), replace(ALL_PODS, advertised="198.51.100.9"))),
        ".json",
        ProxyConfig,
        environ,
    )
    assert (proxy.pod.name, proxy.pod.slot, proxy.pod.uid, proxy.pod.object_uid) == ("demo-4", 4, "", "6f1c")
    assert [(one.address, one.advertised) for one in proxy.listeners] == [(address, "198.51.100.9")] * 2
    assert (endpoint(proxy.internal), endpoint(proxy.admin)) == ((address, 5070), (address, 9090))
    assert proxy.store == "sentinel://:s%40cret@sipfleet-store:26379/sipfleet"

    relay = parse_config(config_text(relay_config(pool(), ALL_PODS)), ".json", RelayConfig, environ)
    assert relay.interfaces == [f"core/{address}", f"access/{address}"]
    assert (endpoint(relay.ng), relay.pod.slot) == ((address, 2223), 4)
    assert relay.slots_file == "/etc/sipfleet/slots/slots.json"


def test_no_secret_stands_in_the_text_of_a_revision() -> None:
    assert "${STORE_PASSWORD}" in config_text(proxy_config(cluster(), cluster(), ALL_PODS))


def test_the_programs_read_what_is_written(tmp_path: Path) -> None:
    proxy, relay = proxy_config(cluster(), cluster(), PLACE), relay_config(pool(), PLACE)
    assert parse_config(config_text(proxy), ".json", ProxyConfig) == proxy
    assert parse_config(config_text(relay), ".json", RelayConfig) == relay
