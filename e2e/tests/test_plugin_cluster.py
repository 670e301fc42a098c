"""`kubectl sipfleet` on the cluster: commands in the operator's pod, calls from outside, a drain."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.peers.process import wait_for

from e2e.cluster.cluster import Cluster
from e2e.harness.calls import Outside
from e2e.harness.fleet import CLUSTER, POOL, Fleet
from e2e.harness.kubectl import Kubectl, condition
from sipfleet.plugin.inside import SELECTOR

VENV = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(600)


class Person:
    """Somebody with kubectl and the plugin, in the namespace of the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._kubectl: Kubectl = fleet.kubectl
        path = os.pathsep.join((str(VENV), str(Path(self._kubectl.program).parent), os.environ["PATH"]))
        self.environment = {**self._kubectl.environment, "PATH": path}

    def command(self, *words: str) -> list[str]:
        return [self._kubectl.program, "sipfleet", words[0], "-n", self._kubectl.namespace, *words[1:]]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, check=False, timeout=180
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.smoke
def test_calls_of_the_plugin_are_kept_and_found_in_the_store(fleet: Fleet, outside: Outside) -> None:
    """Audio through the cluster, then one CDR of each call, by way of the operator's pod."""
    person = Person(fleet)
    places = ("--caller-netns", outside.callers, "--callee-netns", outside.callee)
    told = person("call", CLUSTER, *places, "--calls", "4", "--duration", "3", "--cdr", "--json")
    report = json.loads(told)
    assert (report["calls"], report["kept"]) == (4, 4), report["reasons"]
    assert {call["cdrs"] for call in report["results"]} == {1}
    rows = json.loads(person("cdr", CLUSTER, "--since", "10m", "-o", "json"))
    assert {call["call_id"] for call in report["results"]} <= {row["call_id"] for row in rows}
    # Under which address targets see a proxy depends on the network; nothing else may be wrong.
    findings = json.loads(person("status", "-o", "json"))[0]["findings"]
    assert [one for one in findings if not one["what"].startswith("EgressAddress")] == []


@pytest.mark.smoke
def test_what_the_world_sees_of_the_proxies_is_told(fleet: Fleet, outside: Outside, cluster: Cluster) -> None:
    """Our cloud keeps the addresses of callers; what a proxy begins leaves from its node's."""
    places = ("--caller-netns", outside.callers, "--callee-netns", outside.callee)
    Person(fleet)("call", CLUSTER, *places, "--calls", "4", "--duration", "1", "--json")
    what = f"sipcluster/{CLUSTER}"
    fleet.kubectl.until("seen", lambda one: condition(one, "EgressAddress").get("status") == "False", 30, what)
    found = fleet.kubectl.until(
        "heard", lambda one: condition(one, "SourceAddressPreserved").get("status") == "True", 30, what
    )
    egress, kept = condition(found, "EgressAddress"), condition(found, "CallsKept")
    assert (egress["reason"], kept["status"], kept["reason"]) == ("Differs", "False", "EgressAddressDiffers")
    [seen] = re.findall(rf"{CLUSTER}-\d as (.+):\d+ and not as {found['status']['address']}", egress["message"])
    assert seen in {node.address for node in cluster.nodes}


def test_what_is_up_is_listed_and_records_are_followed(fleet: Fleet, outside: Outside) -> None:
    person = Person(fleet)
    following = subprocess.Popen(
        person.command("cdr", CLUSTER, "--since", "1s", "--follow", "-o", "json"),
        env=person.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    places = ["--caller-netns", outside.callers, "--callee-netns", outside.callee]
    calling = subprocess.Popen(
        person.command("call", CLUSTER, *places, "--calls", "3", "--duration", "12", "--json"),
        env=person.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(
            lambda: len(json.loads(person("calls", CLUSTER, "-o", "json"))) == 3, 12, "three calls are listed", 0.5
        )
        output, _ = calling.communicate(timeout=60)
        report = json.loads(output)
        assert report["kept"] == 3
        assert following.stdout is not None
        heard = {json.loads(following.stdout.readline())["call_id"] for _ in range(3)}
        assert heard == {call["call_id"] for call in report["results"]}
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 0
    finally:
        for process in (following, calling):
            process.kill()
            process.communicate()


def test_a_followed_stream_leaves_no_process_in_the_operators_pod(fleet: Fleet) -> None:
    person = Person(fleet)

    def followers() -> int:
        count = 0
        for one in fleet.system.items("pods", "-l", SELECTOR):
            script = (
                "import glob; print(sum(b'--tied' in open(p,'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')))"
            )
            words = (one["metadata"]["name"], "-c", "operator", "--", "/opt/sipfleet/bin/python", "-c", script)
            # The script that counts has the word in its own command line.
            count += int(fleet.system("exec", *words)) - 1
        return count

    following = subprocess.Popen(
        person.command("cdr", CLUSTER, "--follow"), env=person.environment, stdout=subprocess.PIPE
    )
    try:
        wait_for(lambda: followers() == 1, 30, "the command runs in the operator's pod", 1.0)
    finally:
        following.kill()
        following.communicate()
    wait_for(lambda: followers() == 0, 60, "it has ended there", 2.0)


@pytest.mark.smoke
def test_a_drained_pod_is_replaced_and_its_calls_are_waited_for(fleet: Fleet, outside: Outside) -> None:
    person = Person(fleet)
    places = ["--caller-netns", outside.callers, "--callee-netns", outside.callee]
    calling = subprocess.Popen(
        person.command("call", CLUSTER, *places, "--calls", "6", "--duration", "20", "--json"),
        env=person.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: (fleet.status(POOL).get("activeSessions") or 0) >= 6, 30, "the pool has the calls", 0.5)
        victim = fleet.busiest(POOL)
        uid = fleet.kubectl.get(f"pod/{victim}")["metadata"]["uid"]
        told = person("drain", victim, "--wait", "--timeout", "170")
        assert re.search(rf"pod/{victim}: .*[1-9]\d* calls? left", told)
        assert f"pod/{victim} is gone after" in told
        output, _ = calling.communicate(timeout=60)
        assert json.loads(output)["kept"] == 6, json.loads(output)["reasons"]
    finally:
        calling.kill()
        calling.communicate()
    fleet.until_settled()
    assert fleet.kubectl.get(f"pod/{victim}")["metadata"]["uid"] != uid
