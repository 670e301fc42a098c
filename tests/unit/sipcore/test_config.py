import pytest

from sipcore.config import ProxyConfig, RelayConfig, endpoint, parse_config
from sipcore.errors import ConfigError

PROXY = """
domains = ["example.test"]
internal = "127.0.0.1:5070"
[[listeners]]
address = "127.0.0.1"
[[routes]]
domain = "example.test"
targets = ["sip:127.0.0.1:7070"]
"""


def test_a_toml_and_a_json_file_read_the_same() -> None:
    toml = parse_config(PROXY, ".toml", ProxyConfig)
    json = parse_config(
        '{"domains": ["example.test"], "internal": "127.0.0.1:5070", "listeners": [{"address": "127.0.0.1"}],'
        '"routes": [{"domain": "example.test", "targets": ["sip:127.0.0.1:7070"]}]}',
        ".json",
        ProxyConfig,
    )
    assert toml == json
    assert toml.listeners[0].port == 5060


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("listeners = []", r"\$\.listeners"),
        ('[[listeners]]\naddress = "127.0.0.1"\nport = 70000', r"\$\.listeners\[0\]\.port"),
        (PROXY.replace("domains", "domain", 1), "domain"),
        ("listeners = [", "configuration file"),
    ],
    ids=["empty", "port", "unknown field", "syntax"],
)
def test_a_fault_names_its_place(text: str, path: str) -> None:
    with pytest.raises(ConfigError, match=path):
        parse_config(text, ".toml", ProxyConfig)


def test_the_suffix_must_be_one_that_is_read() -> None:
    with pytest.raises(ConfigError, match=r"'\.yaml' given, \.toml or \.json expected"):
        parse_config("", ".yaml", RelayConfig)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5060", ("127.0.0.1", 5060)),
        ("[::1]:5060", ("::1", 5060)),
        ("[::1]", ("::1", 9)),
        ("10.1.2.3", ("10.1.2.3", 9)),
    ],
)
def test_an_endpoint_reads(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text, 9) == expected


@pytest.mark.parametrize("text", ["", "x:1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:5060x"])
def test_a_bad_endpoint_says_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="ip:port"):
        endpoint(text)
