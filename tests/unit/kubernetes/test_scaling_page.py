"""docs/scaling.md: its manifest is one, and its queries and figures are those that are used."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sipfleet.api import validated
from sipfleet.kubernetes import monitors, prometheus
from sipfleet.kubernetes.objects import monitor
from tests.unit.kubernetes.scenes import cluster, pool

PAGE = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()


def test_the_manifest_of_the_page_is_taken_and_names_a_prometheus() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = validated(yaml.safe_load(text))
    where = prometheus.source(found)
    assert where is not None
    assert where.url == "http://prometheus.monitoring:9090"


def test_the_queries_of_the_page_are_the_default_ones() -> None:
    given = {"replicas": None, "autoscale": {"min": 1, "max": 2, "prometheus": {"url": "http://192.0.2.9"}}}
    for resource in (cluster(**given), pool(**given)):
        where = prometheus.source(resource)
        assert where is not None
        shown = where.query.replace('"voice"', '"NAMESPACE"').replace(f'"{resource.name}-', '"NAME-')
        assert f"| {resource.kind} | `{shown}` |" in PAGE


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"asked every {prometheus.INTERVAL:.0f} s. An answer that takes more than {prometheus.TIMEOUT:.0f} s" in PAGE
    assert f"older than {prometheus.STALE:.0f} s" in PAGE
    assert f"scraped every {monitor.INTERVAL.removesuffix('s')} s" in PAGE
    assert monitors.INTERVAL == 180
    assert "every three minutes" in PAGE
