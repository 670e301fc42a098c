"""docs/api.md."""

from __future__ import annotations

from pathlib import Path

from sipfleet.api.reference import main, render

ROOT = Path(__file__).resolve().parents[3]


def test_the_reference_is_what_the_models_say(tmp_path: Path) -> None:
    assert main(["--check", str(ROOT / "docs/api.md")]) == 0, "run python -m sipfleet.api.reference"
    (tmp_path / "api.md").write_text("old")
    assert main(["--check", str(tmp_path / "api.md")]) == 1
    assert main([str(tmp_path / "api.md")]) == 0
    assert main(["--check", str(tmp_path / "api.md")]) == 0


def test_the_reference_says_limits_defaults_and_rules() -> None:
    text = render()
    assert "| `rollout.surge` | a whole number from 0 to 10 | `1` |" in text
    assert "| `domains` | a list of 1 to 64 entries, each a domain name" in text
    assert "- `spec.replicas`: exactly one of replicas and autoscale" in text
    assert "`routing.routes[].targets`" in text
