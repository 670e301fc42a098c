"""`rtprelay` as a program: real packets, flags, admin port, signals."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.peers.probe import answers_ng
from tests.integration.peers.process import Peer, wait_for
from tests.integration.relay.conftest import Asker, Call, Phone, Relay, next_address

Start = Callable[..., Relay]
MakeAsker = Callable[[Relay], Asker]


@pytest.mark.parametrize("ports", ["20000-20999", "shared:2@20000"])
def test_audio_flows_both_ways_and_is_counted(start: Start, asker: MakeAsker, ports: str) -> None:
    client = asker(start(ports=ports))
    calls = [Call(client, f"c{n}") for n in range(5)]
    for _ in range(10):
        assert all(call.audio() for call in calls)
    for call in calls:
        totals = client.ask("delete", call_id=call.call_id, from_tag="a").fields[b"totals"]
        assert totals[b"RTP"][b"packets"] == 20  # type: ignore[index, call-overload]
        call.close()


def test_media_leaves_with_tos_184_from_the_port_that_the_peer_sends_to(start: Start, asker: MakeAsker) -> None:
    call = Call(asker(start()), "c")
    call.audio()
    call.callee.rtp.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    call.caller.speak()
    _, extra, _, source = call.callee.rtp.recvmsg(2048, 64)
    assert extra[0][2][0] == 184
    assert source == call.callee.relay
    call.close()


def test_rtcp_flows_beside_rtp(start: Start, asker: MakeAsker) -> None:
    call = Call(asker(start()), "c")
    report = bytes((0x81, 201, 0, 7)) + bytes(28)
    call.audio()
    call.caller.rtcp.sendto(report, (call.caller.relay[0], call.caller.relay[1] + 1))
    data, source = call.callee.rtcp.recvfrom(2048)
    assert data == report
    assert source == (call.callee.relay[0], call.callee.relay[1] + 1)
    call.close()


def test_ipv6_callers_reach_ipv4_callees(start: Start, asker: MakeAsker) -> None:
    host = next_address()
    client = asker(start("--interface", host, "--interface", "::1"))
    caller, callee = Phone("::1"), Phone(next_address())
    callee.faces(client.ask("offer", call_id="c", from_tag="a", sdp=caller.sdp(), address_family="IP4").sdp)
    answer = client.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=callee.sdp(), address_family="IP6")
    caller.faces(answer.sdp)
    assert caller.relay[0] == "::1"
    for _ in range(3):
        assert caller.speak() == callee.hears()
        assert callee.speak() == caller.hears()
    caller.close()
    callee.close()


def test_a_caller_on_hold_is_silent_and_back_at_once(start: Start, asker: MakeAsker) -> None:
    client = asker(start())
    call = Call(client, "c")
    assert call.audio()
    for ip, heard in (("0.0.0.0", False), ("", True)):
        offer = client.ask("offer", call_id="c", from_tag="a", to_tag="b", sdp=call.caller.sdp(ip=ip))
        answer = client.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=call.callee.sdp())
        before = call.caller.relay, call.callee.relay
        call.caller.faces(answer.sdp)
        assert (call.caller.relay[1], call.callee.relay) == (before[0][1], before[1])
        assert offer.result == "ok"
        call.callee.speak()
        assert (call.caller.hears(0.2) is not None) is heard
    call.close()


def test_a_phone_that_moves_by_re_invite_is_heard_from_its_new_address(start: Start, asker: MakeAsker) -> None:
    client = asker(start())
    call = Call(client, "c")
    assert call.audio()
    moved = Phone(next_address())
    client.ask("offer", call_id="c", from_tag="a", to_tag="b", sdp=moved.sdp())
    answer = client.ask("answer", call_id="c", from_tag="a", to_tag="b", sdp=call.callee.sdp())
    moved.faces(answer.sdp)
    for _ in range(3):
        assert moved.speak() == call.callee.hears()
        assert call.callee.speak() == moved.hears()
    call.caller.speak()
    assert call.callee.hears(0.2) is None
    moved.close()
    call.close()


def test_a_port_of_a_call_that_ended_is_closed(start: Start, asker: MakeAsker) -> None:
    client = asker(start())
    call = Call(client, "c")
    call.audio()
    client.ask("delete", call_id="c", from_tag="a")
    call.caller.rtp.connect(call.caller.relay)
    call.caller.rtp.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        call.caller.rtp.recv(10)
    call.close()


def test_a_phone_whose_socket_is_closed_does_not_harm_the_call(start: Start, asker: MakeAsker) -> None:
    client = asker(start())
    call = Call(client, "c")
    assert call.audio()
    call.callee.rtp.close()
    for _ in range(20):
        call.caller.speak()
        time.sleep(0.002)
    other = Call(client, "d")
    assert other.audio()
    assert client.ask("query", call_id="c").fields[b"totals"][b"RTP"][b"packets"] >= 10  # type: ignore[index, call-overload, operator]
    other.close()
    call.caller.close()


def test_a_held_tcp_connection_tells_of_the_relays_death_at_once(start: Start) -> None:
    relay = start()
    with socket.create_connection(relay.ng, timeout=2) as held:
        held.sendall(b"hello")
        held.settimeout(0.2)
        with pytest.raises(TimeoutError):
            held.recv(1)
        killed = time.monotonic()
        os.kill(relay.pid, signal.SIGKILL)
        held.settimeout(2)
        try:
            assert held.recv(1) == b""
        except ConnectionResetError:
            pass
        assert time.monotonic() - killed < 0.5


def test_sigterm_drains_and_the_program_ends_with_the_last_call(start: Start, asker: MakeAsker) -> None:
    relay = start()
    client = asker(relay)
    call = Call(client, "c")
    assert call.audio()
    os.kill(relay.pid, signal.SIGTERM)
    wait_for(lambda: relay.status()["draining"] is True, 2, "the relay drains")
    assert call.audio()
    assert relay.get("/readyz")[0] == 200
    assert client.ask("offer", call_id="new", from_tag="a", sdp=call.caller.sdp()).result == "load limit"
    client.ask("delete", call_id="c", from_tag="a")
    assert relay.wait(2) == 0
    call.close()


def test_sigterm_ends_an_empty_relay_at_once(start: Start) -> None:
    relay = start()
    os.kill(relay.pid, signal.SIGTERM)
    assert relay.wait(2) == 0


def test_sigint_ends_a_relay_with_calls_at_once(start: Start, asker: MakeAsker) -> None:
    relay = start()
    call = Call(asker(relay), "c")
    os.kill(relay.pid, signal.SIGINT)
    assert relay.wait(2) == 0
    call.close()


def test_drain_by_the_admin_port_waits_and_the_process_stays(start: Start, asker: MakeAsker) -> None:
    relay = start()
    client = asker(relay)
    call = Call(client, "c")
    assert relay.get("/drain", "POST") == (200, "ok\n")
    client.ask("delete", call_id="c", from_tag="a")
    wait_for(lambda: relay.status()["empty"] is True, 2, "the relay is empty")
    assert relay.running
    assert relay.get("/uncordon", "POST")[0] == 200
    Call(client, "d").close()
    call.close()


def test_the_admin_port_answers_probes_status_metrics_and_verbs(start: Start, asker: MakeAsker) -> None:
    relay = start("--capacity", "7")
    call = Call(asker(relay), "c")
    call.audio()
    status = relay.status()
    assert (status["active"], status["capacity"], status["ready"], status["datapath"]) == (1, 7, True, "userspace")
    metrics = dict(line.rsplit(" ", 1) for line in relay.get("/metrics")[1].splitlines() if not line.startswith("#"))
    assert metrics["rtprelay_sessions"] == "1"
    assert metrics["rtprelay_rtp_packets_total"] == "2"
    assert relay.get("/livez")[0] == 200
    assert relay.get("/cordon", "POST")[0] == 200
    assert relay.status()["cordoned"] is True
    assert relay.get("/cordon")[0] == 405
    assert relay.get("/nothing")[0] == 404
    assert relay.get("/reload", "POST")[0] == 409
    call.close()


def test_reload_takes_capacity_in_place_and_refuses_ports(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    relay = Relay(tmp_path)
    text = f'interfaces = ["{relay.host}"]\nng = "{relay.host}:2223"\nadmin = "{relay.host}:8080"\n'
    file.write_text(text + 'ports = "20000-20999"\ncapacity = 5\n')
    relay.argv = [*relay.argv[:3], "--config", str(file)]
    with relay:
        file.write_text(text + 'ports = "20000-20999"\ncapacity = 9\n')
        assert relay.get("/reload", "POST") == (200, "ok\n")
        assert relay.status()["capacity"] == 9
        file.write_text(text + 'ports = "30000-30999"\ncapacity = 9\n')
        code, reason = relay.get("/reload", "POST")
        assert (code, "ports" in reason) == (409, True)
        file.write_text("ports = 5")
        assert relay.get("/reload", "POST")[0] == 400
        assert relay.running


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "rtprelay", *flags], capture_output=True, text=True, timeout=10)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((), "interface"),
        (("--interface", "eth0"), "eth0"),
        (("--interface", "127.0.0.1", "--ports", "1-0"), "ports"),
        (("--interface", "127.0.0.1", "--ports", "shared:2@20001"), "shared"),
        (("--interface", "127.0.0.1", "--ng", "nowhere"), "nowhere"),
        (("--interface", "127.0.0.1", "--capacity", "0"), "capacity"),
        (("--interface", "127.0.0.1", "--store", "ftp://x"), "store"),
    ],
)
def test_a_bad_configuration_ends_with_status_2_and_names_the_field(flags: tuple[str, ...], named: str) -> None:
    done = run(*flags)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_ends_with_status_1(start: Start) -> None:
    relay = start()
    done = run("--interface", relay.host, "--ng", f"{relay.host}:2223", "--ports", "21000-21999")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_ports_that_the_system_gives_away_are_warned_of(start: Start) -> None:
    overlapping, clear = start(ports="40000-40999"), start(ports="20000-20999")
    assert "ephemeral_ports" in {event["event"] for event in overlapping.events()}
    assert "ephemeral_ports" not in {event["event"] for event in clear.events()}


def test_a_full_log_pipe_does_not_stop_the_media(tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    process = subprocess.Popen(relay.argv, stderr=subprocess.PIPE)
    try:
        wait_for(relay.ready, 10, "the relay serves")
        client = Asker(relay.ng)
        for number in range(2000):
            client.ask("answer", call_id=f"nobody-{number}" + "x" * 100, from_tag="a", to_tag="b", sdp="v=0")
        call = Call(client, "c")
        assert call.audio()
        call.close()
        client.close()
    finally:
        process.kill()
        process.communicate()


def test_rubbish_on_every_socket_is_survived(start: Start, asker: MakeAsker) -> None:
    relay = start()
    call = Call(asker(relay), "c")
    assert call.audio()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in (0, 1, 11, 12, 60, 1400, 9000, 65_000):
            data = os.urandom(size)
            for port in (2223, call.caller.relay[1], call.caller.relay[1] + 1, call.callee.relay[1]):
                sock.sendto(data, (relay.host, port))
    for address in (relay.admin, relay.ng):
        with socket.create_connection(address, timeout=2) as stream:
            stream.sendall(os.urandom(5000))
    for _ in range(5):
        assert call.audio()
    call.close()


def test_crossed_on_purpose_delivers_foreign_audio(start: Start, asker: MakeAsker) -> None:
    client = asker(start(env={"SIPFLEET_BREAK": "cross"}))
    calls = [Call(client, f"c{n}") for n in range(2)]
    foreign = 0
    for _ in range(10):
        sent = [call.caller.speak() for call in calls]
        foreign += sum(call.callee.hears() != data for call, data in zip(calls, sent, strict=True))
    assert foreign > 5
    for call in calls:
        call.close()


def test_drain_skipped_on_purpose_cuts_the_calls(start: Start, asker: MakeAsker) -> None:
    relay = start(env={"SIPFLEET_BREAK": "drain"})
    call = Call(asker(relay), "c")
    os.kill(relay.pid, signal.SIGTERM)
    assert relay.wait(2) == 0
    call.close()


def documented() -> list[list[str]]:
    text = (Path(__file__).parents[3] / "docs" / "relay.md").read_text()
    return [shlex.split(line) for line in text.splitlines() if line.startswith("rtprelay ")]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_the_commands_of_the_documentation_serve(tmp_path: Path, words: list[str]) -> None:
    """As they stand, on addresses of this test's own."""
    own = {address: next_address() for address in ("127.0.0.1", "127.0.0.2")}
    flags = [word.replace("127.0.0.1", own["127.0.0.1"]).replace("127.0.0.2", own["127.0.0.2"]) for word in words[1:]]
    with Peer(
        [sys.executable, "-m", "rtprelay", *flags], tmp_path / "log", lambda: answers_ng((own["127.0.0.1"], 2223))
    ):
        client = Asker((own["127.0.0.1"], 2223))
        call = Call(client, "documented")
        if "!" not in " ".join(words):
            assert call.audio()
        call.close()
        client.close()
