"""The README's quickstart, typed as it stands on a cluster that has never heard of sipfleet, and timed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.peers.process import Peer, wait_for

from e2e.cluster import binaries
from e2e.harness.fleet import CLUSTER, POOL, ROOT
from e2e.harness.kubectl import Kubectl
from e2e.tests.conftest import INSTALLED, network_of

LIMIT = 180.0
"""Seconds from nothing to a call."""
CALLEE = os.environ.get("SIPFLEET_E2E_CALLEE", "203.0.113.12:7070")
"""On another cluster: an address of this machine that the cluster reaches."""
REGISTRY = os.environ.get("SIPFLEET_E2E_REGISTRY", "localhost")
NAMESPACE = "default"


def quickstart() -> list[str]:
    """The commands of the README's section about Kubernetes."""
    page = (ROOT / "README.md").read_text()
    (section,) = re.findall(r"^## Run it on Kubernetes\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [str(line) for line in block.splitlines()]


def outside(*words: str) -> list[str]:
    """A command outside of the cluster, where callers are."""
    place = network_of("world")
    return ["nsenter", f"--net={place}", "--", *words] if place else list(words)


@pytest.fixture
def nothing(kubectl: Kubectl, images: None) -> Iterator[Kubectl]:
    """A cluster without sipfleet; afterwards the charts stay, which the other tests go on with."""
    if INSTALLED:
        pytest.skip("SIPFLEET_E2E_INSTALLED: there is a sipfleet already, and it is to stay")
    here = kubectl.within(NAMESPACE)
    assert "sipfleet" not in here("get", "customresourcedefinitions", "-o", "name"), "sipfleet was here"
    yield here
    here.attempt("delete", f"sipcluster/{CLUSTER}", f"mediapool/{POOL}", "--ignore-not-found", timeout=180)


def allow_sipp(kubectl: Kubectl) -> None:
    """SIPp's stock scenarios put the callee's address, not a name, into the request: a domain of its own."""
    host = CALLEE.rsplit(":", 1)[0]
    route = {"name": "sipp", "domain": host, "targets": [f"sip:{CALLEE}"]}
    changes = [
        {"op": "add", "path": "/spec/domains/-", "value": host},
        {"op": "add", "path": "/spec/routing/routes/-", "value": route},
    ]
    kubectl("patch", f"sipcluster/{CLUSTER}", "--type=json", "-p", json.dumps(changes))


def sipp(address: str, work: Path) -> str:
    """One call of SIPp's stock scenarios through `address`; -> what the caller counted."""
    host, port = CALLEE.rsplit(":", 1)

    def listens() -> bool:
        answer = subprocess.run(outside("cat", "/proc/net/udp"), capture_output=True, text=True, check=True)
        return f":{int(port):04X} " in answer.stdout

    wait_for(lambda: not listens(), 5, "the callee's port is free", 0.1)
    uas = outside("sipp", "-sn", "uas", "-i", host, "-p", port, "-nostdin")
    uac = outside("sipp", "-sn", "uac", "-i", host, "-m", "1", "-d", "1000", "-timeout", "30", "-nostdin")
    with Peer(uas, work / "uas.log", listens):
        done = subprocess.run(
            [*uac, "-rsa", f"{address}:5060", CALLEE], capture_output=True, text=True, timeout=60, check=False, cwd=work
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.smoke
def test_from_nothing_to_calls_within_three_minutes(nothing: Kubectl, results: Path, tmp_path: Path) -> None:
    programs = (Path(sys.executable), Path(nothing.program), binaries.HELM.path)
    path = os.pathsep.join([*(str(program.parent) for program in programs), os.environ["PATH"]])
    environment = {**nothing.environment, "PATH": path, "REGISTRY": REGISTRY, "CALLEE": CALLEE}
    began = time.monotonic()
    told = ""
    for line in quickstart():
        done = subprocess.run(
            outside("bash", "-euo", "pipefail", "-c", line),
            env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT + 60,
        )  # fmt: skip
        told += f"$ {line}\n{done.stdout}{done.stderr}\n"
        assert done.returncode == 0, told
        if "kubectl apply" in line:
            allow_sipp(nothing)
    print(told)
    assert "calls kept 10 of 10" in told, told
    address = str(nothing.get(f"sipcluster/{CLUSTER}")["status"]["address"])
    assert re.search(rf"sipcluster\S*/{CLUSTER} .*{re.escape(address)}", told), "kubectl get shows the address"
    sipp(address, tmp_path)
    seconds = time.monotonic() - began
    outcome = {
        "scenario": "quickstart",
        "calls": 11,
        "kept": 11,
        "seconds": round(seconds, 1),
        "passed": seconds <= LIMIT,
    }
    with results.open("a") as file:
        file.write(json.dumps(outcome) + "\n")
    assert seconds <= LIMIT, f"{seconds:.0f} s from nothing to the end of the calls"
