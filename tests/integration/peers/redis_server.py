"""A real redis-server of the test's own: on a port, without persistence, so that a restarted one is empty."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.integration.peers.process import Peer


class RedisServer(Peer):
    """redis-server at `host:port`. `kill()` then `start()` makes it come back empty, as another run."""

    def __init__(self, work: Path, host: str, port: int) -> None:
        self.host, self.port = host, port
        argv = ["redis-server", "--bind", host, "--port", str(port), "--save", "", "--appendonly", "no"]
        # From another network namespace we are not on loopback.
        argv += ["--protected-mode", "no", "--dir", str(work)]
        super().__init__(argv, work / f"redis-{port}.log", self._answers)

    @property
    def url(self) -> str:
        """What a configuration file calls it."""
        return f"redis://{self.host}:{self.port}"

    def client(self) -> redis.Redis:
        """A new client."""
        return redis.Redis(self.host, self.port, socket_timeout=2)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
