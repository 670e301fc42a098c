"""One cluster and one installed sipfleet for all tests of a run.

Without KUBECONFIG the cluster is our own (`e2e.cluster`), brought up if it is not, and left as it was found. With
KUBECONFIG the same tests run on that cluster; those that have to break a node say that they cannot.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import binaries, layout
from e2e.cluster.cluster import Cluster
from e2e.harness.calls import Outside
from e2e.harness.fleet import ROOT, Fleet
from e2e.harness.kubectl import Kubectl

IMAGES = ("sipfleet-operator", "sipproxy", "rtprelay", "sipfleet-store")
NEXT, BROKEN = "0.1.1", "0.1.2"
NAMESPACE = "voip"
INSTALLED = bool(os.environ.get("SIPFLEET_E2E_INSTALLED"))
"""Set: sipfleet runs on the cluster already and is taken as it is."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "smoke: one case of each kind, what `make e2e` plays")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Calls last up to a minute and a drain waits for them: these tests have more time than others."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[Cluster | None]:
    """Our own cluster; None when KUBECONFIG names another one."""
    if layout.other_kubeconfig() is not None:
        yield None
        return
    cluster = Cluster()
    was_up = cluster.is_up
    if not was_up:
        cluster.up()
    yield cluster
    if not was_up and not os.environ.get("SIPFLEET_E2E_KEEP"):
        cluster.down()


@pytest.fixture
def cluster(own_cluster: Cluster | None) -> Cluster:
    """For tests that break nodes."""
    if own_cluster is None:
        pytest.skip("KUBECONFIG names a cluster whose nodes are not ours to break")
    return own_cluster


@pytest.fixture(scope="session")
def kubectl(own_cluster: Cluster | None) -> Kubectl:
    kubeconfig = own_cluster.kubeconfig if own_cluster is not None else Path(os.environ["KUBECONFIG"])
    return Kubectl(str(binaries.KUBECTL.path), kubeconfig, NAMESPACE)


@pytest.fixture(scope="session")
def images(own_cluster: Cluster | None) -> None:
    """All images, of the version in the source, the next one and a broken one, on every node."""
    if own_cluster is None:
        return  # values of the charts say where that cluster pulls them from
    if INSTALLED:
        return
    out = ROOT / "dist" / "images"
    for words in ((), ("--version", NEXT), ("--version", BROKEN, "--broken")):
        subprocess.run([str(ROOT / "scripts" / "images.sh"), "--out", str(out), *words], check=True)
    for archive in sorted(out.glob("*.tar")):
        _load(own_cluster, archive)


def _load(cluster: Cluster, archive: Path) -> None:
    """Import an archive into the nodes, unless this one is there already."""
    note = layout.RUN / "loaded" / archive.name
    stamp = f"{archive.stat().st_size} {archive.stat().st_mtime_ns}"
    if note.exists() and note.read_text() == stamp:
        return
    cluster.load_image(archive)
    note.parent.mkdir(exist_ok=True)
    note.write_text(stamp)


@pytest.fixture(scope="session")
def installed(kubectl: Kubectl, images: None) -> Fleet:
    """Charts installed, two manifests applied, all pods serving."""
    fleet = Fleet(kubectl, str(binaries.HELM.path), callee=("203.0.113.11", 7070))
    began = time.monotonic()
    if not INSTALLED:
        fleet.install()
    fleet.namespace()
    fleet.apply()
    fleet.until_settled()
    print(f"installed and serving in {time.monotonic() - began:.1f} s")
    return fleet


@pytest.fixture
def fleet(installed: Fleet) -> Fleet:
    """The fleet as the manifests want it, whatever the test before did."""
    installed.version = "0.1.0"
    installed.apply()
    installed.until_settled()
    return installed


@pytest.fixture(scope="session")
def results() -> Path:
    """Every scenario's outcome, one JSON line each."""
    path = ROOT / "dist" / "e2e-results.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


@pytest.fixture
def outside(fleet: Fleet, results: Path) -> Outside:
    """Callers directly on the public network, and a trunk that they call."""
    return Outside(fleet, "/run/netns/sipfleet-world", "/run/netns/sipfleet-world", results)


@pytest.fixture
def behind_nat(fleet: Fleet, results: Path) -> Outside:
    """Callers behind a port-restricted NAT, and the same trunk."""
    return Outside(fleet, "/run/netns/sipfleet-home", "/run/netns/sipfleet-world", results)
