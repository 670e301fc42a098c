"""SDP goes through the relays by the ng protocol."""

from __future__ import annotations

from sipcore.message import Message
from sipcore.record import DialogRecord

from .context import Branch, Context
from .node import Node


class MediaLeg:
    """The media of one request."""

    def into(self, record: DialogRecord) -> None:
        """Note in the record where the media is."""


class Media:
    """Without relays SDP passes untouched."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def choose(self, context: Context) -> None:
        """Choose the relay of a new call."""

    def request(self, context: Context) -> bool:
        """Whether the request waits for a relay."""
        return False

    def response(self, context: Context, branch: Branch, message: Message) -> bool:
        """Whether the response waits for a relay."""
        return False

    def failed(self, context: Context) -> None:
        """The INVITE failed: its media is not needed."""
