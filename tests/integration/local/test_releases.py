"""Versions installed side by side, rolled forward, and put back when they are broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sipfleet.demo import wheels
from sipfleet.local.errors import ReleaseError
from sipfleet.local.releases import environment, install, installed, wheel_version
from sipfleet.local.state import StateDirectory
from tests.integration.local.up import Up, manifests

OLD, NEW = wheels.versions()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each version."""
    work = tmp_path_factory.mktemp("wheels")

    async def both() -> dict[str, Path]:
        old, new = await asyncio.gather(wheels.build(OLD, work), wheels.build(NEW, work))
        return {OLD: old, NEW: new}

    return asyncio.run(both())


# Imported by every interpreter that starts: who looks for a directory of wheels acts on it so late that the other one,
# which starts within that 1.5 s, has looked too.
SLOW_LOOK = """
import os.path, time
isdir = os.path.isdir
def slow(path):
    found = isdir(path)
    if str(path).endswith("/wheels"):
        time.sleep(1.5)
    return found
os.path.isdir = slow
"""


def test_two_wheels_are_built_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_LOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def both() -> list[Path | BaseException]:
        builds = (wheels.build(version, tmp_path) for version in (OLD, NEW))
        return await asyncio.gather(*builds, return_exceptions=True)  # each to its end, whatever comes of the other

    assert [isinstance(wheel, Path) and wheel_version(wheel) for wheel in asyncio.run(both())] == [OLD, NEW]


def with_version(text: str, version: str) -> str:
    return text.replace("spec:\n", f"spec:\n  version: {version}\n")


def test_a_roll_is_over_when_the_leases_say_so_and_a_broken_release_is_put_back(
    tmp_path: Path, cluster_address: Callable[[], str], built: dict[str, Path]
) -> None:
    text = manifests(cluster_address())
    up = Up(tmp_path, with_version(text, OLD))
    for version, wheel in built.items():
        assert f"release/{version} installed" in up.ok("release", "install", str(wheel), "--cluster", "t")
    with up:
        assert [row["version"] for row in up.get("releases")] == [OLD, NEW]
        assert {pod["version"] for pod in up.pods().values()} == {OLD}

        up.ok("apply", "-f", "-", text=with_version(text, NEW))
        up.until(lambda: _all_run(up, NEW) and up.ready(), f"a fleet of {NEW}", 40.0)
        assert sorted(up.pods()) == ["t-0", "t-1", "t-media-0", "t-media-1"]

        broken = up.state_home / "sipfleet/t/releases" / OLD
        (broken / "rtprelay/__main__.py").write_text("raise SystemExit('this release does not start')\n")
        before = {name: pod["uid"] for name, pod in up.pods().items() if "media" in name}
        up.ok("apply", "-f", "-", text=with_version(text, NEW).replace(NEW, OLD, 2).replace(OLD, NEW, 1))
        up.until(lambda: up.condition("mediapools", "Degraded") == "True", "the end of the bad roll", 40.0)
        up.until(lambda: sorted(up.pods()) == ["t-0", "t-1", "t-media-0", "t-media-1"], "no surge left", 40.0)
        after = up.pods()
        assert {name: after[name]["uid"] for name in before} == before
        assert "this release does not start" in up.ok("describe", "mediapool/t-media")


def _all_run(up: Up, version: str) -> bool:
    pods = up.pods().values()
    return len(pods) == 4 and all(pod["version"] == version and pod["phase"] == "Serving" for pod in pods)


def test_a_release_is_installed_once_and_comes_first_in_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: dict[str, Path]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    state = StateDirectory("t")
    state.make()
    assert installed(state) == {}
    assert install(state, built[NEW]) == install(state, built[NEW]) == NEW
    directory = installed(state)[NEW]
    assert environment(state, NEW)["PYTHONPATH"] == f"{directory}:/somewhere"
    assert environment(state, None)["PYTHONPATH"] == "/somewhere"
    with pytest.raises(ReleaseError, match=rf"9\.9 given, installed: {NEW}; install it with: sipfleet release install"):
        environment(state, "9.9")
    assert [p.name for p in (state / "releases").iterdir()] == [NEW]


def test_a_file_that_is_no_wheel_of_ours_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "x.whl"
    bad.write_bytes(b"PK not really")
    with pytest.raises(ReleaseError, match="a wheel of sipfleet expected"):
        wheel_version(bad)
