"""When a configuration file was replaced. Pure: the edge asks `os.stat` once a second and tells what it heard.

Kubernetes replaces the files of a ConfigMap by pointing the symbolic link `..data`, through which they are reached, at
another directory; `os.stat` follows it, so that another inode is seen.
"""

from __future__ import annotations

import os

EVERY = 1.0
"""Seconds between two looks at the file."""

Signature = tuple[int, int, int, int]


def signature(stat: os.stat_result) -> Signature:
    """What differs between two versions of a file."""
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


class Watch:
    """Remembers the version that was read last."""

    def __init__(self, now: Signature | None = None) -> None:
        """`now` is taken before the file is read for the first time; None when there was no file."""
        self._seen = now

    def changed(self, now: Signature | None) -> bool:
        """Whether the file is another one than at the last call: read it, after this call. None, a file that is missing
        just now, is no other one."""
        if now is None or now == self._seen:
            return False
        self._seen = now
        return True
