"""Where a monitoring system finds the metrics of a set's pods: a headless Service, and a ServiceMonitor beside it."""

from __future__ import annotations

from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

from .meta import Object, head

PORT_NAME = "metrics"
INTERVAL = "15s"
"""Between two scrapes: the autoscaler takes a sample older than a minute for none."""


def metrics_service_name(key: SetKey) -> str:
    return f"{key.name}-metrics"


def metrics_service(key: SetKey, uid: str) -> Object:
    """All pods, also those that DNS does not list: one that drains is the one to be looked at."""
    body = head("v1", "Service", key, uid, metrics_service_name(key))
    port = names.ADMIN_PORTS[key.kind]
    body["spec"] = {
        "clusterIP": "None",
        "selector": names.selector(key),
        "publishNotReadyAddresses": True,
        "ports": [
            {"name": PORT_NAME, "protocol": "TCP", "port": port, "targetPort": port},
        ],
    }
    return body


def service_monitor(key: SetKey, uid: str) -> Object:
    """For the Prometheus operator. Of the Services of the set only the one above has a port of that name.

    The labels `namespace` and `pod`, by which the default queries of the autoscaler select, come with every target.
    """
    body = head("monitoring.coreos.com/v1", "ServiceMonitor", key, uid, key.name)
    body["spec"] = {
        "selector": {"matchLabels": names.selector(key)},
        "targetLabels": [names.SET],
        "podTargetLabels": [names.REVISION],
        "endpoints": [{"port": PORT_NAME, "path": "/metrics", "interval": INTERVAL}],
    }
    return body
