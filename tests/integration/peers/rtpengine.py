"""Debian's rtpengine in userspace: the relay whose ng protocol ours speaks."""

from __future__ import annotations

from pathlib import Path

from tests.integration.peers.probe import Address, answers_ng
from tests.integration.peers.process import Peer


class Rtpengine(Peer):
    """rtpengine with ng control at `ng`, media on `media` and the ports `first` to `last`."""

    def __init__(self, work: Path, ng: Address, media: str, first: int = 24000, last: int = 24999) -> None:
        argv = ["rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--table=-1", "--num-threads=2"]
        argv += [f"--interface={media}", f"--listen-ng={ng[0]}:{ng[1]}", f"--port-min={first}", f"--port-max={last}"]
        super().__init__(argv, work / "rtpengine.log", lambda: answers_ng(ng))
