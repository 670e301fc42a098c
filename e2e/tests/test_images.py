"""The images alone, under the restricted Pod Security profile: they start, they serve, they need no root and nowhere to
write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sipcore
from e2e.harness.kubectl import Kubectl

NAMESPACE = "images"
MANIFEST = Path(__file__).parent / "data" / "images.yaml"
SERVING = ("proxy", "relay", "store")

ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(5)
    asker.connect((sys.argv[1], int(sys.argv[2])))
    said = sys.argv[3].format(here="%s:%d" % asker.getsockname(), there="%s:%d" % asker.getpeername())
    asker.send(said.replace("\\n", "\\r\\n").encode())
    print(asker.recv(2000).decode())
"""
"""Run in a pod: one datagram to ADDRESS PORT, and the answer."""

OPTIONS = """OPTIONS sip:{there} SIP/2.0
Via: SIP/2.0/UDP {here};branch=z9hG4bK776asdhds
Max-Forwards: 70
From: <sip:probe@example.test>;tag=1928301774
To: <sip:{there}>
Call-ID: a84b4c76e66710
CSeq: 1 OPTIONS
Content-Length: 0

"""


@pytest.fixture(scope="module")
def pods(kubectl: Kubectl, images: None) -> Iterator[Kubectl]:
    """A pod of each image, ready or completed."""
    here = kubectl.within(NAMESPACE)
    try:
        here("apply", "-f", "-", given=MANIFEST.read_text().replace("VERSION", sipcore.__version__))
        here("wait", "--for=condition=Ready", *(f"pod/{name}" for name in SERVING), "--timeout=60s")
        here("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/operator", "--timeout=60s")
        yield here
    finally:
        here.attempt("delete", "namespace", NAMESPACE, "--timeout=60s")


def address(pods: Kubectl, name: str) -> str:
    return str(pods.get(f"pod/{name}")["status"]["podIP"])


def test_the_proxy_answers_options_to_another_pod(pods: Kubectl) -> None:
    python = "/opt/rtprelay/bin/python"
    said = pods("exec", "relay", "--", python, "-c", ASK, address(pods, "proxy"), "5060", OPTIONS)
    assert said.startswith("SIP/2.0 200 ")


def test_the_relay_answers_ping_to_another_pod(pods: Kubectl) -> None:
    python = "/opt/sipproxy/bin/python"
    said = pods("exec", "proxy", "--", python, "-c", ASK, address(pods, "relay"), "2223", "cookie d7:command4:pinge")
    assert said.strip() == "cookie d6:result4:ponge"


def test_the_store_is_redis_and_sentinel(pods: Kubectl) -> None:
    assert pods("exec", "store", "--", "redis-cli", "ping").strip() == "PONG"
    for program in ("redis-server", "redis-sentinel"):
        assert " v=7.0." in pods("exec", "store", "--", program, "--version")


def test_the_operator_says_which_version_it_is(pods: Kubectl) -> None:
    assert pods("logs", "operator").strip() == f"sipfleet {sipcore.__version__}"


@pytest.mark.parametrize("name", SERVING)
def test_nobody_is_root_and_nothing_can_be_written(pods: Kubectl, name: str) -> None:
    status = pods("exec", name, "--", "cat", "/proc/1/status").splitlines()
    fields = {key: value.split() for key, _, value in (line.partition(":") for line in status)}
    assert fields["Uid"] == ["65532"] * 4
    assert fields["CapEff"] == fields["CapBnd"] == ["0000000000000000"]
    assert fields["NoNewPrivs"] == ["1"]
    for path in ("/x", "/tmp/x", "/opt/x"):
        failed, said = pods.attempt("exec", name, "--", "touch", path)
        assert failed
        assert "Read-only file system" in said
