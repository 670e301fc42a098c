"""Local volumes that are given back: emptied, and free for the next claim.

Kubernetes leaves this to whoever made a local volume ahead; without it each volume would serve one claim only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from e2e.cluster import layout
from e2e.cluster.api import Api, Object
from e2e.cluster.layout import Node

PATH = "/api/v1/persistentvolumes"


def folder(node: Node) -> Path:
    """A node's volumes as the host sees them."""
    return node.disk / str(layout.VOLUMES).strip("/").replace("/", "-")


def prepare(node: Node) -> None:
    """Makes the folders of a node's volumes. Anybody may write, as the owner of a volume is whoever claims it."""
    for number in range(1, layout.VOLUMES_PER_NODE + 1):
        path = folder(node) / f"{node.name}-{number}"
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)


def recycle(api: Api, say: Callable[[str], None]) -> None:
    """Frees the volumes that are released, until the watch ends. Raises what `Api` raises."""
    listed = api.get(PATH)
    for item in listed["items"]:
        _free(api, item, say)
    for kind, item in api.watch(PATH, listed["metadata"]["resourceVersion"]):
        if kind in ("ADDED", "MODIFIED"):
            _free(api, item, say)


def _free(api: Api, item: Object, say: Callable[[str], None]) -> None:
    name = item["metadata"]["name"]
    node, _, number = name.partition("-")
    if item.get("status", {}).get("phase") != "Released" or not node.startswith("node") or not number.isdigit():
        return
    place = folder(Node(int(node.removeprefix("node"))))
    for entry in (place / name).iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    api.merge(f"{PATH}/{name}", {"spec": {"claimRef": None}})
    say(f"volume {name}: emptied, free again")
