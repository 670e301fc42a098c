"""`${NAME}` in configuration values."""

import pytest

from sipcore.errors import ConfigError
from sipcore.placeholders import fill, literal

ENVIRON = {"NAME": "media-0", "POD_IP": "10.0.0.7", "_X1": "", "TRICKY": "${NAME} $$"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${NAME}", "media-0"),
        ("a/${POD_IP}!b:${NAME}", "a/10.0.0.7!b:media-0"),
        ("${_X1}", ""),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$media-0"),
        ("$5 and $NAME", "$5 and $NAME"),
        ("${TRICKY}", "${NAME} $$"),
    ],
)
def test_a_string_is_filled_in_once(text: str, expected: str) -> None:
    assert fill(text, ENVIRON) == expected


def test_lists_and_objects_are_filled_in_all_the_way_down_and_keys_and_numbers_are_not() -> None:
    raw = {"a": [{"b": "${NAME}"}, 3, True, None], "${NAME}": 1.5}
    assert fill(raw, ENVIRON) == {"a": [{"b": "media-0"}, 3, True, None], "${NAME}": 1.5}


@pytest.mark.parametrize("text", ["a$b", "${NAME}", "$$", "$${", "no dollar"])
def test_a_literal_is_read_as_it_was(text: str) -> None:
    assert fill(literal(text), {}) == text


@pytest.mark.parametrize("text", ["${}", "${name}", "${A-B}", "${1A}", "${NAME", "${", "${NAME}${a b}"])
def test_what_is_no_name_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"\$\.pod\.x\[1\]: .* given, \$\{NAME\} with a name of A-Z, 0-9 and _ expected"
    ):
        fill({"pod": {"x": ["", text]}}, ENVIRON)


def test_a_variable_that_is_not_set_is_told_with_the_field() -> None:
    with pytest.raises(ConfigError, match=r"\$\.pod\.name: \$\{POD_NAME\} given, .* in the environment expected"):
        fill({"pod": {"name": "${POD_NAME}"}}, {})


def test_a_password_in_a_url_is_encoded_and_its_value_is_in_no_error() -> None:
    raw = {"store": "redis://:${P}@[${H}]:6379", "other": "${P}"}
    filled = fill(raw, {"P": "a@b/c[d]%", "H": "::1"}, frozenset(("$.store",)))
    assert filled == {"store": "redis://:a%40b%2Fc%5Bd%5D%25@[::1]:6379", "other": "a@b/c[d]%"}
