"""The command `sipproxy`: a configuration file into a core, an edge and an admin port, then the loop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom
from time import CLOCK_BOOTTIME, clock_gettime, time

import uvloop

from sipcore import __version__
from sipcore.admin import Handler, Reply, json_body, text
from sipcore.config import ProxyConfig, endpoint, parse_config
from sipcore.errors import ConfigError
from sipcore.keys import KEY_BYTES, ClusterKey
from sipcore.watch import EVERY, Signature, Watch, signature
from sipproxy.adminport import serve_admin
from sipproxy.core import ProxyCore
from sipproxy.core.events import Configure, Cordon, Drain, Stop, Uncordon
from sipproxy.edge import Edge
from sipproxy.log import JsonLog

COLLECT_EVERY = 10.0
QUIET = 2000
"""Transactions up to which a collection takes a few milliseconds at most."""
EMPTY_POLL = 0.1
"""Seconds between looks whether a draining proxy is empty."""
IN_PLACE = frozenset(("domains", "routes", "log_level"))
"""Fields of the configuration that change without a restart."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="sipproxy", description="A SIP proxy that shares its address with its peers.")
    result.add_argument("--config", metavar="FILE", required=True, help="TOML or JSON (docs/decisions/0003)")
    result.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, end")
    result.add_argument("--version", action="version", version=f"sipproxy {__version__}")
    return result


def read_config(path: Path) -> ProxyConfig:
    """Raises `ConfigError`, `OSError`."""
    try:
        return parse_config(path.read_text("utf-8"), path.suffix, ProxyConfig, os.environ)
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file: {error}") from None


def look(path: Path) -> Signature | None:
    """Which version of the file stands there, None when it is missing."""
    try:
        return signature(os.stat(path))
    except OSError:
        return None


def read_key(config: ProxyConfig) -> ClusterKey:
    """The cluster key, or one of this process alone.

    Raises `ConfigError`, `OSError`.
    """
    if config.key_file:
        return ClusterKey.parse(Path(config.key_file).read_text())
    return ClusterKey(secrets.token_bytes(KEY_BYTES))


class Program:
    """One running proxy."""

    def __init__(self, path: Path, watch: Watch, config: ProxyConfig, broken: frozenset[str]) -> None:
        """`watch` knows which version of the file `config` is. Raises `ConfigError`, `OSError`."""
        self._path = path
        self._watch = watch
        self._config = config
        self._broken = broken
        config.pod.uid = config.pod.incarnation(os.urandom(8))
        self._log = JsonLog(config.pod.name, config.log_level)
        wall = time() - clock_gettime(CLOCK_BOOTTIME)
        rng = Random(SystemRandom().getrandbits(128))
        self.core = ProxyCore(config, read_key(config), rng, wall, adopt="adoption" not in broken)
        self._stop = asyncio.Event()
        self._edge: Edge | None = None

    async def run(self) -> None:
        """Until SIGINT, or until a drain that SIGTERM began is over. Raises `OSError` when an address is taken."""
        if self._broken:
            self._log.line("warning", "broken-on-purpose", fields={"switches": sorted(self._broken)})
        edge = self._edge = Edge(self._config, self.core, self._log)
        admin = None
        if self._config.admin:
            admin = await serve_admin(endpoint(self._config.admin), self._table())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        edge.start()
        gc.collect()
        gc.freeze()
        gc.disable()
        self._collect_when_quiet()
        loop.call_later(EVERY, self._watch_file)
        self._log.line("info", "started", fields={"version": __version__, "uid": self._config.pod.uid})
        await self._stop.wait()
        edge.feed(Stop())
        if admin is not None:
            admin.close()
        await edge.close()
        self._log.line("info", "stopped")

    def _collect_when_quiet(self) -> None:
        """Transactions and dialogs make no cycles: the collector would only walk over them, longer and longer."""
        if len(self.core.node.contexts) < QUIET:
            gc.collect()
        asyncio.get_running_loop().call_later(COLLECT_EVERY, self._collect_when_quiet)

    def _terminate(self) -> None:
        """SIGTERM: leave without dropping anything (DESIGN 4.5)."""
        if "drain" in self._broken:
            os._exit(0)
        self._feed(Drain())
        # Not at once: what came before the sockets left the selection is still to be read.
        asyncio.get_running_loop().call_later(EMPTY_POLL, self._leave_when_empty)

    def _leave_when_empty(self) -> None:
        if self.core.empty:
            self._stop.set()
        else:
            asyncio.get_running_loop().call_later(EMPTY_POLL, self._leave_when_empty)

    def _feed(self, event: Cordon | Uncordon | Drain | Configure) -> None:
        assert self._edge is not None
        self._edge.feed(event)

    def _table(self) -> dict[tuple[str, str], Handler]:
        def told(event: Cordon | Uncordon | Drain) -> Handler:
            def handler() -> Reply:
                self._feed(event)
                return self._status()

            return handler

        return {
            ("GET", "/livez"): lambda: text(200, "ok"),
            ("GET", "/readyz"): lambda: text(200, "ok") if self.core.ready else text(503, "not ready"),
            ("GET", "/status"): self._status,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/cordon"): told(Cordon()),
            ("POST", "/uncordon"): told(Uncordon()),
            ("POST", "/drain"): told(Drain()),
            ("POST", "/reload"): self._reload,
        }

    def _status(self) -> Reply:
        return json_body(200, json.dumps(self.core.status()).encode())

    def _metrics(self) -> Reply:
        from sipproxy.metrics import CONTENT_TYPE, render  # prometheus_client would double the time to start

        return 200, CONTENT_TYPE, render(self.core, self._config.pod)

    def _watch_file(self) -> None:
        """Once a second: a file that was replaced is loaded as `POST /reload` does."""
        asyncio.get_running_loop().call_later(EVERY, self._watch_file)
        if self._watch.changed(look(self._path)):
            self._load()

    def _reload(self) -> Reply:
        self._watch.changed(look(self._path))
        fault = self._load()
        return text(409, fault) if fault else text(200, "reloaded")

    def _load(self) -> str:
        """Take in what may change in place; why not, when the old configuration stays. The result is logged."""
        try:
            new = read_config(self._path)
            new.pod.uid = new.pod.uid or self._config.pod.uid
            changed = [
                name
                for name in new.__struct_fields__
                if name not in IN_PLACE and getattr(new, name) != getattr(self._config, name)
            ]
            if changed:
                raise ConfigError(f"{', '.join(changed)}: cannot change in place; domains, routes and log_level can")
            self.core.check(new)
        except (ConfigError, OSError) as error:
            self._log.line("warning", "reload-refused", fields={"error": str(error)})
            return str(error)
        self._feed(Configure(new))
        self._config = new
        self._log.level = new.log_level
        self._log.line("info", "reloaded")
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a proxy; exit status 0 after a drain or SIGINT, 1 when an address is taken, 2 for a bad configuration."""
    arguments = parser().parse_args(argv)
    path = Path(arguments.config)
    broken = frozenset(filter(None, os.environ.get("SIPFLEET_BREAK", "").split(",")))
    watch = Watch(look(path))
    try:
        config = read_config(path)

        async def run() -> None:
            program = Program(path, watch, config, broken)
            if not arguments.check:
                await program.run()

        uvloop.run(run())
    except ConfigError as error:
        print(f"sipproxy: {path}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sipproxy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
