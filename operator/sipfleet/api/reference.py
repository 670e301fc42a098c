"""docs/api.md, generated from the models: every field of both kinds with what is allowed and what it means.

python -m sipfleet.api.reference [--check] [FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from .common import API_VERSION
from .crd import KINDS
from .explain import allowed, given
from .schema import Schema, observed_only, structural

HEAD = f"""# SipCluster and MediaPool ({API_VERSION})

Generated from the models of `sipfleet.api` by `python -m sipfleet.api.reference`.

Durations are whole seconds. Fields that are not listed are refused. `examples/` has whole manifests. A manifest that
breaks a rule is refused with the path of the field, what was given and what is allowed, all faults at once.
"""


def render() -> str:
    """The text of docs/api.md."""
    parts = [HEAD]
    for model, names in KINDS:
        whole = structural(model)
        parts.append(f"## {names.kind}\n\n{whole['description']}\n\n### spec\n")
        parts.append("| field | allowed | default | |\n|---|---|---|---|")
        parts += [_row(path, node, parent) for path, node, parent in _fields(whole["properties"]["spec"])]
        rules = list(_rules(whole["properties"]["spec"], "spec"))
        parts.append("\nRules between fields:\n" if rules else "")
        parts += rules
        parts.append("\n### status\n\n| field | |\n|---|---|")
        status = observed_only(whole["properties"]["status"])
        parts += [
            f"| `{path}` | {_cell(node.get('description', ''))} |"
            for path, node, _ in _fields(status)
            if not path.startswith("plan.")
        ]
        parts.append("")
    return "\n".join(parts)


def _fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, Schema]]:
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, node, schema
        yield from _fields(node.get("items", node), f"{path}[]." if "items" in node else f"{path}.")


def _row(path: str, node: Schema, parent: Schema) -> str:
    default = f"`{given(node['default'])}`" if "default" in node and node.get("type") != "object" else ""
    if path.rpartition(".")[2] in parent.get("required", ()):
        default = "required"
    limits = "" if "properties" in node else allowed(node)
    if "items" in node and "properties" not in node["items"]:
        limits += f", each {allowed(node['items'])}"
    return f"| `{path}` | {_cell(limits)} | {default} | {_cell(node.get('description', ''))} |"


def _rules(schema: Schema, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"- `{path}{rule.get('fieldPath', '')}`: {rule['message'].removeprefix('allowed: ')}"
    for name, node in schema.get("properties", {}).items():
        yield from _rules(node.get("items", node), f"{path}.{name}[]" if "items" in node else f"{path}.{name}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sipfleet.api.reference", description="Generate docs/api.md.")
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/api.md"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is stale")
    options = parser.parse_args(arguments)
    if not options.check:
        options.file.write_text(render())
    elif not options.file.exists() or options.file.read_text() != render():
        print(f"{options.file}: stale; run python -m sipfleet.api.reference", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
