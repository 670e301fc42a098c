"""The configuration file of a running relay: watched, and read again when it is replaced or when somebody asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sipcore.config import RelayConfig
from sipcore.watch import EVERY, Signature, Watch, signature


class ConfigFile:
    """Make it before the file is read for the first time."""

    def __init__(self, path: Path) -> None:
        self.load: Callable[[], RelayConfig]
        """Reads the configuration, flags over file. Raises `ConfigError`, `OSError`."""
        self.next_at = 0.0
        """When to ask `replaced`, on the loop's clock, seconds."""
        self._path = path
        self._watch = Watch(self._signature())

    def replaced(self, now: float) -> bool:
        """Whether the file is another one than at the last look."""
        self.next_at = now + EVERY
        return self._watch.changed(self._signature())

    def _signature(self) -> Signature | None:
        try:
            return signature(os.stat(self._path))
        except OSError:
            return None
