"""Manifests of any kind: nothing but `ManifestError` comes out, and the API server refuses what the models refuse."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cel
import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sipfleet.api import ManifestError, parse_manifests, validated
from tests.unit.api.manifests import CLUSTER, POOL
from tests.unit.api.test_crd import as_json_schema, root

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = "".join(path.read_text() + "\n---\n" for path in sorted((ROOT / "examples").glob("*.yaml")))
SPECS = {
    definition["spec"]["names"]["kind"]: root(definition)["properties"]["spec"]
    for definition in (yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml")))
}


def parse(text: str) -> None:
    lines = []
    try:
        parse_manifests([("text", text)])
    except ManifestError as error:
        lines = error.lines or [""]
    assert all("\n" not in line and "given, allowed" in line for line in lines)


@settings(max_examples=150)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_manifests_or_a_manifest_error(text: str) -> None:
    parse(text)


@settings(max_examples=200)
@given(
    st.integers(0, len(EXAMPLES)),
    st.integers(0, 12),
    st.sampled_from(
        ("", "\n", ": ", "- ", "[", "]", "{", "}", "&a ", "*a", "!!int ", "? ", "|", "'", '"', "\t", "é", "0x", "~")
    ),
)
def test_a_good_manifest_with_a_slip_of_the_finger_is_manifests_or_a_manifest_error(
    place: int, gone: int, put: str
) -> None:
    parse(EXAMPLES[:place] + put + EXAMPLES[place + gone :])


ODD = st.sampled_from(
    (None, True, 0, -1, 1, 3, 7, 65536, 1.5, "", "x", "20%", "127.0.0.1", "range", "UDP", [], {}, ["a"])
)


def paths(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Of every value within."""
    found = [here] if here else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found += paths(child, (*here, key))
    return found


def put(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = new
    return changed


FULL: dict[str, dict[str, Any]] = {
    "SipCluster": {
        "domains": ["a.test", "b.test"],
        "replicas": 1,
        "autoscale": {"min": 1, "max": 3, "freeCapacity": 5, "scaleUp": {"pods": 1}, "scaleDown": {"window": 0}},
        "listeners": [{"name": "a", "port": 5060}, {"name": "b", "transport": "UDP", "port": 5061}],
        "routing": {"routes": [{"name": "a", "domain": "a.test", "prefix": "1", "targets": ["sip:127.0.0.1"]}]},
        "exposure": {"type": "virtualIP", "address": "127.0.0.1"},
        "rollout": {"surge": 1, "drainTimeoutAction": "Cut", "migrateAfter": 3},
        "store": {"managed": {}, "url": "redis://127.0.0.1:6379/0"},
        "version": "1.0",
        "dns": {
            "ttl": 3,
            "zone": "test",
            "rfc2136": {"server": "127.0.0.1", "port": 53, "tsigSecretRef": {"name": "key"}},
            "externalDNS": {},
        },
        "mediaPools": ["a", "b"],
        "capacity": 10,
    },
    "MediaPool": {
        "replicas": 1,
        "autoscale": {"min": 1, "max": 3, "freeCapacity": "20%"},
        "ports": {"mode": "range", "min": 20000, "max": 20100, "base": 30000, "count": 3},
        "interfaces": [{"name": "a", "ipFamilies": ["IPv4", "IPv6"]}, {"name": "b"}],
        "timeouts": {"rtp": 60, "silent": 3600, "final": 10800},
        "exposure": {"type": "auto"},
        "capacity": 10,
    },
}
EITHER = {
    "SipCluster": [
        ([("autoscale",)], [("replicas",)]),
        ([("store", "managed")], [("store", "url")]),
        ([("dns", "rfc2136")], [("dns", "externalDNS")]),
    ],
    "MediaPool": [
        ([("autoscale",)], [("replicas",)]),
        ([("ports", "base"), ("ports", "count")], [("ports", "min"), ("ports", "max"), ("ports", "mode")]),
    ],
}
"""What a spec has to leave out to be a good one: one or the other."""


def without(value: Any, path: tuple[str | int, ...]) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return changed


@st.composite
def specs(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A spec with all that goes together, and then up to two odd values or missing fields in it."""
    kind = draw(st.sampled_from(sorted(FULL)))
    spec = FULL[kind]
    for either in EITHER[kind]:
        left_out = draw(st.sampled_from(either))
        for path in left_out:
            spec = without(spec, path)
        if ("ports", "mode") in left_out:
            spec["ports"]["mode"] = "shared"
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(paths(spec)))
        spec = put(spec, path, draw(ODD)) if draw(st.booleans()) else without(spec, path)
    return kind, spec


def filled(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server makes of a value: nulls dropped, defaults filled in."""
    if isinstance(value, list) and "items" in schema:
        return [filled(child, schema["items"]) for child in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    out = {key: filled(child, schema["properties"].get(key, {})) for key, child in value.items() if child is not None}
    for name, child in schema["properties"].items():
        if name not in out and "default" in child:
            out[name] = filled(copy.deepcopy(child["default"]), child)
    return out


def refused_by_the_server(value: Any, schema: dict[str, Any]) -> bool:
    """Schema, list types and CEL rules, as the API server applies them."""
    if not jsonschema.Draft202012Validator(as_json_schema(schema)).is_valid(value):
        return True
    return _breaks_rules(value, schema)


def _breaks_rules(value: Any, schema: dict[str, Any]) -> bool:
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        keys = schema.get("x-kubernetes-list-map-keys")
        entries = [tuple(entry[key] for key in keys) if keys else entry for entry in value]
        if len(entries) != len(set(entries)):
            return True
    if any(not cel.evaluate(rule["rule"], {"self": value}) for rule in schema.get("x-kubernetes-validations", ())):
        return True
    if isinstance(value, list):
        return any(_breaks_rules(child, schema["items"]) for child in value)
    if isinstance(value, dict):
        return any(_breaks_rules(child, schema["properties"][key]) for key, child in value.items())
    return False


@settings(max_examples=400)
@given(specs())
def test_the_crd_with_its_cel_rules_refuses_just_what_the_models_refuse(given_spec: tuple[str, dict[str, Any]]) -> None:
    kind, spec = given_spec
    manifest = {**(CLUSTER if kind == "SipCluster" else POOL), "spec": spec}
    try:
        validated(manifest)
        accepted = True
    except ManifestError:
        accepted = False
    assert accepted == (not refused_by_the_server(filled(spec, SPECS[kind]), SPECS[kind]))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_api_server_takes_the_examples(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        schema = SPECS[document["kind"]]
        assert not refused_by_the_server(filled(document["spec"], schema), schema)
