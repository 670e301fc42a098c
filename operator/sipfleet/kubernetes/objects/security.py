"""What the restricted Pod Security profile asks of every pod and container that the operator makes."""

from __future__ import annotations

from typing import Any, Final

USER: Final = 65532
"""Whom the programs run as; the images have a user of this number."""

POD: Final[dict[str, Any]] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
