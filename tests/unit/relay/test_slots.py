"""The advertised address of a relay's slot."""

import pytest

from rtprelay.core.slots import address_of, advertise
from sipcore.errors import ConfigError


def test_a_slot_finds_its_address_or_none() -> None:
    text = '{"0": "198.51.100.7", "1": "2001:DB8::7"}'
    assert [address_of(text, slot) for slot in (0, 1, 2)] == ["198.51.100.7", "2001:db8::7", None]


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"0": 7}', '{"0": "name.example"}', '{"0": ""}', '{"0": []}'])
def test_a_file_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="slots file"):
        address_of(text, 0)


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        (["10.0.0.7"], ["default/10.0.0.7!198.51.100.7"]),
        (["core/10.0.0.7!192.0.2.1"], ["core/10.0.0.7!198.51.100.7"]),
        (["core/10.0.0.7", "access/10.0.0.7"], ["core/10.0.0.7!198.51.100.7", "access/10.0.0.7"]),
        (["a/2001:db8::7", "b/10.0.0.7"], ["a/2001:db8::7", "b/10.0.0.7!198.51.100.7"]),
    ],
)
def test_the_first_interface_of_its_family_is_advertised_under_it(interfaces: list[str], expected: list[str]) -> None:
    assert advertise(interfaces, "198.51.100.7") == expected


def test_an_address_of_another_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="2001:db8::7 given, an address of the family"):
        advertise(["10.0.0.7"], "2001:db8::7")
