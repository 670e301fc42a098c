"""The configuration of pods: a ConfigMap for each revision, one for the addresses of media slots, the cluster key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from sipfleet import render
from sipfleet.api import MediaPool, SipCluster
from sipfleet.kubernetes import names
from sipfleet.setkey import SetKey

from .meta import Object, head
from .template import KEY_FILE, SLOTS_FILE, config_name, key_name, slots_name

CONFIG = "config.json"
TEMPLATE = "template.json"
MANIFEST = "manifest.json"


def place(kind: str, revision: str, store: str, advertised: str) -> render.Place:
    """Where a pod of a StatefulSet is: the programs fill in what differs between pods."""
    return render.Place(
        pod="${POD_NAME}",
        uid="${POD_UID}",
        ordinal=None,
        revision=revision,
        address="${POD_IP}",
        advertised=advertised,
        admin_port=names.ADMIN_PORTS[kind],
        hop_port=names.HOP_PORT,
        ng_port=names.NG_PORT,
        store=store,
        key_file=KEY_FILE,
        own_flows=True,
        ask_targets=True,
    )


def revision_config(
    made_of: SipCluster | MediaPool,
    today: SipCluster | MediaPool,
    revision: str,
    store: str,
    advertised: str,
    exposure: str,
) -> str:
    """The configuration file of a revision's pods; `advertised` is the cluster's SIP address, empty where each pod has
    its own.

    Behind a Service the world knows one address for all; on host network each pod's own.
    """
    behind_service = exposure != "hostNetwork"
    where = replace(
        place(made_of.kind, revision, store, advertised),
        translated=behind_service,
        slots_file=SLOTS_FILE if behind_service and isinstance(made_of, MediaPool) else "",
    )
    if isinstance(made_of, SipCluster):
        assert isinstance(today, SipCluster)
        return render.config_text(render.proxy_config(made_of, today, where))
    return render.config_text(render.relay_config(made_of, where))


def revision_map(key: SetKey, uid: str, revision: str, config: str, template: Object, manifest: Object) -> Object:
    """What a revision is: the file that its pods read, the template that they are made of, the manifest that it came
    from."""
    body = head("v1", "ConfigMap", key, uid, config_name(key, revision))
    body["metadata"]["labels"][names.REVISION] = revision
    body["data"] = {
        CONFIG: config,
        TEMPLATE: json.dumps(template, sort_keys=True, separators=(",", ":")),
        MANIFEST: json.dumps(manifest, sort_keys=True, separators=(",", ":")),
    }
    return body


def slots_map(key: SetKey, uid: str, addresses: Mapping[int, str]) -> Object:
    """The advertised address of each media slot, by ordinal."""
    body = head("v1", "ConfigMap", key, uid, slots_name(key))
    body["data"] = {
        "slots.json": json.dumps({str(ordinal): addresses[ordinal] for ordinal in sorted(addresses)}, indent=1) + "\n"
    }
    return body


def key_secret(key: SetKey, uid: str, cluster_key: str) -> Object:
    """The key that all proxies of the cluster share (docs/decisions/0002): created once, never applied again."""
    body = head("v1", "Secret", key, uid, key_name(key))
    body["type"] = "Opaque"
    body["stringData"] = {"cluster.key": cluster_key + "\n"}
    return body
