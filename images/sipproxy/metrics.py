"""What the proxy counts, as Prometheus text; imported at the first scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sipcore.config import Pod
from sipproxy.core import ProxyCore

__all__ = ["CONTENT_TYPE", "render"]

_LABELS = ["namespace", "cluster", "pod"]


class _Proxy(Collector):
    def __init__(self, core: ProxyCore, pod: Pod) -> None:
        self._core = core
        self._values = [pod.namespace, pod.set, pod.name]

    def collect(self) -> Iterator[Metric]:
        for name, value in self._core.counters().items():
            family = CounterMetricFamily(
                f"sipfleet_proxy_{name}", f"{name.replace('_', ' ')} since start", labels=_LABELS
            )
            family.add_metric(self._values, value)
            yield family
        for name, text, amount in self._core.gauges():
            gauge = GaugeMetricFamily(f"sipfleet_proxy_{name}", text, labels=_LABELS)
            gauge.add_metric(self._values, amount)
            yield gauge


def render(core: ProxyCore, pod: Pod) -> bytes:
    """All metrics of one proxy."""
    registry = CollectorRegistry()
    registry.register(_Proxy(core, pod))
    return generate_latest(registry)
