"""The same commands to our relay and to Debian's rtpengine: the same shape of answers (DESIGN 3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sipcore import ng
from sipcore.bencode import Encodable, Value
from tests.integration.peers.rtpengine import Rtpengine
from tests.integration.relay.conftest import Asker, Call, Relay, next_address

HEAD = "v=0\r\no=alice 1 1 IN IP4 127.104.0.9\r\ns=-\r\nc=IN IP4 127.104.0.9\r\nt=0 0\r\n"
AUDIO = "m=audio {} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
FLAGS: dict[str, Encodable] = {"replace": ["origin", "session-connection"], "ICE": "remove", "flags": ["trust-address"]}
OFFER: dict[str, Encodable] = {"call_id": "c", "from_tag": "a", "sdp": HEAD + AUDIO.format(6000), **FLAGS}
ANSWER: dict[str, Encodable] = {
    "call_id": "c",
    "from_tag": "a",
    "to_tag": "b",
    "sdp": HEAD + AUDIO.format(7000),
    **FLAGS,
}

Command = tuple[str, dict[str, Encodable]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asker, Asker]]:
    work = tmp_path_factory.mktemp("relays")
    host = next_address()
    with Rtpengine(work, (host, 2223), host), Relay(work) as relay:
        askers = Asker((host, 2223)), Asker(relay.ng)
        yield askers
        for client in askers:
            client.close()


def with_sdp(lines: str, **fields: Encodable) -> Command:
    return "offer", {**OFFER, "sdp": HEAD + lines, **fields}


SCRIPTS: dict[str, list[Command]] = {
    "ping": [("ping", {})],
    "a call": [
        ("offer", OFFER),
        ("query", {"call_id": "c"}),
        ("answer", ANSWER),
        ("query", {"call_id": "c"}),
        ("list", {}),
    ],
    "its end": [("offer", OFFER), ("answer", ANSWER), ("delete", {"call_id": "c", "from_tag": "a", "to_tag": "b"})],
    "sendonly": [
        ("offer", OFFER),
        ("answer", ANSWER),
        with_sdp(AUDIO.format(6000).replace("sendrecv", "sendonly"), to_tag="b"),
    ],
    "rtcp-mux": [
        with_sdp(AUDIO.format(6000) + "a=rtcp-mux\r\n"),
        ("answer", {**ANSWER, "sdp": HEAD + AUDIO.format(7000) + "a=rtcp-mux\r\n"}),
        ("query", {"call_id": "c"}),
    ],
    "rtcp-mux refused": [with_sdp(AUDIO.format(6000) + "a=rtcp-mux\r\n"), ("answer", ANSWER)],
    "ICE": [with_sdp(AUDIO.format(6000) + "a=ice-ufrag:x\r\na=candidate:1 1 UDP 1 127.104.0.9 6000 typ host\r\n")],
    "two media, one rejected": [with_sdp(AUDIO.format(6000) + "m=video 0 RTP/AVP 31\r\n" + AUDIO.format(8000))],
    "via-branches": [
        ("offer", {**OFFER, "via_branch": "z9hG4bK1"}),
        ("offer", {**OFFER, "via_branch": "z9hG4bK2"}),
        ("answer", {**ANSWER, "to_tag": "b1", "via_branch": "z9hG4bK1"}),
        ("answer", {**ANSWER, "to_tag": "b2", "via_branch": "z9hG4bK2"}),
    ],
    "unknown call": [("query", {"call_id": "none"}), ("answer", {**ANSWER, "call_id": "none"})],
    "delete of an unknown call": [("delete", {"call_id": "none", "from_tag": "a"})],
    "delete with a foreign tag": [("offer", OFFER), ("delete", {"call_id": "c", "from_tag": "zz"})],
    "no call-id": [("offer", {"from_tag": "a", "sdp": HEAD})],
    "no from-tag": [("offer", {"call_id": "c", "sdp": HEAD + AUDIO.format(1)})],
    "no to-tag": [("answer", {"call_id": "c", "from_tag": "a", "sdp": HEAD + AUDIO.format(1)})],
    "no sdp": [("offer", {"call_id": "c", "from_tag": "a"})],
    "unknown command": [("dance", {})],
}

OURS_ALONE = {b"packets lost", b"jitter us"}
"""Of `stats`: what we count and rtpengine does not say there."""


def shape(value: Value, path: tuple[bytes, ...] = ()) -> object:
    """A reply without what differs between any two runs: numbers, ports, addresses, names of untagged parties."""
    if isinstance(value, dict):
        return {
            re.sub(rb"<untagged \d+>", b"<untagged>", key): shape(item, (*path, key))
            for key, item in value.items()
            if key not in OURS_ALONE
        }
    if isinstance(value, list):
        if path[-1:] == (b"flags",):  # ours says what it uses; rtpengine also what ICE and codecs do
            return sorted(
                {v for v in value if isinstance(v, bytes)} & {b"RTP", b"RTCP", b"send", b"recv", b"initialized"}
            )
        items = [shape(item, path) for item in value]
        return sorted(items, key=repr) if path[-1:] in ((b"subscribers",), (b"subscriptions",)) else items
    if isinstance(value, int):
        return "number"
    if path[-1:] == (b"sdp",):
        return sdp_shape(value)
    if path[-1:] in ((b"address",), (b"local address",)):
        return "address"
    return value


def sdp_shape(sdp: bytes) -> list[str]:
    """The lines of a description, sorted within each media line, our o= and addresses and ports aside."""
    out: list[str] = []
    for section in re.split(r"(?=^m=)", sdp.decode(), flags=re.M):
        lines = []
        for line in section.splitlines():
            if line.startswith("o="):
                line = "o=ours"
            line = re.sub(r"127\.104\.\d+\.\d+", "ADDRESS", line)
            line = re.sub(r"^(m=\w+) [1-9]\d*", r"\1 PORT", line)
            line = re.sub(r"^a=rtcp:\d+", "a=rtcp:PORT", line)
            if not re.match(r"a=rtpmap:(0|8) ", line):  # rtpengine writes those of static types that were left out
                lines.append(line)
        out += sorted(lines)
    return out


def run(client: Asker, script: list[Command], call: str) -> list[object]:
    replies = []
    for command, fields in script:
        named = {**fields, **({"call_id": call} if fields.get("call_id") == "c" else {})}
        reply = client.ask(command, **named)
        replies.append(shape(reply.fields))
    client.ask("delete", call_id=call, from_tag="a")
    return replies


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_relays_answer_alike(both: tuple[Asker, Asker], name: str) -> None:
    theirs, ours = (run(client, [c for c in SCRIPTS[name] if c[0] != "list"], f"{name}-{id(both)}") for client in both)
    assert ours == theirs


def test_both_name_their_calls(both: tuple[Asker, Asker]) -> None:
    for client in both:
        client.ask("offer", **{**OFFER, "call_id": "listed"})
        calls = client.ask("list", limit=1000).fields[b"calls"]
        assert isinstance(calls, list)
        assert b"listed" in calls


def test_both_keep_ports_over_re_offers_from_either_side(both: tuple[Asker, Asker]) -> None:
    for client in both:
        ports = []
        for command, source, tags in (
            ("offer", 6000, ("a", "b")),
            ("answer", 7000, ("a", "b")),
            ("offer", 7000, ("b", "a")),
            ("answer", 6000, ("b", "a")),
        ):
            fields = {**OFFER, "call_id": "kept", "from_tag": tags[0], "sdp": HEAD + AUDIO.format(source)}
            if ports:
                fields["to_tag"] = tags[1]
            match = re.search(rb"m=audio (\d+)", client.ask(command, **fields).sdp)
            assert match
            ports.append(match[1])
        assert (ports[2], ports[3]) == (ports[1], ports[0])


def test_both_answer_a_repeated_cookie_with_the_same_bytes(both: tuple[Asker, Asker]) -> None:
    for client in both:
        fields = {name.replace("_", "-") if name != "ICE" else name: value for name, value in OFFER.items()}
        data = ng.request(b"again-%d" % id(client), "offer", {**fields, "call-id": "again"})
        answers = []
        for _ in range(2):
            client._sock.send(data)
            answers.append(client._sock.recv(65_535))
        assert answers[0] == answers[1]


def test_both_carry_the_same_audio(both: tuple[Asker, Asker]) -> None:
    for client in both:
        call = Call(client, "audio")
        for _ in range(20):
            assert call.audio()
        totals = client.ask("query", call_id="audio").fields[b"totals"]
        assert totals[b"RTP"][b"packets"] == 40  # type: ignore[index, call-overload]
        call.close()


def test_both_know_each_fork_by_tag_and_via_branch(both: tuple[Asker, Asker]) -> None:
    for client in both:
        for number in (1, 2):
            fields = {"call_id": "forks", "via_branch": f"z9hG4bK{number}"}
            client.ask("offer", **{**OFFER, **fields})
            client.ask("answer", **{**ANSWER, **fields, "to_tag": f"b{number}"})
        tags = client.ask("query", call_id="forks").fields[b"tags"]
        assert isinstance(tags, dict)
        branches = {tag: party.get(b"via-branch") for tag, party in tags.items() if isinstance(party, dict)}
        assert branches == {b"a": None, b"b1": b"z9hG4bK1", b"b2": b"z9hG4bK2"}


def test_both_take_the_flags_of_kamailio(both: tuple[Asker, Asker]) -> None:
    """What Kamailio's rtpengine module sends with its usual flags."""
    flags: dict[str, Encodable] = {
        "flags": ["trust-address", "symmetric", "codec-strip-opus"],
        "replace": ["origin", "session-connection"],
        "ICE": "remove",
        "direction": ["default", "default"],
        "received-from": ["IP4", "127.104.0.9"],
        "rtcp-mux": ["demux"],
        "transport-protocol": "RTP/AVP",
        "address-family": "IP4",
    }
    for client in both:
        reply = client.ask("offer", **{**OFFER, "call_id": "kamailio", **flags})
        assert reply.result == "ok", reply
        assert sdp_shape(reply.sdp)[0] == "c=IN IP4 ADDRESS"
