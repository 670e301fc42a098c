"""Manifests from text and files: where a fault stands, and what YAML may not do to us."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipfleet.api import ManifestError, load_manifests, parse_manifests

ROOT = Path(__file__).resolve().parents[3]
POOL = """
apiVersion: sipfleet.io/v1alpha1
kind: MediaPool
metadata: {name: %s}
spec: {replicas: 1}
"""


def lines(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse_manifests([("a.yaml", text)])
    return caught.value.lines


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_a_good_manifest(path: Path) -> None:
    assert {resource.kind for resource in load_manifests(path)} == {"SipCluster", "MediaPool"}


def test_the_example_of_the_readme_says_what_the_readme_says() -> None:
    cluster, pool = load_manifests(ROOT / "examples/cluster.yaml")
    assert (cluster.name, pool.name) == ("demo", "demo-media")
    assert (cluster.spec.replicas, pool.spec.replicas) == (2, 2)
    assert cluster.spec.exposure.address == "127.20.0.1"


def test_several_documents_of_several_files_come_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("---\n---\n" + POOL % "one" + "---" + POOL % "two")
    (tmp_path / "a.yaml").write_text(POOL % "three")
    found = load_manifests([tmp_path / "b.yaml", tmp_path / "a.yaml"])
    assert [resource.name for resource in found] == ["one", "two", "three"]


def test_a_fault_names_file_line_kind_name_path_given_and_allowed() -> None:
    text = POOL % "m" + "  \n---\napiVersion: sipfleet.io/v1alpha1\nkind: SipCluster\nmetadata:\n  name: demo\nspec:\n"
    text += "  replicas: 2\n  domains: [example.test]\n  rollout:\n    surge: two\n"
    assert lines(text) == [
        'a.yaml:16: SipCluster/demo spec.rollout.surge: "two" given, allowed: a whole number from 0 to 10'
    ]


def test_faults_of_all_documents_and_of_a_missing_file_come_together(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Foo\n---\n" + POOL.replace("replicas: 1", "replicas: x") % "m" + "---\n[")
    with pytest.raises(ManifestError) as caught:
        load_manifests([bad, tmp_path / "none.yaml"])
    given = [(fault.line, fault.path, fault.given) for fault in caught.value.faults]
    assert given == [
        (None, "", "No such file or directory"),
        (1, "kind", '"Foo"'),
        (1, "apiVersion", "nothing"),
        (7, "spec.replicas", '"x"'),
        (9, "", "expected the node content, but found '<stream end>'"),
    ]


def test_kind_and_api_version_are_refused_with_those_that_there_are() -> None:
    assert lines("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n") == [
        'a.yaml:2: Pod/a kind: "Pod" given, allowed: SipCluster or MediaPool',
        'a.yaml:1: Pod/a apiVersion: "v1" given, allowed: sipfleet.io/v1alpha1',
    ]


def test_two_resources_of_one_kind_and_name_are_refused() -> None:
    assert lines(POOL % "a" + "---" + POOL % "a") == [
        'a.yaml:9: MediaPool/a metadata.name: "a" given, allowed: a name that a.yaml:2 has not'
    ]
    other = POOL.replace("name: %s", "name: %s, namespace: other")
    assert len(parse_manifests([("a.yaml", POOL % "a" + "---" + other % "a")])) == 2


def test_a_field_twice_is_refused_not_overwritten() -> None:
    assert lines((POOL % "a").replace("replicas: 1", "replicas: 1, replicas: 2")) == [
        "a.yaml:5:21: replicas: the field twice given, allowed: each field once"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "expected ',' or ']'"),
        ("\tx: 1", "found character"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!int x", "invalid literal"),
        ("a: !!timestamp x", "a value that is not what its tag says"),
        ("a: 2024-99-99", "month must be in 1..12"),
        ("a: \x00", "special characters are not allowed"),
        ("? {a: 1}\n: 2", "found unhashable key"),
        ("&a [*a]", "endless or deep nesting"),
        ("[" * 5000, "RecursionError"),
        ("just text", '"just text" given, allowed: a manifest'),
        ("- 1", "[1] given, allowed: a manifest"),
    ],
)
def test_yaml_that_is_none_or_too_clever_is_one_line_of_text(text: str, said: str) -> None:
    (line,) = lines(text)
    assert said in line
    assert "\n" not in line


def test_a_document_that_would_grow_without_bound_is_refused_before_it_does() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 35))
    (line,) = lines(bomb)
    assert "values given, allowed: at most 100000" in line


def test_a_file_beyond_the_limit_is_refused() -> None:
    assert lines("#" * 1_000_001) == ["a.yaml: 1000001 characters given, allowed: at most 1000000"]


def test_what_a_server_adds_does_not_hinder() -> None:
    text = (POOL % "a").replace("{name: a}", "{name: a, resourceVersion: '7', managedFields: [], generation: 3}")
    (pool,) = parse_manifests([("a.yaml", text + "status: {nonsense: [1]}\n")])
    assert pool.metadata.generation == 3
    assert pool.status.replicas == 0
