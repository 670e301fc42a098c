"""Container images for the cluster's own use, and how any image gets to the nodes. There is no registry."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.cluster import binaries, layout
from e2e.cluster.layout import Node
from e2e.cluster.node import CONTAINERD_SOCKET, first_name
from e2e.cluster.processes import pid_of


class ImageError(Exception):
    """An image could not be made or loaded; the message has what the tool said."""


def _entry(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))


def _busybox_layer() -> bytes:
    program = shutil.which("busybox")
    if program is None:
        raise ImageError("busybox is missing: apt-get install -y busybox-static")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        _entry(archive, "bin/busybox", Path(program).read_bytes(), 0o755)
        _entry(archive, "bin/who-asks", binaries.WHO.path.read_bytes(), 0o755)
        _entry(archive, "etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        for applet in applets:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                archive.addfile(info)
    return out.getvalue()


def _write_oci(path: Path, name: str, layer: bytes, command: list[str]) -> None:
    """Writes an image of one layer as an OCI archive (OCI image layout 1.0)."""

    def described(kind: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(content)}

    layer_descriptor = described("layer.v1.tar", layer)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
        }
    ).encode()
    config_descriptor = described("config.v1+json", config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config_descriptor,
            "layers": [layer_descriptor],
        }
    ).encode()
    manifest_descriptor = described("manifest.v1+json", manifest)
    manifest_descriptor["annotations"] = {"io.containerd.image.name": name}
    with tarfile.open(path, "w") as archive:
        _entry(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _entry(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest_descriptor]}).encode())
        blobs = ((layer_descriptor, layer), (config_descriptor, config), (manifest_descriptor, manifest))
        for descriptor, content in blobs:
            _entry(archive, "blobs/" + str(descriptor["digest"]).replace(":", "/"), content)


def make_own(folder: Path) -> list[Path]:
    """Writes the cluster's own images and returns where: what holds a pod's namespaces, and a shell for tests."""
    layer = _busybox_layer()
    made = []
    for name, command in (
        (layout.PAUSE_IMAGE, ["/bin/busybox", "sleep", "infinity"]),
        (layout.BUSYBOX_IMAGE, ["/bin/sh"]),
    ):
        path = folder / f"{name.rsplit('/')[-1].replace(':', '-')}.tar"
        _write_oci(path, name, layer, command)
        made.append(path)
    return made


def _ctr(node: Node, *arguments: str) -> str:
    """containerd's client, over the node's socket as the host sees it."""
    pid = pid_of(first_name(node))
    if pid is None:
        raise ImageError(f"{node.name} is not running")
    address = f"/proc/{pid}/root{CONTAINERD_SOCKET}"
    argv = ["ctr", "--address", address, "--namespace", "k8s.io", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise ImageError(f"{node.name}: {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def load(archive: Path, nodes: Iterable[Node]) -> None:
    """Loads the images of an OCI or Docker archive, under the names that it gives them, into nodes. Raises ImageError.

    An OCI archive names its image by the annotation `io.containerd.image.name`, or by a whole reference as
    `org.opencontainers.image.ref.name`; `buildah push IMAGE docker-archive:FILE:NAME` makes one whose name is NAME.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda node: _ctr(node, "images", "import", str(archive)), nodes))


def names(node: Node) -> list[str]:
    """The names of the images that a node has. Raises ImageError."""
    return _ctr(node, "images", "list", "--quiet").split()
