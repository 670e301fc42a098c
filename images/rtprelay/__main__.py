"""The command `rtprelay`: flags and configuration file into a `RelayConfig`, then the loop."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rtprelay.configfile import ConfigFile
from rtprelay.core.ports import PortSpec
from rtprelay.core.slots import advertise
from rtprelay.log import Logger
from rtprelay.server import Relay
from rtprelay.waiting import wait_for_slot
from sipcore import __version__
from sipcore.config import RelayConfig, parse_config
from sipcore.errors import ConfigError

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")

_FLAGS = ("ng", "ports", "admin", "store", "capacity", "tos", "log_level")
"""Flags that set the field of the same name."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="rtprelay", description="An RTP relay controlled by rtpengine's ng protocol.")
    result.add_argument("--config", metavar="FILE", help="TOML or JSON; flags come before what it says")
    result.add_argument("--ng", metavar="IP:PORT", help="where commands arrive (UDP; TCP connections are held)")
    result.add_argument(
        "--interface",
        metavar="[NAME/]ADDRESS[!ADVERTISED]",
        action="append",
        help="an address for media; may be given several times",
    )
    result.add_argument("--ports", metavar="FIRST-LAST|shared:COUNT@FIRST", help="UDP ports for media")
    result.add_argument("--admin", metavar="IP:PORT", help="HTTP port for probes, metrics and drain")
    result.add_argument(
        "--store", metavar="URL", help="redis://host:port[/db], sentinel://host:port/NAME, unix:///path or none"
    )
    result.add_argument("--capacity", metavar="N", type=int, help="sessions")
    result.add_argument("--tos", metavar="N", type=int, help="TOS byte of media, 184 = EF")
    result.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    for name in ("namespace", "set", "name", "uid"):
        result.add_argument(f"--pod-{name}", metavar="TEXT", help=argparse.SUPPRESS)
    result.add_argument("--version", action="version", version=f"rtprelay {__version__}")
    return result


def read_config(path: Path) -> RelayConfig:
    """Raises `ConfigError`, `OSError`."""
    try:
        return parse_config(path.read_text("utf-8"), path.suffix, RelayConfig, os.environ)
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file: {error}") from None


def configuration(arguments: argparse.Namespace) -> RelayConfig:
    """Flags over file over defaults.

    Raises `ConfigError` or `OSError`.
    """
    given: dict[str, object] = {name: value for name in _FLAGS if (value := getattr(arguments, name)) is not None}
    if arguments.interface:
        given["interfaces"] = arguments.interface
    pod = {n: v for n in ("namespace", "set", "name", "uid") if (v := getattr(arguments, f"pod_{n}")) is not None}
    if arguments.config:
        base = read_config(Path(arguments.config))
        fields = {name: getattr(base, name) for name in base.__struct_fields__}
    elif "interfaces" in given:
        fields = {}
    else:
        raise ConfigError("interface: none given, --interface [NAME/]ADDRESS[!ADVERTISED] or --config FILE expected")
    if pod:
        old = fields.get("pod")
        given["pod"] = {**(msgspec.to_builtins(old) if old is not None else {}), **pod}
    try:
        return msgspec.convert(msgspec.to_builtins({**fields, **given}), RelayConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a relay; exit status 0 after a drain or SIGINT, 1 when an address is taken, 2 for a bad configuration."""
    arguments = parser().parse_args(argv)
    file = ConfigFile(Path(arguments.config)) if arguments.config else None
    try:
        config = configuration(arguments)
        config.pod.uid = config.pod.incarnation(os.urandom(8))
        log = Logger(config.pod.name, config.log_level)
        broken = frozenset(filter(None, os.environ.get("SIPFLEET_BREAK", "").split(",")))
        if broken:
            log("warning", "broken_on_purpose", switches=sorted(broken))
        raise_file_limit()
        advertised = ""
        if config.slots_file:
            found = wait_for_slot(config, log)
            if found is None:
                return 0
            advertised = found
            config.interfaces = advertise(config.interfaces, advertised)
        relay = Relay(config, log, broken)
    except ConfigError as error:
        print(f"rtprelay: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"rtprelay: {error}", file=sys.stderr)
        return 1
    if warning := overlap(PortSpec.parse(config.ports), EPHEMERAL):
        log("warning", "ephemeral_ports", reason=warning)
    if file is not None:
        uid = config.pod.uid

        def load() -> RelayConfig:
            new = configuration(arguments)
            new.pod.uid = new.pod.uid or uid
            if advertised:
                new.interfaces = advertise(new.interfaces, advertised)
            return new

        file.load = load
        relay.file = file
    relay.run()
    return 0


def overlap(spec: PortSpec, path: Path) -> str:
    """A warning when the kernel may give ports of ours to other programs' outgoing sockets; empty when not."""
    try:
        first, last = (int(text) for text in path.read_text().split())
    except (OSError, ValueError):
        return ""
    if spec.last < first or last < spec.first:
        return ""
    return f"ports {spec.first}-{spec.last} overlap the system's ephemeral ports {first}-{last} ({path})"


def raise_file_limit() -> None:
    """Four sockets a call: take as many files as we are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
