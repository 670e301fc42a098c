"""From pydantic's JSON schema to the structural schema that a CustomResourceDefinition takes.

Structural means: no $ref, a type everywhere, no union but int-or-string, nothing that Kubernetes does not know
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

INT32_MAX = 2**31 - 1
KEPT = (
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
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
"""What is carried over, in the order in which it is written."""


@cache
def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, self-contained."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}))


def _convert(raw: Schema, definitions: Schema) -> Schema:
    node = _resolve(raw, definitions)
    if "const" in node:
        node["enum"] = [node["const"]]
    out = {key: node[key] for key in KEPT if key in node}
    if "default" in out and (out := out | {"default": without_nulls(out["default"])})["default"] is None:
        del out["default"]
    if "description" in out:
        out["description"] = " ".join(out["description"].split())
    if out.get("type") == "integer":
        out["format"] = "int32" if node.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    elif out.get("type") == "number":
        out["format"] = "double"
    if "properties" in node:
        out["properties"] = {name: _convert(child, definitions) for name, child in node["properties"].items()}
    if "items" in node:
        out["items"] = _convert(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _convert(node["additionalProperties"], definitions)
    return out


def _resolve(raw: Schema, definitions: Schema) -> Schema:
    """Replace $ref and unions; what stands beside them wins."""
    node = dict(raw)
    if "$ref" in node:
        target = definitions[node.pop("$ref").rpartition("/")[2]]
        node = _resolve(target, definitions) | node
    if "anyOf" in node:
        choices = [_resolve(choice, definitions) for choice in node.pop("anyOf") if choice.get("type") != "null"]
        node = _union(choices) | node
    return node


def _union(choices: list[Schema]) -> Schema:
    if len(choices) == 1:
        return choices[0]
    if {choice.get("type") for choice in choices} != {"integer", "string"}:
        raise TypeError(f"a structural schema has no union of {choices}")
    merged: Schema = {}
    for choice in choices:
        merged |= {
            key: value for key, value in choice.items() if key not in ("type", "anyOf", "x-kubernetes-int-or-string")
        }
    return merged | {"x-kubernetes-int-or-string": True}


def without_nulls(value: Any) -> Any:
    """What Kubernetes makes of nulls: a null field is a field that is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [without_nulls(child) for child in value]
    return value


def observed_only(schema: Schema) -> Schema:
    """A schema of `status`: whoever reads it sees what was written, so nothing is filled in or demanded."""
    out = {key: value for key, value in schema.items() if key not in ("default", "required")}
    if "x-kubernetes-list-map-keys" in out:  # the keys of a list map are demanded by Kubernetes
        items = observed_only(out["items"]) | {"required": out["x-kubernetes-list-map-keys"]}
        return out | {"items": items}
    if "properties" in out:
        out["properties"] = {name: observed_only(child) for name, child in out["properties"].items()}
    if "items" in out:
        out["items"] = observed_only(out["items"])
    return out
