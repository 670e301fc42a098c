"""Who owns a call: claims, records, adoption, hand-over (DESIGN 2.4 to 2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.message import Message
from sipcore.record import Cdr

from .context import Branch, Context, Dialog
from .node import Node

if TYPE_CHECKING:
    from .requests import Incoming, Requests


class Ownership:
    """Without a store this proxy owns what it gets."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.requests: Requests

    def takes(self, incoming: Incoming) -> bool:
        """Whether a new call begins here; else it was handed on or refused."""
        node = self._node
        if not (node.cordoned or node.owned >= node.config.capacity):
            return True
        self.requests.refuse(incoming, 503)
        return False

    def claim(self, context: Context) -> None:
        """Write the early record of a new INVITE."""

    def confirmed(self, context: Context, branch: Branch, message: Message) -> bool:
        """Whether a final response may go on; else it is held until the store has spoken."""
        return True

    def retarget(self, context: Context) -> None:
        """The INVITE goes to another target now."""

    def put(self, dialog: Dialog) -> None:
        """Write the record of a dialog of ours."""

    def end(self, dialog: Dialog, cdr: Cdr) -> None:
        """Write the end of a dialog of ours."""

    def foreign_request(self, incoming: Incoming) -> bool:
        """A request of a dialog that is not in memory; False: nobody else can serve it."""
        return False

    def foreign_cancel(self, incoming: Incoming) -> bool:
        """A CANCEL of an INVITE that is not here; False: nobody has it."""
        return False

    def foreign_response(self, data: bytes) -> None:
        """A response that no transaction here asked for."""
        self._node.count["ignored"] += 1
