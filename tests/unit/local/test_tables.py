"""Tables for people."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sipfleet.cli import COMMANDS
from sipfleet.local.names import resource_name
from sipfleet.local.tables import COLUMNS, URGENT, Column, age, describe_set, state, table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "local.md"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (59, "59s"), (60, "1m0s"), (3599, "59m59s"), (7620, "2h7m"), (86400, "1d0h"), (-5, "0s")],
)
def test_an_age_has_two_units_at_most(seconds: float, expected: str) -> None:
    assert age(1000.0, 1000.0 + seconds) == expected
    assert age(None) == "-"


def test_columns_are_aligned_unknown_is_a_dash_and_zero_is_zero() -> None:
    columns = [Column("NAME", lambda r: r["n"]), Column("CALLS", lambda r: r["c"]), Column("X", lambda r: 1, wide=True)]
    rows = [{"n": "demo-10", "c": 0}, {"n": "x", "c": None}]
    assert table(columns, rows).splitlines() == ["NAME      CALLS", "demo-10   0", "x         -"]
    assert table(columns, rows, wide=True).splitlines()[0] == "NAME      CALLS   X"


def resource(**conditions: str) -> dict[str, object]:
    rows = [{"type": k, "status": v, "reason": f"Why{k}", "lastTransitionTime": "-"} for k, v in conditions.items()]
    return {
        "kind": "MediaPool",
        "metadata": {"name": "media", "generation": 3},
        "spec": {"replicas": 2},
        "status": {"conditions": rows, "desiredReplicas": 2, "readyReplicas": 1},
    }


def test_the_state_is_the_most_urgent_thing_that_is_wrong() -> None:
    everything = dict(URGENT)
    while everything:
        first = next(iter(everything))
        assert state(resource(**everything)) == f"Why{first}"
        del everything[first]
    assert state(resource(Ready="True", Degraded="False")) == "Ready"
    assert state(resource()) == "-"


def test_a_set_that_was_just_applied_can_be_shown() -> None:
    row = resource()
    row["status"] = {}
    assert "media" in table(COLUMNS["mediapools"], [row], wide=True)
    assert "Events:\n  none" in describe_set(row, [], [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sipcluster/demo",), ("sipclusters", "demo")),
        (("mp", "media"), ("mediapools", "media")),
        (("mediapools.sipfleet.io/media",), ("mediapools", "media")),
        (("pods",), ("pods", None)),
    ],
)
def test_things_are_named_as_with_kubectl(words: tuple[str, ...], expected: tuple[str, str | None]) -> None:
    assert resource_name(words, ("sipclusters", "mediapools", "pods"), name_needed=False) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nodes",), "'nodes' given, one of pods allowed"),
        (("pods",), "the name is missing: pods/NAME"),
        (("pods", "a", "b"), "one name at a time"),
    ],
)
def test_a_wrong_name_is_told_with_what_is_allowed(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        resource_name(words, ("pods",))


def commands() -> list[list[str]]:
    """Each command that the page about the local runtime shows."""
    return [found.split() for found in re.findall(r"`(?:sipfleet )([a-z][^`]*)`", PAGE.read_text())]


def test_every_command_of_the_page_is_there_with_its_options() -> None:
    shown = commands()
    assert {words[0] for words in shown} >= set(COMMANDS) - {"call", "demo", "crd", "version", "operator", "store"}
    for words in shown:
        group = [w for w in words[:2] if w in COMMANDS or w in ("install", "list")]
        done = subprocess.run([sys.executable, "-m", "sipfleet", *group, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, words
        for option in [w for w in words if w.startswith("-")]:
            assert option in done.stdout, (words, option)
