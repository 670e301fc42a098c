"""Flags, port and interface notations, and the small edges that need no process."""

from __future__ import annotations

import os
import re
from pathlib import Path
from random import Random

import pytest

from rtprelay.__main__ import configuration, overlap, parser
from rtprelay.core import RelayCore
from rtprelay.core.model import Interface
from rtprelay.core.ports import Handles, PortSpec, RangePool, parse_interface
from rtprelay.log import Logger
from sipcore.config import RelayConfig
from sipcore.errors import ConfigError


def config(*flags: str) -> RelayConfig:
    return configuration(parser().parse_args(flags))


def test_the_command_of_the_readme() -> None:
    found = config("--ng", "127.0.0.1:2223", "--interface", "127.0.0.1", "--ports", "20000-29999")
    assert (found.ng, found.interfaces, found.ports) == ("127.0.0.1:2223", ["127.0.0.1"], "20000-29999")
    assert (found.tos, found.store, found.timeouts.rtp) == (184, "none", 60.0)


def test_flags_come_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('interfaces = ["192.0.2.1"]\ncapacity = 10\n[pod]\nname = "r-1"\nset = "pool"\n')
    found = config("--config", str(file), "--capacity", "20", "--pod-uid", "u")
    assert (found.capacity, found.interfaces) == (20, ["192.0.2.1"])
    assert (found.pod.name, found.pod.set, found.pod.uid) == ("r-1", "pool", "u")


def test_the_file_of_the_documentation_makes_a_relay_that_waits_for_its_parties(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "relay.md").read_text()
    file = tmp_path / "relay.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    found = config("--config", str(file))
    assert not found.speak_first
    assert parse_interface(found.interfaces[0]).advertised != parse_interface(found.interfaces[0]).address
    RelayCore(found, Random(1), 0.0, store=False)


def test_by_default_a_relay_speaks_first() -> None:
    assert config("--interface", "127.0.0.1").speak_first


def test_a_configuration_without_an_interface_is_refused() -> None:
    with pytest.raises(ConfigError, match="interface"):
        config("--ng", "127.0.0.1:2223")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("20000-29999", PortSpec(False, 20000, 29999)),
        ("20001-20004", PortSpec(False, 20002, 20004)),
        ("shared:16@20000", PortSpec(True, 20000, 20031)),
        ("shared:1@4000", PortSpec(True, 4000, 4001)),
    ],
)
def test_ports_are_read(text: str, spec: PortSpec) -> None:
    assert PortSpec.parse(text) == spec


@pytest.mark.parametrize(
    "text", ["", "x", "1", "5-4", "20000-20000", "60000-70000", "shared:0@20000", "shared:2@20001", "shared:9@65534"]
)
def test_bad_ports_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        PortSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "interface"),
    [
        ("192.0.2.1", Interface("default", "192.0.2.1", "192.0.2.1", "IP4")),
        ("out/10.0.0.1!203.0.113.1", Interface("out", "10.0.0.1", "203.0.113.1", "IP4")),
        ("2001:DB8::1", Interface("default", "2001:db8::1", "2001:db8::1", "IP6")),
        ("six/[2001:db8::1]", Interface("six", "2001:db8::1", "2001:db8::1", "IP6")),
    ],
)
def test_interfaces_are_read(text: str, interface: Interface) -> None:
    assert parse_interface(text) == interface


@pytest.mark.parametrize("text", ["", "eth0", "/192.0.2.1", "192.0.2.1!2001:db8::1", "192.0.2.256", "a/b"])
def test_bad_interfaces_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_interface(text)


def test_an_overlap_with_ephemeral_ports_is_found(tmp_path: Path) -> None:
    file = tmp_path / "ip_local_port_range"
    file.write_text("32768\t60999\n")
    assert "32768-60999" in overlap(PortSpec(False, 30000, 40000), file)
    assert overlap(PortSpec(False, 20000, 29999), file) == ""
    assert overlap(PortSpec(False, 20000, 29999), tmp_path / "missing") == ""


@pytest.mark.parametrize("pairs", [1, 2, 3, 4, 5, 17, 64])
def test_a_range_gives_every_pair_before_it_is_empty(pairs: int) -> None:
    spec = PortSpec(False, 20000, 20000 + 2 * pairs - 1)
    handles = Handles()
    pool = RangePool(parse_interface("192.0.2.1"), spec, handles, Random(pairs))
    given = []
    while True:
        pool.refill(0.0, [])
        pair = pool.take(None, 0.0)  # type: ignore[arg-type]
        if pair is None:
            break
        given.append(pair.number)
    assert sorted(given) == list(range(20000, 20000 + 2 * pairs, 2))
    assert pool.free == 0


def test_a_log_line_that_finds_the_pipe_full_is_dropped() -> None:
    reader, writer = os.pipe()
    log = Logger("r-0", "info", writer)
    for _ in range(2000):
        log("info", "event", reason="x" * 100)
    assert log.dropped > 0
    log("debug", "unseen")
    os.close(reader)
    os.close(writer)
    log("info", "to nobody")
