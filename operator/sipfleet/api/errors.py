"""What is wrong with a manifest. `ManifestError` is the one exception of this package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    source: str
    """File name, `-` for text without one, empty where the manifest was no text."""
    line: int | None
    """Counted from 1; None when the whole document is meant and it has no line."""
    resource: str
    """`SipCluster/demo`, or less when kind or name are not known."""
    path: str
    """Of the field, such as `spec.rollout.surge`; empty for the document itself."""
    given: str
    allowed: str
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part)
        subject = " ".join(part for part in (self.resource, self.path) if part)
        return ": ".join(part for part in (place, subject, f"{self.given} given, allowed: {self.allowed}") if part)


class ManifestError(ValueError):
    """Manifests that cannot be used: every fault of every document, one line each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """One line per fault."""
        return [str(fault) for fault in self.faults]
