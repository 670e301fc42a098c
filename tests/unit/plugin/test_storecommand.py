"""Where `sipfleet store cdrs --since` begins."""

from __future__ import annotations

import pytest

from sipfleet.plugin.storecommand import AFTER_ALL, stream_position

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 999_910_000),
        ("10m", 999_400_000),
        ("2h", 992_800_000),
        ("1d", 913_600_000),
        ("1970-01-12T13:46:40Z", 1_000_000_000),
        ("1970-01-12T13:46:40+00:00", 1_000_000_000),
    ],
)
def test_a_time_is_the_position_before_its_millisecond(text: str, milliseconds: int) -> None:
    assert stream_position(text, NOW) == f"{milliseconds - 1}-{AFTER_ALL}"


def test_a_stream_id_stands_for_itself_and_nothing_for_the_beginning() -> None:
    assert stream_position("1700000000000-3", NOW) == "1700000000000-3"
    assert (stream_position("", NOW), stream_position("-", NOW)) == ("-", "-")


@pytest.mark.parametrize("text", ["yesterday", "10", "10w", "5 m", "-5m"])
def test_what_is_no_time_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time span such as 90s"):
        stream_position(text, NOW)
