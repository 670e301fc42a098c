"""Where the outcomes of scenarios are written: one JSON line each."""

from __future__ import annotations

from e2e.cluster import layout
from e2e.harness.fleet import ROOT

RESULTS = ROOT / "dist" / f"e2e-results{f'-{layout.INSTANCE}' if layout.INSTANCE else ''}.jsonl"
"""Of the last run; runs on clusters of other numbers have files of their own."""
