"""The public surface of the package is a decision."""

from __future__ import annotations

import subprocess
import sys

import sipfleet.api
import sipfleet.plan


def test_what_the_packages_offer_is_sorted_and_there() -> None:
    for package in (sipfleet.api, sipfleet.plan):
        assert sorted(package.__all__, key=lambda name: (name[0].islower(), name)) == package.__all__
        assert all(hasattr(package, name) for name in package.__all__)


def test_importing_the_models_brings_neither_runtime_nor_store_client() -> None:
    code = "import sys, sipfleet.api; print(*[m for m in ('redis', 'rich', 'asyncio', 'kopf') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
