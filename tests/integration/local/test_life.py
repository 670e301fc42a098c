"""A cluster comes up, is asked and told things, and goes away without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.local.up import SIPFLEET, Up, alive, children, manifests
from tests.integration.peers.process import Peer
from tests.integration.peers.redis_server import RedisServer


def test_two_proxies_and_two_relays_come_up_serve_and_answer_the_command_line(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    address = cluster_address()
    with Up(tmp_path, manifests(address)) as up:
        pods = up.pods()
        assert sorted(pods) == ["t-0", "t-1", "t-media-0", "t-media-1"]
        assert {pod["phase"] for pod in pods.values()} == {"Serving"}
        assert len({pod["address"] for pod in pods.values()}) == 4
        assert all(pod["address"].startswith(address.rpartition(".")[0]) for pod in pods.values())
        (cluster,) = up.get("sipclusters")
        assert cluster["status"]["readyReplicas"] == 2
        assert cluster["status"]["address"] == address
        assert {(row["name"], row["address"]) for row in up.get("srv")} == {("_sip._udp.example.test.", address)}
        assert "t-media-1" in up.ok("get", "pods")
        assert [row["kind"] for row in json.loads(up.ok("get", "clusters", "--json"))] == ["SipCluster"]
        assert json.loads(up.ok("get", "pool/t-media", "-o", "json"))["spec"]["capacity"] == 100
        assert up.ok("get", "pods", "-o", "name").split()[0] == "pod/t-0"
        assert "PodsServe" in up.ok("describe", "sipcluster/t")
        assert '"event":"started"' in up.ok("logs", "t-media-0").replace(" ", "")
        assert up.get("calls") == up.get("cdrs") == []
        key = up.state_home / "sipfleet/t/keys/cluster.key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert (up.state_home / "sipfleet/t").stat().st_mode & 0o777 == 0o700


def test_ctrl_c_ends_everything_that_was_started_and_frees_every_port(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    address = cluster_address()
    with Up(tmp_path, manifests(address)) as up:
        pids = children(up.pid)
        assert len(pids) == 5  # four pods and the store
        assert up.stop() == 0
        assert not [pid for pid in pids if alive(pid)]
        for host, port in [(address, 5060)] + [(pod, 9090) for pod in _addresses(address)]:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.bind((host, port))
        assert not (up.state_home / "sipfleet/t/api.sock").exists()


def _addresses(address: str) -> list[str]:
    return [f"{address.rpartition('.')[0]}.{host}" for host in range(10, 14)]


def test_sigterm_ends_it_the_same_way(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0, relays=1)) as up:
        pids = children(up.pid)
        assert up.stop(signal.SIGTERM) == 0
        assert not [pid for pid in pids if alive(pid)]


def test_a_second_up_is_refused_and_told_what_to_do_and_the_first_goes_on(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0, relays=1)) as up:
        second = up.run("up", "-f", str(up.file))
        assert second.returncode == 1
        assert f"already running (process {up.pid})" in second.stderr
        assert "sipfleet apply -f" in second.stderr
        assert up.ready()


def test_without_a_cluster_every_command_says_how_to_start_one(tmp_path: Path) -> None:
    up = Up(tmp_path, "")
    for words in (["get", "pods"], ["scale", "pool/x", "--replicas", "1"], ["apply", "-f", str(up.file)], ["down"]):
        done = up.run(*words)
        assert done.returncode == 1
        assert "sipfleet up -f FILE" in done.stderr


def test_a_bad_manifest_gives_all_its_faults_and_exit_status_2(tmp_path: Path) -> None:
    bad = manifests("127.106.1.1").replace("replicas: 2", "replicas: many").replace("example.test", "not a domain")
    up = Up(tmp_path, bad)
    done = up.run("up", "-f", str(up.file))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(" given, allowed: " in line for line in lines)


def test_an_address_that_somebody_else_uses_is_named(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    address = cluster_address()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((address, 5060))
        up = Up(tmp_path, manifests(address))
        done = up.run("up", "-f", str(up.file))
    assert done.returncode == 1
    assert f"{address}:5060: Address already in use" in done.stderr


def test_apply_with_a_bad_manifest_changes_nothing(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    text = manifests(cluster_address(), proxies=0, relays=1)
    with Up(tmp_path, text) as up:
        before = up.pods()["t-media-0"]["uid"]
        done = up.run("apply", "-f", "-", text=text.replace("max: 20399", "max: 20001"))
        assert done.returncode == 1
        assert "spec.ports" in done.stderr
        assert "given, allowed:" in done.stderr
        assert up.pods()["t-media-0"]["uid"] == before
        (pool,) = up.get("mediapools")
        assert (pool["metadata"]["generation"], pool["spec"]["ports"]["max"]) == (1, 20399)


def test_a_pool_grows_without_touching_its_relays_and_shrinks_from_the_top(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0)) as up:
        before = {name: pod["uid"] for name, pod in up.pods().items()}
        up.ok("scale", "mediapool/t-media", "--replicas", "3")
        up.until(lambda: len(up.pods()) == 3 and up.ready(), "three relays")
        after = {name: pod["uid"] for name, pod in up.pods().items()}
        assert {name: after[name] for name in before} == before
        up.ok("scale", "mediapool/t-media", "--replicas", "1")
        up.until(lambda: sorted(up.pods()) == ["t-media-0"] and up.ready(), "one relay")
        assert up.pods()["t-media-0"]["uid"] == before["t-media-0"]
        assert up.pods()["t-media-0"]["restarts"] == 0


def test_a_changed_capacity_rolls_and_the_addresses_of_the_slots_stay(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    text = manifests(cluster_address(), proxies=0)
    with Up(tmp_path, text) as up:
        before = up.pods()
        assert "configured" in up.ok("apply", "-f", "-", text=text.replace("capacity: 100", "capacity: 99"))

        def rolled() -> bool:
            pods = up.pods()
            return len(pods) == 2 and all(p["capacity"] == 99 for p in pods.values()) and up.ready()

        up.until(rolled, "the roll", 30.0)
        after = up.pods()
        assert {n: p["address"] for n, p in after.items()} == {n: p["address"] for n, p in before.items()}
        assert all(after[name]["uid"] != before[name]["uid"] for name in before)


def test_changed_routing_is_loaded_in_place(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    text = manifests(cluster_address(), relays=1)
    with Up(tmp_path, text) as up:
        before = {name: pod["uid"] for name, pod in up.pods().items()}
        up.ok("apply", "-f", "-", text=text.replace("127.0.0.1:7070", "127.0.0.1:7071"))
        up.until(lambda: sum(e["reason"] == "Reloaded" for e in up.get("events")) == 2, "two reloads")
        assert {name: pod["uid"] for name, pod in up.pods().items()} == before


def test_a_version_that_is_not_installed_is_said_and_nothing_rolls(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    text = manifests(cluster_address(), proxies=0, relays=1)
    with Up(tmp_path, text) as up:
        before = up.pods()["t-media-0"]["uid"]
        up.ok("apply", "-f", "-", text=text.replace("capacity: 100", "capacity: 100\n  version: 9.9.9"))
        up.until(lambda: up.condition("mediapools", "Accepted") == "False", "the refusal")
        text_of = up.ok("describe", "mediapool/t-media")
        assert "9.9.9 given, none is installed" in text_of
        assert "sipfleet release install WHEEL" in text_of
        assert up.pods()["t-media-0"]["uid"] == before


def test_drain_replaces_one_pod_with_a_surge_first(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=0)) as up:
        before = {name: pod["uid"] for name, pod in up.pods().items()}
        up.ok("drain", "t-media-0")
        up.until(lambda: up.pods()["t-media-0"]["uid"] != before["t-media-0"] and up.ready(), "the replacement", 30.0)
        up.until(lambda: len(up.pods()) == 2, "the end of the surge")
        assert up.pods()["t-media-1"]["uid"] == before["t-media-1"]


def test_delete_drains_and_removes_and_a_pool_in_use_is_protected(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    with Up(tmp_path, manifests(cluster_address(), proxies=1, relays=1)) as up:
        refused = up.run("delete", "mediapool/t-media")
        assert refused.returncode == 1
        assert "in use by sipcluster/t" in refused.stderr
        up.ok("delete", "sipcluster/t", "--wait")
        up.ok("delete", "mediapool/t-media", "--wait")
        up.until(lambda: up.pods() == {}, "nothing left")


def test_a_state_directory_with_a_long_path_works_too(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with Up(deep, manifests(cluster_address(), proxies=0, relays=1)) as up:
        assert up.ready()
        info = (up.state_home / "sipfleet/t/run.json").read_text()
        assert "redis://:" in info


def test_a_store_of_somebody_else_is_used_waited_for_and_left_alone(
    tmp_path: Path, cluster_address: Callable[[], str], redis_server: RedisServer
) -> None:
    text = manifests(cluster_address(), proxies=1, relays=1)
    with Up(tmp_path, text.replace("spec:\n", f"spec:\n  store: {{url: '{redis_server.url}'}}\n")) as up:
        assert len(children(up.pid)) == 2
        os.kill(redis_server.pid, signal.SIGSTOP)
        up.until(lambda: up.condition("mediapools", "StoreAvailable") == "False", "the loss of the store", 20.0)
        os.kill(redis_server.pid, signal.SIGCONT)
        up.until(lambda: up.condition("mediapools", "StoreAvailable") == "True" and up.ready(), "its return", 20.0)
        assert {pod["restarts"] for pod in up.pods().values()} == {0}
        assert up.stop() == 0
        assert redis_server.running


def test_two_clusters_share_a_network_and_commands_ask_which_is_meant(
    tmp_path: Path, cluster_address: Callable[[], str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    address = cluster_address()
    with Up(one, manifests(address, "a", proxies=1, relays=1), "a") as first:
        second = Up(two, manifests(address.removesuffix(".1") + ".3", "b", proxies=1, relays=1), "b", first.env)
        second.state_home = first.state_home
        with second:
            addresses = [pod["address"] for up in (first, second) for pod in up.pods().values()]
            assert len(set(addresses)) == 4
            assert {pod["phase"] for up in (first, second) for pod in up.pods().values()} == {"Serving"}
            asked = first.run("get", "pods")
            assert (asked.returncode, "several clusters run: a, b" in asked.stderr) == (1, True)
            assert "b-media-0" in first.ok("get", "pods", "--cluster", "b")
            assert len(json.loads(first.ok("get", "clusters", "--json"))) == 2


def test_json_lines_for_machines(tmp_path: Path, cluster_address: Callable[[], str]) -> None:
    up = Up(tmp_path, manifests(cluster_address(), proxies=0, relays=1))
    log = tmp_path / "lines.json"
    with Peer([*SIPFLEET, "up", "-f", str(up.file), "--json"], log, up.ready, up.env) as machine:
        os.kill(machine.pid, signal.SIGINT)
        machine.wait(5)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"Started", "Created", "Stopped"} <= {row["reason"] for row in rows}


@pytest.mark.parametrize("words", [["--help"], ["get", "--help"], ["version"]])
def test_the_command_line_answers_without_heavy_imports(tmp_path: Path, words: list[str]) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from sipfleet.cli import cli\n"
        f"try: cli({words!r}, prog_name='sipfleet')\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'redis', 'matplotlib', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
