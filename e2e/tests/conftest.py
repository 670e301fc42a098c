"""One cluster and one installed sipfleet for all tests of a run.

Without KUBECONFIG the cluster is our own (`e2e.cluster`), brought up if it is not, and left as it was found. With
KUBECONFIG the same tests run on that cluster; those that have to break a node say that they cannot, and calls come from
this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.cluster import binaries, layout
from e2e.cluster.cluster import Cluster
from e2e.harness.calls import Outside
from e2e.harness.fleet import ROOT, Fleet
from e2e.harness.kubectl import Kubectl
from e2e.harness.results import RESULTS

IMAGES = ("sipfleet-operator", "sipproxy", "rtprelay", "sipfleet-store")
NEXT, BROKEN = "0.1.1", "0.1.2"
NAMESPACE = "voip"
INSTALLED = bool(os.environ.get("SIPFLEET_E2E_INSTALLED"))
"""Set: sipfleet runs on the cluster already and is taken as it is."""
BUILT = bool(os.environ.get("SIPFLEET_E2E_BUILT"))
"""Set: the archives in dist/images are taken as they are."""

FIRST = (
    "test_waits",
    "test_charts",
    "test_cloud",
    "test_behind_nat",
    "test_plugin",
    "test_monitors",
    "test_deadlines",
    "test_cluster",
    "test_cluster_down",
    "test_images",
    "test_quickstart",
)
"""What needs no cluster, then what needs no sipfleet on it, then how it gets there. In this order."""
LAST = ("test_upgrade", "test_uninstall")
"""What takes the one installation away from the others."""


def pytest_configure(config: pytest.Config) -> None:
    # What the fixtures started ends with the run, as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "smoke: one case of each kind, what `make e2e` plays")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap and independent tests go first. Calls last up to a minute and a drain waits for them: these tests have more
    time than others."""
    items.sort(key=lambda item: _turn(item.path.stem))
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


def _turn(module: str) -> int:
    if module in FIRST:
        return FIRST.index(module)
    return len(FIRST) + (1 + LAST.index(module) if module in LAST else 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On our own cluster there is no reason to skip anything: a skip is a failure there."""
    report = yield
    if report.skipped and layout.other_kubeconfig() is None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"not played: {reason}"
    return report


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
    if not BUILT:
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
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("")
    return RESULTS


def network_of(place: str) -> str:
    """The network namespace of a place of our own cluster; on another cluster this process's own."""
    return "" if layout.other_kubeconfig() is not None else str(layout.namespace_path(place))


@pytest.fixture
def outside(fleet: Fleet, results: Path) -> Outside:
    """Callers directly on the public network, and a trunk that they call."""
    return Outside(fleet, network_of("world"), network_of("world"), results)


@pytest.fixture
def behind_nat(fleet: Fleet, results: Path) -> Outside:
    """Callers behind a port-restricted NAT, and the same trunk."""
    return Outside(fleet, network_of("home"), network_of("world"), results)
