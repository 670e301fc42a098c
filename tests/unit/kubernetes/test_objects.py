"""The objects that are applied: what they promise to Kubernetes, and what must never stand in one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sipfleet.api import MediaPool, SipCluster, revision
from sipfleet.kubernetes import names
from sipfleet.kubernetes.objects import config, monitor, protection, services, store
from sipfleet.kubernetes.objects.statefulset import stateful_set
from sipfleet.kubernetes.objects.template import pod_template
from sipfleet.kubernetes.sets import revision_of, wire_manifest
from sipfleet.kubernetes.settings import Settings
from sipfleet.setkey import SetKey

from .scenes import POOL_KEY, SETTINGS, SIP_KEY, UID, Object, cluster, pool

CLUSTER_KEY = "5ec2e7" * 10 + "0123"
PASSWORD = "pa55w0rd" * 6
MANAGED = {"store": {"managed": {}}}


def key_of(resource: SipCluster | MediaPool) -> SetKey:
    return SIP_KEY if isinstance(resource, SipCluster) else POOL_KEY


def template_of(resource: SipCluster | MediaPool, settings: Settings = SETTINGS) -> Object:
    return pod_template(resource, revision(resource), settings)


def everything(exposure: str = "clusterIP", **spec: object) -> list[Object]:
    """All objects of a cluster, a pool and a managed store, the secrets left out."""
    found: list[Object] = []
    given = {"exposure": {"type": exposure}, **spec}
    ranged = {"ports": {"mode": "range", "min": 20000, "max": 29999}} if exposure == "hostNetwork" else {}
    for resource in (cluster(**given), pool(**given, **ranged)):
        key = key_of(resource)
        template, name = template_of(resource), revision(resource)
        url = resource.spec.store.url or store.store_url("voice", "${STORE_PASSWORD}")
        text = config.revision_config(resource, resource, name, url, "", exposure)
        only = resource if isinstance(resource, SipCluster) else None
        found += [
            stateful_set(key, UID, slots=2, partition=0, template=template),
            services.headless_service(key, UID, only),
            config.revision_map(key, UID, name, text, template, wire_manifest(resource)),
            protection.disruption_budget(key, UID),
            protection.network_policy(key, UID, resource, SETTINGS.namespace),
            monitor.metrics_service(key, UID),
            monitor.service_monitor(key, UID),
        ]
        if exposure != "hostNetwork" and isinstance(resource, SipCluster):
            found.append(services.sip_service(key, UID, resource, exposure))
        elif exposure != "hostNetwork" and isinstance(resource, MediaPool):
            found.append(services.slot_service(key, UID, resource, exposure, 1))
            found.append(config.slots_map(key, UID, {0: "10.96.0.7", 1: "10.96.0.8"}))
    owners = [store.owner_references(SIP_KEY, UID)]
    return found + store.store_objects("voice", owners, SETTINGS)


def values(found: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf of an object with its path."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from values(value, *path, name)
    elif isinstance(found, list):
        for value in found:
            yield from values(value, *path)
    else:
        yield path, found


# -- all of them


@pytest.mark.parametrize("exposure", ["clusterIP", "loadBalancer", "hostNetwork"])
def test_every_object_says_whose_it_is_and_goes_with_its_owner(exposure: str) -> None:
    for body in everything(exposure):
        metadata = body["metadata"]
        assert metadata["namespace"] == "voice"
        assert metadata["labels"][names.MANAGED_BY] == "sipfleet", metadata["name"]
        assert metadata["ownerReferences"][0]["uid"] == UID, metadata["name"]


def test_an_object_has_one_controller_and_the_shared_store_has_none() -> None:
    for body in everything():
        controllers = [one for one in body["metadata"]["ownerReferences"] if one["controller"]]
        assert len(controllers) == (0 if body["metadata"]["name"].startswith(store.NAME) else 1)


def test_labels_annotations_and_environment_are_text_also_where_yaml_would_see_a_boolean() -> None:
    for body in everything():
        for path, value in values(body):
            if {"labels", "matchLabels", "annotations", "selector", "data"} & set(path[:-1]) or path[-2:] == (
                "env",
                "value",
            ):
                assert isinstance(value, str), path
        assert yaml.safe_load(yaml.safe_dump(body)) == body


def test_no_field_of_an_object_has_a_name_that_yaml_takes_for_a_boolean() -> None:
    for body in everything():
        for path, _ in values(body):
            assert not {"y", "n", "yes", "no", "on", "off"} & set(path), path


def test_no_secret_stands_in_anything_but_a_secret() -> None:
    secrets = [config.key_secret(SIP_KEY, UID, CLUSTER_KEY), store.password_secret("voice", PASSWORD)]
    assert all(one["kind"] == "Secret" for one in secrets)
    assert CLUSTER_KEY in json.dumps(secrets[0])
    assert PASSWORD in json.dumps(secrets[1])
    rest = json.dumps(everything(**MANAGED))
    assert CLUSTER_KEY not in rest
    assert PASSWORD not in rest
    assert "${STORE_PASSWORD}" in rest, "the URL of the store stands there without its password"


def test_a_managed_stores_password_reaches_the_programs_from_its_secret_alone() -> None:
    container = template_of(cluster(**MANAGED))["spec"]["containers"][0]
    given = {one["name"]: one for one in container["env"]}
    assert given["STORE_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == names.STORE_SECRET
    own = template_of(cluster(store={"url": "redis://redis.voice:6379"}))["spec"]["containers"][0]
    assert "STORE_PASSWORD" not in {one["name"] for one in own["env"]}


# -- pods


def pod_specs() -> list[Object]:
    return [body["spec"]["template"]["spec"] for body in everything() if body["kind"] == "StatefulSet"]


def test_every_pod_passes_the_restricted_pod_security_profile() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    allowed = {"configMap", "emptyDir", "secret", "projected", "downwardAPI", "persistentVolumeClaim", "csi"}
    specs = pod_specs()
    assert len(specs) == 3
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] != 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.get("hostNetwork")
        assert "hostPID" not in spec
        assert "hostIPC" not in spec
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= allowed
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "hostPort" not in [name for port in container["ports"] for name in port]


def test_no_pod_can_write_to_its_root_or_speak_to_the_api_server() -> None:
    for spec in pod_specs():
        assert spec["automountServiceAccountToken"] is False
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in spec["containers"])


def test_only_what_is_on_host_network_leaves_the_restricted_profile() -> None:
    spec = template_of(cluster(exposure={"type": "hostNetwork"}))["spec"]
    assert spec["hostNetwork"] is True
    assert spec["dnsPolicy"] == "ClusterFirstWithHostNet"


def test_a_pod_asks_for_cpu_and_has_no_limit() -> None:
    for resource in (cluster(), pool()):
        resources = template_of(resource)["spec"]["containers"][0]["resources"]
        assert set(resources) == {"requests"}
        assert set(resources["requests"]) == {"cpu", "memory"}


def test_a_pod_has_the_longest_drain_and_thirty_seconds_to_end() -> None:
    assert template_of(pool())["spec"]["terminationGracePeriodSeconds"] == 10830
    shorter = pool(rollout={"drainTimeout": 600})
    assert template_of(shorter)["spec"]["terminationGracePeriodSeconds"] == 630


def test_a_pod_begins_listed_reached_and_protected_and_is_found_by_its_sets_selector() -> None:
    for resource in (cluster(), pool()):
        labels = template_of(resource)["metadata"]["labels"]
        assert labels[names.LISTED] == "true"
        assert labels[names.TRAFFIC] == "on"
        assert labels[names.PROTECTED] == "true"
        assert labels[names.REVISION] == revision(resource)
        assert names.selector(key_of(resource)).items() <= labels.items()


def test_a_node_that_does_not_answer_keeps_its_pods_until_the_planner_says_otherwise() -> None:
    tolerated = {one["key"]: one for one in template_of(pool())["spec"]["tolerations"]}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        assert tolerated[key]["effect"] == "NoExecute"
        assert "tolerationSeconds" not in tolerated[key]


def test_pods_of_one_set_are_spread_over_nodes_and_zones_and_are_placed_all_the_same() -> None:
    spread = template_of(pool())["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert all(one["whenUnsatisfiable"] == "ScheduleAnyway" for one in spread)


def test_ready_and_live_are_asked_on_the_admin_port() -> None:
    container = template_of(pool())["spec"]["containers"][0]
    assert {one["name"]: one["containerPort"] for one in container["ports"]}["admin"] == 9091
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_a_proxy_and_a_relay_on_host_network_fit_on_one_node() -> None:
    taken = [
        {(one["protocol"], one["containerPort"]) for one in template_of(made)["spec"]["containers"][0]["ports"]}
        for made in (cluster(), pool())
    ]
    assert not taken[0] & taken[1]


def test_a_program_learns_from_the_pod_what_stands_in_its_configuration_as_a_placeholder() -> None:
    for body in everything():
        if body["kind"] != "ConfigMap" or config.CONFIG not in body["data"]:
            continue
        template = json.loads(body["data"][config.TEMPLATE])
        known = {one["name"] for one in template["spec"]["containers"][0]["env"]}
        text = body["data"][config.CONFIG]
        used = {part.partition("}")[0] for part in text.split("${")[1:]}
        assert used
        assert used <= known


def test_the_version_of_the_manifest_is_the_tag_of_the_image() -> None:
    settings = Settings(proxy_image="registry.example/sipproxy", image_tag="0.1.0")
    image = template_of(cluster(version="0.2.0"), settings)["spec"]["containers"][0]["image"]
    assert image == "registry.example/sipproxy:0.2.0"
    assert template_of(cluster(), settings)["spec"]["containers"][0]["image"] == "registry.example/sipproxy:0.1.0"


# -- revisions


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 7},
        {"replicas": None, "autoscale": {"min": 1, "max": 4, "freeCapacity": 10}},
        {"domains": ["other.test"]},
        {"routing": {"routes": [{"name": "all", "domain": "example.test", "targets": ["sip:192.0.2.7"]}]}},
        {"rollout": {"surge": 3}},
        {"dns": {"ttl": 5}},
    ],
)
def test_what_changes_in_place_changes_neither_revision_nor_template(change: dict[str, object]) -> None:
    before, after = cluster(), cluster(**change)
    assert revision(after) == revision(before)
    assert template_of(after) == template_of(before)


def test_a_template_comes_from_manifest_and_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = template_of(pool(version="0.2.0"))
    monkeypatch.setattr(os, "environ", {"POD_NAME": "another", "TZ": "Asia/Tokyo", "SIPFLEET_RELAY_IMAGE": "x"})
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr("secrets.token_hex", lambda _: "00")
    again = template_of(pool(version="0.2.0"))
    assert json.dumps(again) == json.dumps(first), "in the same order too: it is kept as text"
    assert UID not in json.dumps(first)


def test_what_is_kept_of_a_revision_is_what_it_was_made_of() -> None:
    for resource in (cluster(version="0.2.0", capacity=77), pool(version="0.2.0")):
        name, template = revision(resource), template_of(resource)
        manifest = wire_manifest(resource)
        kept = revision_of(config.revision_map(key_of(resource), UID, name, "{}", template, manifest))
        assert kept is not None
        assert kept.name == name
        assert kept.template == template
        assert kept.resource is not None
        assert revision(kept.resource) == name
        assert kept.resource.spec == resource.spec


def test_the_map_of_slots_and_one_that_is_broken_keep_no_revision() -> None:
    assert revision_of(config.slots_map(POOL_KEY, UID, {0: "10.0.0.1"})) is None
    body = config.revision_map(POOL_KEY, UID, "a", "{}", {}, wire_manifest(pool()))
    body["data"][config.TEMPLATE] = "{"
    assert revision_of(body) is None


def test_a_manifest_that_this_release_does_not_take_any_more_keeps_its_template() -> None:
    manifest = wire_manifest(pool())
    manifest["spec"]["ports"] = {"mode": "none"}
    kept = revision_of(config.revision_map(POOL_KEY, UID, "a", "{}", {"spec": {}}, manifest))
    assert kept is not None
    assert kept.resource is None
    assert kept.template == {"spec": {}}


def test_one_configuration_is_for_all_pods_and_names_none() -> None:
    text = config.revision_config(pool(), pool(), "abc", "redis://redis.voice:6379", "", "clusterIP")
    read = json.loads(text)
    assert "media-0" not in text
    assert (read["pod"]["name"], read["pod"]["object_uid"]) == ("${POD_NAME}", "${POD_UID}")
    assert read["slots_file"] == "/etc/sipfleet/slots/slots.json"


def test_a_relay_on_host_network_has_its_own_address_and_no_slots() -> None:
    host = pool(exposure={"type": "hostNetwork"}, ports={"mode": "range", "min": 20000, "max": 29999})
    read = json.loads(config.revision_config(host, host, "abc", "none", "", "hostNetwork"))
    assert "slots_file" not in read


def test_todays_routes_stand_in_the_configuration_of_an_older_revision() -> None:
    old, today = cluster(capacity=5), cluster(capacity=9, domains=["new.test"])
    read = json.loads(config.revision_config(old, today, "abc", "none", "198.51.100.7", "loadBalancer"))
    assert (read["capacity"], read["domains"]) == (5, ["new.test"])
    assert read["listeners"][0]["advertised"] == "198.51.100.7"


def test_slots_are_written_in_their_order_so_that_the_same_addresses_are_the_same_text() -> None:
    one = config.slots_map(POOL_KEY, UID, {10: "c", 2: "b", 0: "a"})
    other = config.slots_map(POOL_KEY, UID, {0: "a", 2: "b", 10: "c"})
    assert one == other
    assert json.loads(one["data"]["slots.json"]) == {"0": "a", "2": "b", "10": "c"}


# -- StatefulSet


def test_a_stateful_set_starts_pods_together_and_rolls_none_below_its_partition() -> None:
    spec = stateful_set(POOL_KEY, UID, slots=5, partition=3, template={"metadata": {}})["spec"]
    assert spec["replicas"] == 5
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
    assert spec["serviceName"] == "media"


def test_a_stateful_sets_selector_holds_nothing_that_may_change() -> None:
    selector = stateful_set(SIP_KEY, UID, slots=1, partition=0, template={})["spec"]["selector"]["matchLabels"]
    assert selector == {names.KIND: "SipCluster", names.SET: "demo"}


# -- Services


def test_the_headless_service_names_listed_pods_only() -> None:
    spec = services.headless_service(SIP_KEY, UID, cluster())["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["selector"] == {**names.selector(SIP_KEY), names.LISTED: "true"}
    assert [(one["name"], one["protocol"], one["port"]) for one in spec["ports"]] == [("sip", "UDP", 5060)]


def test_metrics_are_those_of_all_pods_also_of_draining_ones() -> None:
    for resource in (cluster(), pool()):
        key = key_of(resource)
        service, found = monitor.metrics_service(key, UID), monitor.service_monitor(key, UID)
        assert service["spec"]["selector"] == names.selector(key)
        assert found["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        [port], [endpoint] = service["spec"]["ports"], found["spec"]["endpoints"]
        assert (port["name"], port["port"]) == (endpoint["port"], names.ADMIN_PORTS[key.kind])
        selected = found["spec"]["selector"]["matchLabels"].items()
        ports = [
            one["name"]
            for body in everything()
            if body["kind"] == "Service" and selected <= body["metadata"]["labels"].items()
            for one in body["spec"]["ports"]
        ]
        assert ports.count(port["name"]) == 1


def test_packets_go_on_to_a_draining_pod() -> None:
    spec = services.sip_service(SIP_KEY, UID, cluster(), "clusterIP")["spec"]
    assert spec["selector"] == {**names.selector(SIP_KEY), names.TRAFFIC: "on"}
    assert names.LISTED not in spec["selector"]


def test_each_listener_has_its_port_and_the_first_is_called_sip() -> None:
    listeners = [
        {"name": "high", "transport": "UDP", "port": 5090},
        {"name": "low", "transport": "UDP", "port": 5060},
    ]
    ports = services.sip_service(SIP_KEY, UID, cluster(listeners=listeners), "clusterIP")["spec"]["ports"]
    assert [(one["name"], one["port"]) for one in ports] == [("sip", 5060), ("sip-1", 5090)]


def test_behind_a_load_balancer_the_clients_own_address_arrives() -> None:
    for body in (
        services.sip_service(SIP_KEY, UID, cluster(), "loadBalancer"),
        services.slot_service(POOL_KEY, UID, pool(), "loadBalancer", 0),
    ):
        assert body["spec"]["type"] == "LoadBalancer"
        assert body["spec"]["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in services.sip_service(SIP_KEY, UID, cluster(), "clusterIP")["spec"]


def test_an_address_that_the_user_names_is_asked_of_the_load_balancer() -> None:
    named = cluster(exposure={"type": "loadBalancer", "address": "198.51.100.7"})
    assert services.sip_service(SIP_KEY, UID, named, "loadBalancer")["spec"]["loadBalancerIP"] == "198.51.100.7"


def test_a_media_slots_service_finds_the_pod_in_the_slot_whichever_it_is() -> None:
    body = services.slot_service(POOL_KEY, UID, pool(), "clusterIP", 3)
    assert body["metadata"]["name"] == "media-3"
    assert body["spec"]["selector"][names.POD_NAME] == "media-3"
    ports = [(one["name"], one["port"]) for one in body["spec"]["ports"]]
    assert ports == [("rtp-0", 30000), ("rtcp-0", 30001), ("rtp-1", 30002), ("rtcp-1", 30003)]


def test_a_service_has_an_address_when_somebody_gave_it_one() -> None:
    assert services.address_of(None, "clusterIP") is None
    assert services.address_of({"spec": {"clusterIP": "10.96.0.7"}}, "clusterIP") == "10.96.0.7"
    assert services.address_of({"spec": {"clusterIP": "None"}}, "clusterIP") is None
    pending = {"spec": {"clusterIP": "10.96.0.7"}, "status": {"loadBalancer": {}}}
    assert services.address_of(pending, "loadBalancer") is None
    given = {"status": {"loadBalancer": {"ingress": [{"hostname": "x"}, {"ip": "198.51.100.7"}]}}}
    assert services.address_of(given, "loadBalancer") == "198.51.100.7"


# -- protection


def test_no_pod_that_may_carry_calls_is_evicted() -> None:
    spec = protection.disruption_budget(POOL_KEY, UID)["spec"]
    assert spec["maxUnavailable"] == 0
    assert spec["selector"]["matchLabels"][names.PROTECTED] == "true"


def ingress(resource: SipCluster | MediaPool) -> dict[tuple[str, int], list[Object] | None]:
    """Who may reach (protocol, port); None: anybody."""
    spec = protection.network_policy(key_of(resource), UID, resource, "operators")["spec"]
    return {
        (port["protocol"], port["port"]): rule.get("from") for rule in spec["ingress"] for port in rule.get("ports", [])
    }


def test_the_world_reaches_sip_and_media_and_nothing_else() -> None:
    assert [port for port, who in ingress(cluster()).items() if who is None] == [("UDP", 5060)]
    assert [port for port, who in ingress(pool()).items() if who is None] == [("UDP", 30000)]
    rule = protection.network_policy(POOL_KEY, UID, pool(), "operators")["spec"]["ingress"][0]
    assert rule["ports"] == [{"protocol": "UDP", "port": 30000, "endPort": 30003}]


def test_relays_take_orders_from_proxies_of_their_namespace_and_from_the_operator() -> None:
    who = ingress(pool())[("UDP", 2223)]
    assert who is not None
    assert {"podSelector": {"matchLabels": {names.APP_NAME: "sipproxy"}}} in who
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "operators"}}} in who
    assert len(who) == 2


def test_each_port_of_a_pod_has_a_rule() -> None:
    for resource in (cluster(), pool()):
        ports = template_of(resource)["spec"]["containers"][0]["ports"]
        rules = ingress(resource)
        for one in ports:
            assert (one["protocol"], one["containerPort"]) in rules, one["name"]


# -- managed store


def store_object(kind: str) -> Object:
    found = store.store_objects("voice", [store.owner_references(SIP_KEY, UID)], SETTINGS)
    return next(one for one in found if one["kind"] == kind)


def test_the_store_has_three_members_on_different_nodes_with_a_volume_each() -> None:
    spec = store_object("StatefulSet")["spec"]
    assert spec["replicas"] == 3
    rule = spec["template"]["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]
    assert rule["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == "data"


def test_one_member_of_the_store_may_be_away_and_no_second_one() -> None:
    assert store_object("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_change_of_the_stores_files_rolls_its_pods_and_another_operator_does_not() -> None:
    def mark(settings: Settings) -> str:
        found = store.store_objects("voice", [], settings)
        body = next(one for one in found if one["kind"] == "StatefulSet")
        return json.dumps(body["spec"]["template"])

    assert mark(Settings(image_tag="1")) == mark(Settings(image_tag="2"))


def test_a_stores_url_names_all_sentinels_and_takes_any_password() -> None:
    url = store.store_url("voice", store.encoded("a/b@c:d%"))
    assert url.startswith("sentinel://:a%2Fb%40c%3Ad%25@sipfleet-store-0.sipfleet-store.voice.svc:26379,")
    assert url.endswith(",sipfleet-store-2.sipfleet-store.voice.svc:26379/sipfleet")


def test_services_of_media_slots_are_told_from_the_others() -> None:
    made = [
        services.slot_name(POOL_KEY, 0),
        services.slot_name(POOL_KEY, 12),
        POOL_KEY.name,
        f"{POOL_KEY.name}-udp",
        "x-1",
    ]
    assert services.slots_of(POOL_KEY, made) == {f"{POOL_KEY.name}-0", f"{POOL_KEY.name}-12"}


def test_a_media_slot_keeps_its_endpoint_while_its_pod_ends_with_calls_on_it() -> None:
    body = services.slot_service(POOL_KEY, UID, pool(), "loadBalancer", 0)
    assert body["spec"]["publishNotReadyAddresses"] is True
    assert body["spec"]["selector"][names.TRAFFIC] == "on"
