"""The proxy drives a real rtpengine, and our relay, by the same ng commands (DESIGN 3.1)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.peers.fleet import Sipproxy
from tests.integration.peers.probe import answers_ng
from tests.integration.peers.process import Peer
from tests.integration.peers.rtpengine import Rtpengine
from tests.integration.proxy.audio import Ear, media_of, rtp, sdp
from tests.integration.proxy.phones import Phone
from tests.unit.proxy.harness import Address, header, request, response

DOMAIN = "example.test"


@pytest.fixture(params=["rtpengine", "rtprelay"])
def relay(request: pytest.FixtureRequest, tmp_path: Path, loopback_address: Callable[[], str]) -> Iterator[Address]:
    host = loopback_address()
    ng = (host, 2223)
    if request.param == "rtpengine":
        peer: Peer = Rtpengine(tmp_path, ng, host)
    else:
        config = tmp_path / "relay.json"
        config.write_text(json.dumps({"ng": f"{host}:2223", "interfaces": [host], "ports": "24000-24999"}))
        argv = [sys.executable, "-m", "rtprelay", "--config", str(config)]
        peer = Peer(argv, tmp_path / "relay.log", lambda: answers_ng(ng))
    with peer:
        yield ng


def test_audio_goes_both_ways_through_the_relay(
    relay: Address, tmp_path: Path, loopback_address: Callable[[], str]
) -> None:
    at, alices, bobs = loopback_address(), loopback_address(), loopback_address()
    config = {
        "pod": {"name": "proxy-0"},
        "listeners": [{"address": at}],
        "admin": f"{at}:9090",
        "routes": [{"domain": DOMAIN, "targets": [f"sip:{bobs}:5080"]}],
        "media": {"relays": [f"{relay[0]}:{relay[1]}"]},
    }
    phones = Phone((alices, 0), (at, 5060)), Phone((bobs, 5080))
    ears = Ear(alices), Ear(bobs)
    with Sipproxy(tmp_path, config), phones[0] as alice, phones[1] as bob:
        alice.send(request("INVITE", f"sip:bob@{DOMAIN}", source=alice.address, body=sdp(ears[0].address)))
        invite = bob.hear("INVITE")
        to_alice = media_of(invite)
        assert to_alice[0] == relay[0]
        bob.send(response(invite, 200, "OK", contact=bob.address, body=sdp(ears[1].address)))
        ok = alice.hear("SIP/2.0 200")
        to_bob = media_of(ok)
        assert to_bob[0] == relay[0]
        assert to_bob != to_alice
        route = f"Route: {header(ok, 'Record-Route')[0]}"
        target = f"sip:bob@{bobs}:5080"
        alice.send(request("ACK", target, to_tag="bob", branch="a", source=alice.address, extra=route))
        bob.hear("ACK")
        for number in range(1, 6):
            ears[0].socket.sendto(rtp(number), to_bob)
            ears[1].socket.sendto(rtp(number), to_alice)
            assert ears[1].socket.recv(2048)[12:] == bytes(160)
            assert ears[0].socket.recv(2048)[12:] == bytes(160)
        bye = request("BYE", target, cseq=2, to_tag="bob", branch="b", source=alice.address, extra=route)
        alice.send(bye)
        bob.send(response(bob.hear("BYE"), 200, contact=bob.address))
        alice.hear("SIP/2.0 200")
    for ear in ears:
        ear.socket.close()
