"""The CRDs: generated, current, and structural by the rules that the API server checks when they are installed.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from sipfleet.api.crd import KINDS, crd, main, stale
from sipfleet.api.schema import structural

ROOT = Path(__file__).resolve().parents[3]
CRDS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
KNOWN = {
    "description",
    "type",
    "format",
    "default",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
}
TYPES = {"object", "array", "string", "integer", "number", "boolean"}
FORMATS = {"int32", "int64", "double"}


def root(definition: dict[str, Any]) -> dict[str, Any]:
    (version,) = definition["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


ALL_NODES = [
    pytest.param(node, id=f"{definition['spec']['names']['kind']}{path}")
    for definition in CRDS
    for path, node in nodes(root(definition))
]


def as_json_schema(node: dict[str, Any]) -> dict[str, Any]:
    """The same for a validator of plain JSON Schema."""
    out = {key: value for key, value in node.items() if key in KNOWN and key not in ("properties", "items", "format")}
    if node.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if "properties" in node:
        out["properties"] = {name: as_json_schema(child) for name, child in node["properties"].items()}
        out["additionalProperties"] = False
    if "items" in node:
        out["items"] = as_json_schema(node["items"])
    if "additionalProperties" in node:
        out["additionalProperties"] = as_json_schema(node["additionalProperties"])
    return out


def test_the_files_are_what_the_models_say() -> None:
    assert not stale(ROOT / "crds"), "run python -m sipfleet.api.crd"


def test_the_check_finds_a_stale_a_missing_and_a_foreign_file(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "sipfleet.io_mediapools.yaml").write_text("old")
    (tmp_path / "sipfleet.io_sipclusters.yaml").unlink()
    (tmp_path / "sipfleet.io_others.yaml").write_text("new")
    assert stale(tmp_path) == [f"sipfleet.io_{name}.yaml" for name in ("mediapools", "others", "sipclusters")]
    assert main(["--check", str(tmp_path)]) == 1


def test_it_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "sipfleet.api.crd", "--check", str(ROOT / "crds")]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("node", ALL_NODES)
def test_every_part_of_a_schema_is_structural(node: dict[str, Any]) -> None:
    assert node.keys() <= KNOWN
    if node.get("x-kubernetes-int-or-string"):
        assert "type" not in node
    else:
        assert node["type"] in TYPES
    assert node.get("format", "int32") in FORMATS
    assert not ("properties" in node and "additionalProperties" in node)
    assert ("items" in node) == (node.get("type") == "array")
    assert set(node.get("required", ())) <= node.get("properties", {}).keys()
    if "pattern" in node:
        assert re.fullmatch(r"[^?]*(\?(:|[^=!<P])[^?]*)*\??.*", node["pattern"]), "RE2 has no look-around"
        re.compile(node["pattern"])


@pytest.mark.parametrize("node", ALL_NODES)
def test_a_list_of_different_entries_says_what_makes_them_differ(node: dict[str, Any]) -> None:
    kind = node.get("x-kubernetes-list-type")
    if kind == "map":
        items = node["items"]
        for key in node["x-kubernetes-list-map-keys"]:
            assert items["properties"][key]["type"] == "string"
            assert key in items.get("required", ()) or "default" in items["properties"][key]
    elif kind == "set":
        assert node["items"]["type"] == "string"
    else:
        assert kind is None


@pytest.mark.parametrize("node", ALL_NODES)
def test_a_default_is_allowed_by_its_own_schema(node: dict[str, Any]) -> None:
    if "default" in node:
        jsonschema.validate(node["default"], as_json_schema(node))


@pytest.mark.parametrize("node", ALL_NODES)
def test_a_cel_rule_blames_a_field_that_is_there_and_what_it_walks_is_bounded(node: dict[str, Any]) -> None:
    for rule in node.get("x-kubernetes-validations", ()):
        assert rule["rule"]
        assert rule["message"].startswith("allowed: ")
        assert "\n" not in rule["message"]
        blamed = node
        for part in rule.get("fieldPath", "").split(".")[1:]:
            blamed = blamed["properties"][part]
        for walked in re.findall(r"self((?:\.\w+)+)\.(?:all|exists|exists_one)\(", rule["rule"]):
            bounded = node
            for part in walked.split(".")[1:]:
                bounded = bounded["properties"][part]
            assert bounded["maxItems"] <= 128


def test_the_api_server_can_bound_the_cost_of_every_text_in_spec() -> None:
    for definition in CRDS:
        for path, node in nodes(root(definition)["properties"]["spec"]):
            if node.get("type") == "string":
                assert "enum" in node or "maxLength" in node, path
            if node.get("type") == "array":
                assert "maxItems" in node, path


def test_subresources_names_and_columns() -> None:
    for definition in CRDS:
        names, (version,) = definition["spec"]["names"], definition["spec"]["versions"]
        assert definition["metadata"]["name"] == f"{names['plural']}.sipfleet.io"
        assert version["subresources"]["status"] == {}
        paths = version["subresources"]["scale"]
        for path in paths.values():
            node = root(definition)
            for part in path.split(".")[1:]:
                node = node["properties"][part]
        assert set(paths) == {"specReplicasPath", "statusReplicasPath", "labelSelectorPath"}
        columns = {column["name"]: column["jsonPath"] for column in version["additionalPrinterColumns"]}
        assert {"Ready", "Calls", "Free", "Version", "Address"} <= columns.keys()
        for path in (path for path in columns.values() if not path.startswith(".metadata")):
            node = root(definition)
            for part in re.sub(r"\[[^]]*\]", ".[]", path).split(".")[1:]:
                node = node["items"] if part == "[]" else node["properties"][part]
            assert node["type"] in ("string", "integer")


def test_replicas_has_no_default_and_status_demands_and_fills_in_nothing() -> None:
    for definition in CRDS:
        spec, status = (root(definition)["properties"][part] for part in ("spec", "status"))
        assert "default" not in spec["properties"]["replicas"]
        assert "default" not in spec["properties"]["rollout"]["properties"]["migrateAfter"]
        assert not [path for path, node in nodes(status) if "default" in node]
        demanding = {path for path, node in nodes(status) if "required" in node}
        assert demanding == {".conditions[]"}


def test_every_field_of_a_manifest_is_explained_where_its_name_does_not_say_it_all() -> None:
    plain = {"name", "port"}
    for definition in CRDS:
        for path, node in nodes(root(definition)["properties"]["spec"]):
            last = path.rpartition(".")[2]
            if "[" not in last and last not in plain and path:
                assert node.get("description"), path


def test_a_union_that_no_structural_schema_has_is_refused_when_it_is_generated() -> None:
    class Bad(BaseModel):
        field: int | list[int]

    with pytest.raises(TypeError, match="no union"):
        structural(Bad)


def test_the_documents_are_those_of_both_kinds() -> None:
    assert sorted(names.kind for _, names in KINDS) == ["MediaPool", "SipCluster"]
    assert [crd(model, names)["spec"]["scope"] for model, names in KINDS] == ["Namespaced"] * 2
