"""RTP headers and the receiver's statistics (RFC 3550)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import RtpError
from sipcore.rtp import Mark, Reception, RtpPacket, clock_rate, is_rtcp, is_rtp, rtcp_sender

DATA = Path(__file__).parent / "data"


def packet(sequence: int, timestamp: int | None = None, ssrc: int = 5, payload_type: int = 0) -> bytes:
    timestamp = sequence * 160 & 0xFFFFFFFF if timestamp is None else timestamp
    return bytes(RtpPacket(payload_type, sequence & 0xFFFF, timestamp, ssrc, bytes(160)))


def test_an_ordinary_packet_is_read() -> None:
    data = (DATA / "rtp_pcmu.bin").read_bytes()
    parsed = RtpPacket.parse(data)
    assert (parsed.payload_type, parsed.sequence, parsed.timestamp, parsed.ssrc) == (0, 15743, 3937035252, 4028317929)
    assert len(parsed.payload) == 160
    assert bytes(parsed) == data


def test_csrc_and_header_extension_are_read() -> None:
    data = (DATA / "rtp_csrc_and_extension.bin").read_bytes()
    parsed = RtpPacket.parse(data)
    assert parsed.csrc == [2882400001, 3735928559]
    assert parsed.extension == (0xBEDE, bytes.fromhex("900100ff"))
    assert parsed.payload == b"audio"
    assert parsed.marker
    assert bytes(parsed) == data


def test_padding_is_taken_off() -> None:
    assert RtpPacket.parse((DATA / "rtp_padding.bin").read_bytes()).payload == b"audio"


@pytest.mark.parametrize(
    "name",
    [
        "rtp_truncated_header",
        "rtp_truncated_csrc",
        "rtp_truncated_extension",
        "rtp_truncated_extension_words",
        "rtp_padding_zero",
        "rtp_padding_too_long",
        "rtp_version_1",
        "rtp_empty",
    ],
)
def test_malformed_packets_are_rtp_errors(name: str) -> None:
    with pytest.raises(RtpError):
        RtpPacket.parse((DATA / f"{name}.bin").read_bytes())


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_an_rtp_error(data: bytes) -> None:
    Reception().count(data, 1.0)
    is_rtp(data)
    is_rtcp(data)
    try:
        RtpPacket.parse(data)
    except RtpError:
        return


@given(
    st.builds(
        RtpPacket,
        payload_type=st.integers(0, 127),
        sequence=st.integers(0, 0xFFFF),
        timestamp=st.integers(0, 0xFFFFFFFF),
        ssrc=st.integers(0, 0xFFFFFFFF),
        payload=st.binary(max_size=50),
        marker=st.booleans(),
        csrc=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15),
        extension=st.none() | st.tuples(st.integers(0, 0xFFFF), st.sampled_from([b"", b"abcd", bytes(8)])),
    )
)
def test_what_is_printed_is_parsed_the_same(packet: RtpPacket) -> None:
    assert RtpPacket.parse(bytes(packet)) == packet


def test_rtcp_and_rtp_are_told_apart_on_one_port() -> None:
    report = bytes((0x81, 200, 0, 6)) + bytes(24)
    assert is_rtcp(report)
    assert not is_rtp(report)
    assert is_rtp(packet(1))
    assert not is_rtcp(packet(1))
    assert not is_rtp(b"\0\1" + bytes(30))


@pytest.mark.parametrize(
    ("payload_type", "rate"), [(0, 8000), (8, 8000), (9, 8000), (18, 8000), (31, 90000), (96, 8000)]
)
def test_clock_rates_of_rfc_3551(payload_type: int, rate: int) -> None:
    assert clock_rate(payload_type) == rate


def received(*sequences: int) -> Reception:
    reception = Reception()
    for at, sequence in enumerate(sequences):
        assert reception.count(packet(sequence), at * 0.02)
    return reception


def test_nothing_lost_in_an_unbroken_stream() -> None:
    assert received(*range(10, 60)).lost == 0


def test_a_gap_is_lost() -> None:
    assert received(1, 2, 6, 7).lost == 3


def test_a_late_packet_is_not_lost() -> None:
    assert received(1, 2, 4, 3, 5).lost == 0


def test_a_packet_that_came_twice_counts_against_the_loss() -> None:
    assert received(1, 2, 2, 4).lost == 0


def test_the_sequence_number_wraps() -> None:
    assert received(65533, 65534, 65535, 0, 1).lost == 0
    assert received(65533, 65534, 1, 2).lost == 2
    assert received(65533, 65535, 0).lost == 1


def test_a_late_packet_across_the_wrap_is_not_lost() -> None:
    reception = received(65534, 0, 65535, 1)
    assert reception.lost == 0
    assert reception.packets == 4


def test_another_ssrc_starts_anew_and_keeps_the_loss_so_far() -> None:
    reception = received(1, 2, 5)
    reception.count(packet(40_000, ssrc=6), 1.0)
    reception.count(packet(40_001, ssrc=6), 1.02)
    assert (reception.lost, reception.packets, reception.ssrc) == (2, 5, 6)


def test_a_large_jump_is_a_new_start_and_no_loss() -> None:
    assert received(1, 2, 30_000, 30_001).lost == 0


def test_jitter_is_the_smoothed_change_of_spacing() -> None:
    steady = Reception()
    for n in range(200):
        steady.count(packet(n), n * 0.02)
    assert steady.jitter_ms < 0.001
    reception = Reception()
    for n in range(500):
        reception.count(packet(n), n * 0.02 + (0.02 if n % 2 else 0.0))
    assert reception.jitter_ms == pytest.approx(20.0, rel=0.01)


def test_what_is_no_rtp_is_not_counted() -> None:
    reception = received(1, 2)
    assert not reception.count(bytes((0x81, 200, 0, 6)) + bytes(24), 1.0)
    assert not reception.count(b"\x80" * 11, 1.0)
    assert not reception.count(bytes(172), 1.0)
    assert (reception.packets, reception.bytes) == (2, 344)


MARK = Mark(ssrc=5, sequence=100, timestamp=16_000, at=50.0)


@pytest.mark.parametrize(
    ("sequence", "timestamp", "after", "continues"),
    [
        (100, 16_160, 0.02, True),
        (101, 16_320, 0.02, True),
        (100, 16_000, 0.0, True),  # DTMF repeats its timestamp (RFC 4733 2.5.1.2)
        (99, 16_000, 0.02, False),
        (99, 15_840, 10.0, False),
        (155, 25_000, 0.02, False),
        (600, 96_160, 10.0, True),
        (101, 96_160, 10.0, True),  # silence is not sent
        (101, 16_160, 10.0, True),  # the sender's clock stood still
        (101, 56_000, 10.0, False),
        (101, 136_000, 10.0, False),
        (7, 16_000 + 8000 * 3600, 3600.0, True),
        (7, 16_000 + 8000 * 3605, 3600.0, True),
        (7, 16_000 + 8000 * 3606, 3600.0, False),
        (100, 16_160, -5.0, True),
    ],
)
def test_a_packet_continues_a_stream_when_sequence_and_timestamp_go_on(
    sequence: int, timestamp: int, after: float, continues: bool
) -> None:
    assert MARK.continued_by(packet(sequence, timestamp), 8000, 50.0 + after) is continues
    assert not MARK.continued_by(packet(sequence, timestamp, ssrc=6), 8000, 50.0 + after)


def test_sequence_and_timestamp_may_wrap_between_two_packets() -> None:
    mark = Mark(5, 65_535, 0xFFFFFF00, 0.0)
    assert mark.continued_by(packet(3, 500), 8000, 0.1)
    assert not Mark(5, 3, 500, 0.0).continued_by(packet(65_535, 0xFFFFFF00), 8000, 0.1)


@pytest.mark.parametrize("data", [b"", packet(100, 16_160)[:11], bytes((0x80, 200)) + packet(100, 16_160)[2:]])
def test_what_is_no_rtp_continues_nothing(data: bytes) -> None:
    assert not MARK.continued_by(data, 8000, 50.02)


@given(st.integers(0, 65_535), st.integers(0, 0xFFFFFFFF), st.floats(0, 1e7), st.sampled_from([8000, 48_000, 90_000]))
def test_a_mark_is_where_the_stream_is(sequence: int, timestamp: int, now: float, rate: int) -> None:
    reception = Reception(rate)
    assert reception.mark is None
    reception.count(packet(sequence, timestamp), now)
    reception.count(packet(sequence + 1, (timestamp + 160) & 0xFFFFFFFF), now + 0.02)
    assert reception.mark == Mark(5, (sequence + 2) & 0xFFFF, (timestamp + 160) & 0xFFFFFFFF, now + 0.02)


def test_the_sender_of_a_report_is_read_from_sr_and_rr() -> None:
    for kind, ssrc in ((200, 9), (201, 9), (202, -1), (203, -1)):
        assert rtcp_sender(bytes((0x81, kind, 0, 7)) + (9).to_bytes(4, "big") + bytes(24)) == ssrc
    assert rtcp_sender(packet(1)) == rtcp_sender(b"") == -1
