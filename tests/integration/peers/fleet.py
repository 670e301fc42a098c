"""Two `sipproxy` processes at one address with one store: the smallest cluster that can lose a proxy."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import kill
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.peers.probe import Address
from tests.integration.peers.process import Peer, PeerError


def status_of(admin: Address) -> dict[str, Any]:
    """`GET /status` of an admin port; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{admin[0]}:{admin[1]}/status", timeout=1) as answer:
            return dict(json.load(answer))
    except OSError:
        return {}


class Sipproxy(Peer):
    """One `sipproxy --config FILE`."""

    def __init__(self, work: Path, config: dict[str, Any], env: Mapping[str, str] | None = None) -> None:
        """`env` is added to ours."""
        self.name = str(config["pod"]["name"])
        host, _, port = str(config["admin"]).rpartition(":")
        self.admin = (host, int(port))
        path = work / f"{self.name}.json"
        path.write_text(json.dumps(config))
        argv = [sys.executable, "-m", "sipproxy", "--config", str(path)]
        super().__init__(argv, work / f"{self.name}.log", lambda: bool(status_of(self.admin)), env)

    @property
    def active(self) -> int:
        """Dialogs that it owns; 0 when it does not answer."""
        return int(status_of(self.admin).get("active", 0))


@dataclass(frozen=True)
class Shares:
    """Active dialogs of each proxy at one moment."""

    active: dict[str, int]

    @property
    def busier(self) -> str:
        """Name of the proxy with most."""
        return max(self.active, key=lambda name: self.active[name])

    @property
    def total(self) -> int:
        """Dialogs of all."""
        return sum(self.active.values())


class ProxyPair:
    """Proxies `proxy-0` and `proxy-1` on the same `address`; requests for `domain` go to `target`."""

    def __init__(
        self,
        work: Path,
        address: Address,
        pods: list[str],
        store: str,
        domain: str,
        target: Address,
        *,
        pools: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Media goes through the relays of `pools`; `env` is added to the proxies' environment."""
        self.address = address
        key = work / "cluster.key"
        key.write_text(secrets.token_hex(32) + "\n")
        key.chmod(0o600)
        self.proxies = {
            f"proxy-{ordinal}": Sipproxy(
                work,
                {
                    "pod": {"set": "pair", "name": f"proxy-{ordinal}", "ordinal": ordinal},
                    "key_file": str(key),
                    "listeners": [{"address": address[0], "port": address[1]}],
                    "internal": f"{pod}:5070",
                    "admin": f"{pod}:9090",
                    "store": store,
                    "domains": [domain],
                    "routes": [{"domain": domain, "targets": [f"sip:{target[0]}:{target[1]}"]}],
                    "media": {"pools": list(pools)},
                },
                env,
            )
            for ordinal, pod in enumerate(pods)
        }

    def shares(self) -> Shares:
        """How the dialogs are spread now."""
        return Shares({name: proxy.active for name, proxy in self.proxies.items()})

    def kill(self, name: str) -> None:
        """SIGKILL to one proxy."""
        proxy = self.proxies[name]
        if not proxy.running:
            raise PeerError(f"{name} has ended by itself; the end of its log:\n{proxy.tail()}")
        kill(proxy.pid, signal.SIGKILL)
        proxy.wait(5)

    def __enter__(self) -> Self:
        try:
            for proxy in self.proxies.values():
                proxy.start()
        except PeerError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for proxy in self.proxies.values():
            proxy.kill()
