"""The CustomResourceDefinitions, generated from the models.

    python -m sipfleet.api.crd [--check] [DIRECTORY ...]

writes one file per kind into each DIRECTORY (`crds`, and the chart that installs them), or with `--check` exits 1 when
a file is not what the models say.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .common import GROUP, VERSION_NAME, Resource
from .fields import DNS_LABEL
from .mediapool import MediaPool
from .schema import Schema, observed_only, structural
from .sipcluster import SipCluster

HEADER = "# Generated from the models of sipfleet.api by `python -m sipfleet.api.crd`: change those, not this.\n"
NAME_LENGTH = 50
DIRECTORIES = (Path("crds"), Path("charts/sipfleet-crds/files"))


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind is called on the command line."""

    kind: str
    singular: str
    plural: str
    short: str
    calls: str
    """The field of `status` that counts calls."""


KINDS: tuple[tuple[type[Resource], Names], ...] = (
    (SipCluster, Names("SipCluster", "sipcluster", "sipclusters", "sipc", "activeDialogs")),
    (MediaPool, Names("MediaPool", "mediapool", "mediapools", "mp", "activeSessions")),
)


def crd(model: type[Resource], names: Names) -> dict[str, Any]:
    """The CustomResourceDefinition (apiextensions.k8s.io/v1) of a model."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "singular": names.singular,
                "plural": names.plural,
                "shortNames": [names.short],
                "categories": ["sipfleet"],
            },
            "versions": [
                {
                    "name": VERSION_NAME,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object(model)},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _columns(names),
                }
            ],
        },
    }


def _object(model: type[Resource]) -> Schema:
    whole = structural(model)
    spec = {key: value for key, value in whole["properties"]["spec"].items() if key != "default"}
    return {
        "description": whole["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "pattern": DNS_LABEL, "maxLength": NAME_LENGTH}},
            },
            "spec": spec,
            "status": observed_only(whole["properties"]["status"]),
        },
    }


def _columns(names: Names) -> list[dict[str, Any]]:
    return [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Pods", "type": "integer", "jsonPath": ".status.readyReplicas"},
        {"name": "Calls", "type": "integer", "jsonPath": f".status.{names.calls}"},
        {"name": "Free", "type": "integer", "jsonPath": ".status.freeCapacity"},
        {"name": "Version", "type": "string", "jsonPath": ".status.version"},
        {"name": "Address", "type": "string", "jsonPath": ".status.address"},
        {"name": "Wanted", "type": "integer", "jsonPath": ".status.desiredReplicas", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> dict[str, str]:
    """File name -> text of every CRD."""
    return {
        f"{GROUP}_{names.plural}.yaml": HEADER
        + yaml.dump(crd(model, names), Dumper=_NoAliases, sort_keys=False, width=118, allow_unicode=True)
        for model, names in KINDS
    }


def stale(directory: Path) -> list[str]:
    """Names of the files in `directory` that are missing, differ, or belong to no kind."""
    wanted = render()
    found = {path.name: path.read_text() for path in directory.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sipfleet.api.crd", description="Generate the CRDs from the models."
    )
    parser.add_argument("directories", nargs="*", type=Path, default=DIRECTORIES, metavar="DIRECTORY")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    options = parser.parse_args(arguments)
    if options.check:
        bad = [directory / name for directory in options.directories for name in stale(directory)]
        for path in bad:
            print(f"{path}: stale; run python -m sipfleet.api.crd {path.parent}", file=sys.stderr)
        return 1 if bad else 0
    for directory in options.directories:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in render().items():
            (directory / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
