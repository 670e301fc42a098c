"""The state directory: one owner, files that are never torn, and processes of an earlier run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sipfleet.local.errors import AlreadyRunningError, LocalError
from sipfleet.local.state import StateDirectory, clusters, root, start_time


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDirectory:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one = StateDirectory("demo")
    one.make()
    return one


def test_the_directory_follows_xdg_and_falls_back_to_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/tmp/x")
    assert root() == Path("/var/tmp/x/sipfleet")
    for useless in ("", "relative/path"):
        monkeypatch.setenv("XDG_STATE_HOME", useless)
        assert root() == Path.home() / ".local/state/sipfleet"


def test_a_second_owner_is_told_who_has_it_and_what_to_do(state: StateDirectory) -> None:
    state.lock()
    state.write_json("run.json", {"pid": 4711})
    with pytest.raises(AlreadyRunningError, match=r"process 4711\)\.\nTo change it: sipfleet apply -f FILE"):
        StateDirectory("demo").lock()
    state.unlock()
    again = StateDirectory("demo")
    again.lock()
    again.unlock()
    assert clusters() == ["demo"]


def test_a_directory_that_cannot_be_made_is_said_with_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(LocalError, match="set XDG_STATE_HOME"):
        StateDirectory("demo").make()


def test_a_torn_or_missing_file_reads_as_nothing(state: StateDirectory) -> None:
    (state / "run.json").write_text('{"pid": 1')
    assert state.read_json("run.json") is None
    assert state.read_json("absent.json") is None


def test_the_key_is_made_once_and_is_for_its_user_only(state: StateDirectory) -> None:
    path = state.cluster_key()
    first = path.read_text()
    assert len(bytes.fromhex(first.strip())) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert state.cluster_key().read_text() == first


def test_what_lingers_of_a_killed_run_is_ended_and_a_pid_used_again_is_not(state: StateDirectory) -> None:
    lingering = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        started = start_time(lingering.pid)
        rows = [{"pid": lingering.pid, "started": started}, {"pid": stranger.pid, "started": 1}]
        (state / "run.json").write_text(json.dumps({"children": rows}))
        assert state.bury_last_run(patience=1.0) == [lingering.pid]
        assert lingering.wait(1) == -9
        assert stranger.poll() is None
    finally:
        for one in (lingering, stranger):
            one.kill()
            one.wait()


def test_a_zombie_is_no_living_process() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert start_time(child) is None
    os.waitpid(child, 0)
