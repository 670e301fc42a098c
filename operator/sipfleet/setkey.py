"""Which SipCluster or MediaPool: the key by which both runtimes and the store know a set."""

from __future__ import annotations

from typing import NamedTuple


class SetKey(NamedTuple):
    """Kind, namespace and name of a resource."""

    kind: str
    namespace: str
    name: str

    @property
    def store(self) -> tuple[str, str]:
        """(namespace, name), what the store knows a set by."""
        return self.namespace, self.name

    @property
    def qualified(self) -> str:
        """With its namespace, for a log of many: `sipcluster/voip/demo`."""
        return f"{self.kind.lower()}/{self.namespace}/{self.name}"

    def __str__(self) -> str:
        """As `kubectl` names it within a namespace: `sipcluster/demo`."""
        return f"{self.kind.lower()}/{self.name}"
