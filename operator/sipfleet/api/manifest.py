"""Manifests: YAML in, resources out, or every fault at once (`ManifestError`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .common import API_VERSION
from .errors import Fault, ManifestError
from .explain import Path as FieldPath
from .explain import dotted, explain, given
from .mediapool import MediaPool
from .schema import without_nulls
from .sipcluster import SipCluster

MODELS: dict[str, type[SipCluster] | type[MediaPool]] = {"SipCluster": SipCluster, "MediaPool": MediaPool}
LONGEST = 1_000_000
"""Characters of one file."""
MOST_NODES = 100_000
"""Values of one document, aliases written out."""
DEEPEST = 40
"""Levels of nesting of one document."""
BAD_VALUES = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What PyYAML raises when it makes Python values of YAML tags."""


@dataclass(frozen=True, slots=True)
class _Document:
    source: str
    node: Node | None
    """None where the manifest does not come from text."""
    value: Any

    def line(self, path: FieldPath = ()) -> int | None:
        """The line of the field at `path`, or of the nearest that is there."""
        node = self.node
        if node is None:
            return None
        mark = node.start_mark
        for part in path:
            entry = _child(node, part)
            if entry is None:
                break
            mark, node = entry
        return int(mark.line) + 1

    @property
    def label(self) -> str:
        """`SipCluster/demo`, as far as it is known."""
        if not isinstance(self.value, dict):
            return ""
        metadata = self.value.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return "/".join(str(part)[:50] for part in (self.value.get("kind"), name) if isinstance(part, str))

    def fault(self, path: FieldPath, what: str, allowed: str) -> Fault:
        return Fault(self.source, self.line(path), self.label, dotted(path), what, allowed)


def load_manifests(source: str | Path | Iterable[Path]) -> list[SipCluster | MediaPool]:
    """Resources from YAML text (`str`), a file (`Path`), or several files, in their order.

    Raises `ManifestError` with all faults of all documents; a file that cannot be read is one.
    """
    if isinstance(source, str):
        return parse_manifests([("-", source)])
    texts, faults = [], []
    for path in [source] if isinstance(source, Path) else source:
        try:
            texts.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            faults.append(Fault(str(path), None, "", "", str(reason), "a readable file of YAML"))
    return parse_manifests(texts, faults)


def parse_manifests(texts: Iterable[tuple[str, str]], faults: Iterable[Fault] = ()) -> list[SipCluster | MediaPool]:
    """Resources from (name of the source, YAML text) pairs; `faults` are reported beside those found here.

    Raises `ManifestError`.
    """
    found: list[SipCluster | MediaPool] = []
    problems = list(faults)
    places: dict[tuple[str, str, str], str] = {}
    for source, text in texts:
        for item in _documents(source, text):
            if isinstance(item, Fault):
                problems.append(item)
                continue
            resource, wrong = _resource(item)
            problems += wrong
            if resource is None:
                continue
            key = (resource.kind, resource.namespace, resource.name)
            place = f"{source}:{item.line()}"
            if key in places:
                problems.append(
                    item.fault(("metadata", "name"), given(resource.name), f"a name that {places[key]} has not")
                )
            places.setdefault(key, place)
            found.append(resource)
    if problems:
        raise ManifestError(problems)
    return found


def validated(wire: dict[str, Any]) -> SipCluster | MediaPool:
    """A resource from a manifest that is already parsed, such as an API server gives.

    Raises `ManifestError`.
    """
    resource, faults = _resource(_Document("", None, wire))
    if resource is None:
        raise ManifestError(faults)
    return resource


def _documents(source: str, text: str) -> Iterator[_Document | Fault]:
    """The documents of a text up to where it stops being YAML; empty ones are left out."""
    if len(text) > LONGEST:
        yield Fault(source, None, "", "", f"{len(text)} characters", f"at most {LONGEST}")
        return
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:  # characters that YAML does not have
        yield _yaml_fault(source, error)
        return
    while True:
        try:
            if not loader.check_node():
                return
            node = loader.get_node()
        except yaml.YAMLError as error:
            yield _yaml_fault(source, error)
            return
        except (
            RecursionError,
            ValueError,
            IndexError,
        ) as error:  # nested too deep; `%YAML 1.99999`, escapes beyond Unicode
            yield Fault(source, None, "", "", type(error).__name__, f"YAML of at most {DEEPEST} levels")
            return
        if node is None:
            continue
        faults = list(_unfit(source, node))
        yield from faults
        if faults:
            continue
        try:
            value = yaml.constructor.SafeConstructor().construct_document(node)
        except BAD_VALUES as error:
            yield _yaml_fault(source, error, node)
            continue
        if value is not None:
            yield _Document(source, node, value)


def _yaml_fault(source: str, error: BaseException, node: Node | None = None) -> Fault:
    mark = getattr(error, "problem_mark", None) or (node.start_mark if node is not None else None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    if isinstance(error, TypeError | LookupError | AttributeError):  # PyYAML stumbled; its words mean nothing to users
        problem = "a value that is not what its tag says"
    what = " ".join(str(problem).split())[:200]
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
    return Fault(source, line, "", "", what, "well-formed YAML", column)


def _unfit(source: str, root: Node) -> Iterator[Fault]:
    """What YAML allows and a manifest does not: keys twice, and aliases that make a document endless or huge."""
    sizes: dict[int, int] = {}
    on_the_way: set[int] = set()

    def size(node: Node, depth: int) -> int:
        if id(node) in on_the_way or depth > DEEPEST:
            raise RecursionError
        if id(node) not in sizes:
            on_the_way.add(id(node))
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
            on_the_way.discard(id(node))
        return sizes[id(node)]

    try:
        total = size(root, 0)
    except RecursionError:
        yield Fault(source, root.start_mark.line + 1, "", "", "endless or deep nesting", f"at most {DEEPEST} levels")
        return
    if total > MOST_NODES:
        yield Fault(source, root.start_mark.line + 1, "", "", f"{total} values", f"at most {MOST_NODES}")
        return
    yield from _double_keys(source, root, set())


def _double_keys(source: str, node: Node, done: set[int]) -> Iterator[Fault]:
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.value in seen and key.value != "<<":
                    mark = key.start_mark
                    yield Fault(
                        source, mark.line + 1, "", key.value[:50], "the field twice", "each field once", mark.column + 1
                    )
                seen.add(key.value)
    for child in _children(node):
        yield from _double_keys(source, child, done)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def _child(node: Node, part: str | int) -> tuple[Any, Node] | None:
    if isinstance(node, MappingNode):
        return next(((key.start_mark, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark, node.value[part]
    return None


def _resource(document: _Document) -> tuple[SipCluster | MediaPool | None, list[Fault]]:
    if not isinstance(document.value, dict):
        return None, [document.fault((), given(document.value), "a manifest: apiVersion, kind, metadata, spec")]
    value = {key: child for key, child in without_nulls(document.value).items() if key != "status"}
    faults = []
    kind = value.get("kind")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        faults.append(document.fault(("kind",), given(kind) if kind else "nothing", " or ".join(MODELS)))
    version = value.get("apiVersion")
    if version != API_VERSION:
        faults.append(document.fault(("apiVersion",), given(version) if version else "nothing", API_VERSION))
        value["apiVersion"] = API_VERSION
    if model is None:
        return None, faults
    try:
        resource = model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        wrong = explain(error.errors(include_url=False), model)
        faults += [document.fault(path, what, allowed) for path, what, allowed in wrong]
        return None, sorted(faults, key=lambda fault: fault.line or 0)
    return (None if faults else resource), faults
