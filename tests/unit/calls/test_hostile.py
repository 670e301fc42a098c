"""Nothing that arrives can end the generator: whatever the bytes, an agent and a meter go on."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sipfleet.calls import rtcp, sdp
from sipfleet.calls.audio import Meter, tag
from sipfleet.calls.callee import Callee
from sipfleet.calls.caller import Caller
from sipfleet.calls.errors import MessageError
from sipfleet.calls.message import parse
from sipfleet.calls.ua import Phone

PEER = ("192.0.2.1", 5060)
INVITE = (
    b"INVITE sip:b@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@example.test>;tag=1\r\nTo: <sip:b@example.test>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
    b"Contact: <sip:a@192.0.2.1>\r\nRecord-Route: <sip:192.0.2.1;lr>\r\nContent-Length: 0\r\n\r\n"
)
WORDS = (
    b"SIP/2.0 200 OK",
    b"BYE sip:b SIP/2.0",
    b";tag=1",
    b"\r\n",
    b":",
    b",",
    b"<",
    b'"',
    b"CSeq: 9 BYE",
    b"\x00",
    b"sip:[",
)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A message with pieces cut out and put in."""
    data = bytearray(INVITE)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 30)))
        data[start:end] = draw(st.sampled_from(WORDS))
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=400), mangled()), st.binary(max_size=60))
def test_no_datagram_ends_an_agent(data: bytes, body: bytes) -> None:
    callee = Callee(Phone(PEER, PEER, random.Random(1)), parse(INVITE), PEER)
    callee.start(0.0, 0.0)
    callee.tick(0.0)
    caller = Caller("c", Phone(PEER, PEER, random.Random(2)), "sip:b@example.test", "a")
    caller.start(0.0, 60.0)
    sdp.remote(body)
    try:
        message = parse(data + body)
    except MessageError:
        return
    for agent in (callee, caller):
        agent.receive(message, PEER, 1.0)
        agent.tick(100.0)
        agent.hang_up(100.0)


@given(st.binary(max_size=2000))
def test_no_packet_ends_a_meter(data: bytes) -> None:
    meter = Meter(tag(1, 1, 1))
    buffer = bytearray(2048)
    buffer[: len(data)] = data
    meter.arrive(buffer, len(data), 1.0)
    rtcp.cname_of(data)
    assert meter.received == 0
