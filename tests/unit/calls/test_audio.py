"""Packets and the meter that judges them."""

from __future__ import annotations

import pytest

from sipfleet.calls import rtcp
from sipfleet.calls.audio import LONGEST, SIZE, TO_CALLEE, TO_CALLER, Meter, packet, patch, tag

RUN, CALL = 0xABCD, 7


def made(sequence: int, call: int = CALL, direction: int = TO_CALLER) -> bytearray:
    data = packet(tag(RUN, call, direction))
    patch(data, sequence, ssrc=99)
    return data


@pytest.fixture
def meter() -> Meter:
    return Meter(tag(RUN, CALL, TO_CALLER))


def hear(meter: Meter, *sequences: int, start: float = 1.0) -> None:
    for sequence in sequences:
        meter.arrive(made(sequence), SIZE, start + sequence * 0.02)


def test_a_packet_is_g711_of_20_ms() -> None:
    data = made(70_000)
    assert len(data) == 172
    assert data[:2] == b"\x80\x00"
    assert int.from_bytes(data[2:4]) == 70_000 & 0xFFFF
    assert int.from_bytes(data[4:8]) == 70_000 * 160
    assert int.from_bytes(data[8:12]) == 99


def test_an_unbroken_stream_has_no_loss(meter: Meter) -> None:
    hear(meter, *range(5000))
    assert (meter.received, meter.lost(), meter.duplicates, meter.foreign) == (5000, 0, 0, 0)
    assert meter.longest == pytest.approx(0.02)
    assert meter.silences == []


def test_missing_packets_are_lost_also_the_first_ones(meter: Meter) -> None:
    hear(meter, 2, 3, 10)
    assert meter.lost() == 8
    assert meter.longest == pytest.approx(0.14)
    assert meter.silences == [(pytest.approx(1.06), pytest.approx(1.2))]


def test_a_reordered_packet_is_not_lost_and_a_second_copy_is_a_duplicate(meter: Meter) -> None:
    for at, sequence in enumerate((0, 2, 1, 2, 1)):
        meter.arrive(made(sequence), SIZE, 1 + at * 0.02)
    assert (meter.received, meter.lost(), meter.duplicates) == (3, 0, 2)


def test_another_call_another_direction_and_noise_are_told_apart(meter: Meter) -> None:
    meter.arrive(made(0, call=8), SIZE, 1.0)
    meter.arrive(made(0, direction=TO_CALLEE), SIZE, 1.0)
    meter.arrive(bytearray(SIZE), SIZE, 1.0)
    meter.arrive(made(0)[:100], 100, 1.0)
    assert (meter.received, meter.foreign, meter.reversed) == (0, 3, 1)
    assert meter.stranger == "call 8 direction 1"


def test_a_sequence_number_beyond_the_longest_call_is_foreign(meter: Meter) -> None:
    meter.arrive(made(LONGEST), SIZE, 1.0)
    assert (meter.received, meter.foreign) == (0, 1)


def test_the_silence_before_the_bye_counts_and_nothing_after_it(meter: Meter) -> None:
    hear(meter, 0, 1)
    meter.close(1.52)
    hear(meter, 2)
    assert (meter.received, meter.lost()) == (2, 0)
    assert meter.longest == pytest.approx(0.5)
    assert meter.longest_at == pytest.approx(1.02)


def test_an_empty_datagram_is_a_keepalive_and_no_audio(meter: Meter) -> None:
    meter.arrive(made(0), 0, 1.0)
    assert (meter.received, meter.foreign) == (0, 0)


def test_a_stranger_after_the_bye_still_counts(meter: Meter) -> None:
    meter.close(1.0)
    meter.arrive(made(0, call=8), SIZE, 1.1)
    assert meter.foreign == 1


def test_a_report_names_its_call() -> None:
    data = rtcp.report(99, "0000abcd-7-caller", 1_700_000_000.25, 100, 160)
    assert len(data) % 4 == 0
    assert rtcp.cname_of(data) == "0000abcd-7-caller"


@pytest.mark.parametrize("data", [b"", b"\x80\xc8", bytes(28), b"\x81\xca\x00\x01\x00\x00\x00\x63"])
def test_what_is_no_report_has_no_name(data: bytes) -> None:
    assert rtcp.cname_of(data) is None
