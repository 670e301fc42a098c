"""What RFC 4475 (SIP torture tests) means for a proxy: messages of the kinds of its sections."""

import random

import pytest

from sipproxy.core import events

from .harness import ALICE, BOB, Call, World, header, lines, request, response, start_line


@pytest.fixture
def world() -> World:
    return World()


def status(answers: list[bytes]) -> str:
    """Status of the one answer; the method when it was forwarded; nothing for silence."""
    if not answers:
        return ""
    first = start_line(answers[0])
    return first.split()[1] if first.startswith("SIP/2.0") else first.split()[0]


WSINV = lines("""
INVITE sip:vivekg@example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@example.com ;   tag    = 1918181833n
from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 3
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

v=0
""")


def test_a_tortuous_invite_is_understood(world: World) -> None:
    """3.1.1.1. It is of a dialog that nobody has (it carries a To-tag): 481, with its Vias as they were."""
    [refusal] = world.proxy().hear(WSINV, ALICE)
    assert status([refusal]) == "481"
    assert len(header(refusal, "Via") + header(refusal, "v")) == 2
    assert header(refusal, "CSeq") == ["0009 INVITE"]


def test_an_unusual_method_is_forwarded(world: World) -> None:
    """3.1.1.2: a method is any token."""
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    out = world.proxy().hear(request(method), ALICE)
    assert start_line(out[0]).startswith(method + " ")


def test_escapes_are_left_alone(world: World) -> None:
    """3.1.1.3 to 3.1.1.5: %00 and escaped reserved characters in the user; RE%47IST%45R is a method of its own."""
    for uri in ("sip:sips%3Auser%40example.com@example.com", "sip:null-%00-null@example.com"):
        out = world.proxy().hear(request("OPTIONS", uri), ALICE)
        assert uri.split("@")[0] in start_line(out[0])
    assert status(world.proxy().hear(request("RE%47IST%45R"), ALICE)) == "RE%47IST%45R"


def test_a_display_name_may_touch_its_bracket(world: World) -> None:
    """3.1.1.6."""
    data = request("OPTIONS").replace(b"From: <", b"From: caller<")
    assert status(world.proxy().hear(data, ALICE)) == "OPTIONS"


def test_long_values_pass(world: World) -> None:
    """3.1.1.7."""
    long = "x" * 2000
    out = world.proxy().hear(request("INVITE", extra=f"Unknown-{long}: {long}", call_id=long), ALICE)
    assert header(out[0], "Call-ID") == [long]


def test_a_second_message_behind_the_first_in_one_datagram_is_ignored(world: World) -> None:
    """3.1.1.8."""
    out = world.proxy().hear(request("MESSAGE", body="one") + request("INVITE", branch="2"), ALICE)
    assert len(out) == 1
    assert out[0].endswith(b"one")


def test_semicolons_in_the_user_part_are_part_of_it(world: World) -> None:
    """3.1.1.9."""
    out = world.proxy().hear(request("OPTIONS", "sip:user;par=u%40example.net@example.com"), ALICE)
    assert start_line(out[0]).startswith("OPTIONS sip:user;par=u%40example.net@127")


def test_vias_of_other_transports_pass(world: World) -> None:
    """3.1.1.10."""
    others = (
        b"Via: SIP/2.0/SCTP s.example.com;branch=z9hG4bK1\r\nVia: SIP/2.0/UNKNOWN u.example.com;branch=z9hG4bK2\r\n"
    )
    data = request("OPTIONS").replace(b"Max-Forwards", others + b"Max-Forwards")
    out = world.proxy().hear(data, ALICE)
    assert len(header(out[0], "Via")) == 4


@pytest.mark.parametrize("reason", [b"= 2**3 * 5**2 \xd0\xbd\xd0\xbe", b""])
def test_a_reason_phrase_may_be_anything(world: World, reason: bytes) -> None:
    """3.1.1.12, 3.1.1.13."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    ringing = response(invite, 180).replace(b"180 Reason", b"180 " + reason)
    assert len(proxy.hear(ringing, BOB)) == 1


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (b"Via: SIP/2.0/UDP 127.105.0.2:5061;", b"Via: SIP/2.0/UDP 127.105.0.2:5061;;,;,,", ""),  # 3.1.2.1
        (b"Content-Length: 0", b"Content-Length: 9999", "400"),  # 3.1.2.2
        (b"Content-Length: 0", b"Content-Length: -999", "400"),  # 3.1.2.3
        (b"CSeq: 1 ", b"CSeq: 36893488147419103232 ", "400"),  # 3.1.2.4
        (b"Max-Forwards: 70", b"Max-Forwards: 300", "400"),  # 3.1.2.4
        (b"To: <sip", b'To: "Mr. J. User <sip', "400"),  # 3.1.2.6
        (b"INVITE sip:bob@example.com SIP", b"INVITE <sip:bob@example.com> SIP", "400"),  # 3.1.2.7
        (b"INVITE sip:bob@example.com SIP", b"INVITE sip:bob@example.com; lr SIP", "400"),  # 3.1.2.8
        (b"INVITE sip:", b"INVITE  sip:", "400"),  # 3.1.2.9
        (b"SIP/2.0\r\nVia", b"SIP/2.0  \r\nVia", "400"),  # 3.1.2.10
        (b"sip:bob@example.com SIP", b"sip:bob@example.com?Route=%3Csip:example.com%3E SIP", "400"),  # 3.1.2.11
        (b"To: <sip:bob@example.com>", b"To: sip:bob@example.com?Route=%3Csip:x%3E", "400"),  # 3.1.2.14
        (b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia", "505"),  # 3.1.2.16
        (b"CSeq: 1 INVITE", b"CSeq: 1 OPTIONS", "400"),  # 3.1.2.17
        (b"CSeq: 1 INVITE", b"CSeq: 1 NEWMETHOD", "400"),  # 3.1.2.18
        (b"Call-ID: ", b"X-Call-ID: ", "400"),  # 3.3.1
        (b"sip:bob@example.com SIP", b"nobodyKnowsThisScheme:totallyopaquecontent SIP", "416"),  # 3.3.2
        (b"Max-Forwards: 70", b"Proxy-Require: nothingSupportsThis", "420"),  # 3.3.6
        (b"Call-ID: ", b"From: <sip:x@y>;tag=z\r\nCall-ID: ", "400"),  # 3.3.8
        (b"Content-Length: 0", b"Content-Length: 0\r\nContent-Length: 150", "400"),  # 3.3.9
        (b"Max-Forwards: 70", b"Max-Forwards: 0", "483"),  # 3.3.11
    ],
)
def test_what_is_wrong_gets_its_answer_and_keeps_nothing(world: World, old: bytes, new: bytes, wanted: str) -> None:
    proxy = world.proxy()
    data = request("INVITE")
    assert old in data
    assert status(proxy.hear(data.replace(old, new, 1), ALICE)) == wanted
    assert proxy.core.empty
    assert "internal_errors" not in proxy.count


@pytest.mark.parametrize("code", [b"4294967301", b"1", b"999", b"2x0"])
def test_an_impossible_status_code_is_dropped(world: World, code: bytes) -> None:
    """3.1.2.19."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    assert proxy.hear(response(invite, 200).replace(b"200 Reason", code + b" better not break"), BOB) == []
    assert not proxy.core.empty


def test_a_response_with_overlarge_numbers_is_dropped(world: World) -> None:
    """3.1.2.5."""
    proxy = world.proxy()
    invite, _ = proxy.hear(request("INVITE"), ALICE)
    assert proxy.hear(response(invite, 503).replace(b"CSeq: 1 ", b"CSeq: 9292394834772304023312 "), BOB) == []


@pytest.mark.parametrize("branch", ["z9hG4bK", "", "1"])
def test_a_branch_without_its_uniqueness_is_matched_as_rfc_2543_had_it(world: World, branch: str) -> None:
    """3.2.1, 3.3.15: by the whole Via, Call-ID, CSeq and tags."""
    proxy = world.proxy()
    data = request("INVITE").replace(b";branch=z9hG4bK1", b";branch=%b" % branch.encode() if branch else b"")
    invite, _ = proxy.hear(data, ALICE)
    assert [status([d]) for d in proxy.hear(data, ALICE)] == ["100"]
    other = proxy.hear(data.replace(b"call@alice", b"other@alice"), ALICE)
    assert status(other) == "INVITE"
    proxy.hear(response(invite, 486), BOB)
    assert (
        proxy.hear(data.replace(b"INVITE", b"ACK").replace(b"example.com>\r\nC", b"example.com>;tag=bob\r\nC"), ALICE)
        == []
    )


def test_a_broadcast_response_goes_nowhere(world: World) -> None:
    """3.3.10: its Via is not ours."""
    data = lines("""
SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23
Call-ID: bcast.0384840201234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.com;tag=11141343
To: sip:user@example.edu;tag=2229
Content-Length: 0

""")
    assert world.proxy().hear(data, ALICE) == []


def test_bodies_of_any_octets_pass_unchanged(world: World) -> None:
    """3.1.1.11: multipart with binary."""
    body = bytes(range(256)).decode("latin-1")
    data = request("MESSAGE", extra="X: y", body="").replace(b"Content-Length: 0", b"Content-Length: 256")
    [out] = world.proxy().hear(data + body.encode("latin-1"), ALICE)
    assert out.endswith(bytes(range(256)))


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n\r\n", b"\0" * 600, b"\xff" * 600, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\x01\x00\x00" * 9],
)
def test_noise_gets_silence(world: World, data: bytes) -> None:
    assert world.proxy().hear(data, ALICE) == []


def test_messages_cut_and_mangled_at_random_never_hurt(world: World) -> None:
    """Whatever bytes come, in whatever state: no error inside, and the next good call goes through."""
    rng = random.Random(4475)
    proxy = world.proxy()
    call = Call(proxy)
    seeds = [call.invite, call.from_alice("ACK", 1), call.from_alice("INFO", 2), response(call.at_bob, 200), WSINV]
    for turn in range(3000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 8)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randrange(1, 40)]
                case 2:
                    data[at:at] = rng.choice([b"\r\n", b",", b";", b'"', b"<", b">", b":", b" ", b"\0", b"@", b"sip:"])
                case _:
                    other = rng.choice(seeds)
                    cut = rng.randrange(len(other))
                    data[at:at] = other[cut : cut + 60]
            if not data:
                data = bytearray(b"x")
        proxy.feed(events.Datagram(bytes(data), (ALICE[0], 1024 + turn), 0))
        if turn % 100 == 0:
            world.advance(1)
    assert proxy.count.get("internal_errors", 0) == 0, proxy.logged("internal-error")
    assert start_line(Call(proxy, "after").ok) == "SIP/2.0 200 OK"
    world.advance(400)
    assert len(proxy.core.node.contexts) == 0
    assert len(proxy.core.node.branches) == 0
