import json

import msgspec
import pytest

from sipcore.config import Pod, ProxyConfig, RelayConfig, endpoint, parse_config
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
    same = parse_config(
        '{"domains": ["example.test"], "internal": "127.0.0.1:5070", "listeners": [{"address": "127.0.0.1"}],'
        '"routes": [{"domain": "example.test", "targets": ["sip:127.0.0.1:7070"]}]}',
        ".json",
        ProxyConfig,
    )
    assert toml == same
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
        ("[10.1.2.3]:9090", ("10.1.2.3", 9090)),
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


ALL_PODS = {
    "pod": {"name": "${POD_NAME}", "object_uid": "${POD_UID}"},
    "ng": "[${POD_IP}]:2223",
    "interfaces": ["core/${POD_IP}"],
    "admin": "[${POD_IP}]:9090",
    "store": "sentinel://:${STORE_PASSWORD}@sentinels:26379/main",
}


@pytest.mark.parametrize("address", ["10.0.0.7", "2001:db8::7"])
def test_one_file_serves_all_pods_of_a_revision(address: str) -> None:
    environ = {"POD_NAME": "media-3", "POD_UID": "1-2", "POD_IP": address, "STORE_PASSWORD": "p@ss/w:rd%"}
    config = parse_config(json.dumps(ALL_PODS), ".json", RelayConfig, environ)
    assert (config.pod.name, config.pod.slot, config.pod.object_uid) == ("media-3", 3, "1-2")
    assert (endpoint(config.ng), endpoint(config.admin)) == ((address, 2223), (address, 9090))
    assert config.interfaces == [f"core/{address}"]
    assert config.store == "sentinel://:p%40ss%2Fw:rd%25@sentinels:26379/main"


def test_a_url_that_comes_whole_is_taken_as_it_is() -> None:
    text = json.dumps({"interfaces": ["10.0.0.7"], "store": "${STORE_URL}"})
    assert parse_config(text, ".json", RelayConfig, {"STORE_URL": "redis://:p%40@h/1"}).store == "redis://:p%40@h/1"


def test_the_place_in_the_set_is_what_the_file_says_else_the_end_of_the_name() -> None:
    names = {"media-3": 3, "media-0": 0, "media": 0, "media-3x": 0, "a-b-12": 12}
    assert {name: Pod(name=name).slot for name in names} == names
    assert Pod(name="media-3", ordinal=0).slot == 0


def test_each_process_of_a_kubernetes_pod_is_an_incarnation_of_its_own() -> None:
    pod = Pod(object_uid="6f1c-11")
    first, second = pod.incarnation(bytes(8)), pod.incarnation(b"\xff" * 8)
    assert (first, second) == ("6f1c-11.00000000", "6f1c-11.ffffffff")
    assert Pod(uid="cafe").incarnation(bytes(8)) == "cafe", "who starts processes one by one says who each is"
    assert Pod().incarnation(bytes(8)) == "0" * 16


def test_a_pod_with_two_kinds_of_uid_is_refused() -> None:
    text = json.dumps({"pod": {"uid": "a", "object_uid": "b"}, "interfaces": ["10.0.0.7"]})
    with pytest.raises(ConfigError, match="uid and object_uid"):
        parse_config(text, ".json", RelayConfig)


def test_a_file_of_defaults_can_be_read_by_a_release_that_does_not_know_them() -> None:
    written = msgspec.json.encode(RelayConfig(interfaces=["10.0.0.7"]))
    assert written == b'{"pod":{},"interfaces":["10.0.0.7"],"timeouts":{}}'
