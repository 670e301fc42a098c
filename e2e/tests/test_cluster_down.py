"""The test cluster goes without a trace, also one whose start was interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import binaries
from e2e.harness.kubectl import CommandError, Kubectl

OTHER = 7
"""The number of a cluster beside the one that the tests share."""


def command(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"SIPFLEET_E2E_INSTANCE": str(OTHER)}
    root = Path(__file__).resolve().parents[2]
    argv = [sys.executable, "-m", "e2e.cluster", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=root, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def succeed(*words: str) -> str:
    with command(*words) as running:
        output = running.communicate(timeout=120)[0]
    assert running.returncode == 0, output
    return output


def traces() -> dict[str, Any]:
    """What the other cluster could leave on the machine."""
    mark = f"sipfleet-e2e-{OTHER}"
    settings = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom")
    commands = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in text or f"SIPFLEET_E2E_INSTANCE={OTHER}\0".encode() in text:
                commands.append(folder.name)
    listed = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
    return {
        "processes": commands,
        "namespaces": [path.name for path in Path("/run/netns").glob(f"sipfleet{OTHER}-*")],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if f"sipfleet{OTHER}-" in line],
        "folders": [str(path) for place in ("/run", "/var/lib") for path in Path(place).glob(f"{mark}*")],
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{mark}")],
        "interfaces": [path.name for path in Path("/sys/class/net").iterdir() if path.name == mark],
        "settings": {name: Path("/proc/sys", name).read_text() for name in settings},
        "rules": [line for line in listed.splitlines() if "KUBE" in line or "sipfleet" in line],
    }


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("cluster")
def test_down_leaves_nothing_even_of_an_up_that_crashed() -> None:
    succeed("down")
    before = traces()
    settings = before.pop("settings")
    assert not any(before.values()), before
    crashing = command("up", "--nodes", "1")
    time.sleep(4.0)  # in the middle: it takes nine seconds, and must have made something to leave behind
    crashing.kill()
    crashing.communicate()
    assert traces()["namespaces"], "it was killed before it had made anything"
    assert "KUBECONFIG" in succeed("up", "--nodes", "1")
    running = traces()
    assert all(running[kind] for kind in ("processes", "namespaces", "folders", "groups", "interfaces")), running
    succeed("down")
    after = traces()
    assert after.pop("settings") == settings
    assert after == before
    succeed("down")
    with pytest.raises(CommandError):
        Kubectl(str(binaries.KUBECTL.path), Path("/run") / f"sipfleet-e2e-{OTHER}" / "kubeconfig").get("nodes")
