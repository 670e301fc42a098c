"""The StatefulSet of a set: the number of slots, the template of what is rolled out, and the partition (DESIGN 4.3)."""

from __future__ import annotations

from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

from .meta import Object, head


def stateful_set(key: SetKey, uid: str, *, slots: int, partition: int, template: Object) -> Object:
    """`slots` pods; those from `partition` on are made of `template`, those below of what they were made of before."""
    body = head("apps/v1", "StatefulSet", key, uid, key.name)
    body["spec"] = {
        "replicas": slots,
        "serviceName": key.name,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        "revisionHistoryLimit": 10,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "selector": {"matchLabels": names.selector(key)},
        "template": template,
    }
    return body
