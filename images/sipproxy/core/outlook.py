"""What the world shows of us and of itself (DESIGN 6): under which address peers see what we send, and whether requests
come from the address of who sent them. The runtime reads it in our lease and says what it means.
"""

from __future__ import annotations

from sipcore.message import Message
from sipcore.uri import Address, host_port, ip_of
from sipcore.via import Via

from .node import Node

MAX_SEEN = 4
MAX_SOURCES = 8
AGAIN = (1.0, 2.0)
"""Seconds after which a question without an answer is asked again. After that only calls show how peers see us."""
MAX_ASKED = 8
EVERY = 1.0
"""Seconds between two looks at the answers of one target: a call may go there by another way than the last one."""


class Outlook:
    """Bounded, and touched once per call. What targets are told of is configured, so there are few."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told: dict[Address, float] = {}
        """Targets that have said how they see us -> when."""
        self._questions: dict[bytes, Address] = {}
        """Branch of what we asked -> target."""
        self._heard: set[bytes] = set()
        """Branches that were answered."""
        self.seen_as: list[str] = []
        """`ip:port` under which peers see us, the latest last."""
        self.sources: dict[str, bool] = {}
        """Address that requests came from -> whether their sender calls it its own (Via sent-by)."""

    # -- what calls show

    def asked(self, via: Via, source: Address) -> None:
        """A request that may begin something came."""
        sources, ip = self.sources, source[0]
        if sources.get(ip):
            return
        own = ip_of(via.host) == ip
        if ip not in sources and len(sources) >= MAX_SOURCES:
            translated = next((known for known, known_own in sources.items() if not known_own), None)
            if translated is None:
                return
            del sources[translated]
        sources[ip] = own

    def answered(self, message: Message, target: Address) -> None:
        """A response came from where a request was sent."""
        told = self._told.get(target)
        if (told is None or self._node.now - told >= EVERY) and target in self._node.router.addresses:
            self._note(message.via(), target)

    def _note(self, via: Via, target: Address) -> None:
        """`via` is our own, as it came back (RFC 3581 4)."""
        if b"received=" not in via.params:
            return
        seen = via.next_hop
        if seen is None:
            return
        self._told[target] = self._node.now
        text = host_port(seen).decode()
        if text not in self.seen_as:
            self.seen_as = [*self.seen_as[1 - MAX_SEEN :], text]

    # -- what is asked at the start

    def start(self) -> None:
        """Ask our targets once, so that the answer is there before the first call."""
        node = self._node
        uid = node.config.pod.uid.encode()
        targets = [target for target in node.router.addresses if target is not None]
        for target in sorted(targets)[:MAX_ASKED]:
            branch = node.key.branch(uid, b"outlook", b"", b"1", host_port(target))
            self._questions[branch] = target
            self._ask((branch, 0), node.now)

    def shown_up(self, target: Address) -> None:
        """A target that may not have been there when we started has sent something: ask it once more."""
        for branch, asked in self._questions.items():
            if asked == target and branch not in self._heard:
                self._ask((branch, len(AGAIN)), self._node.now)

    def heard(self, via: Via) -> bool:
        """A response that belongs to no transaction; whether it answers what we asked."""
        target = self._questions.get(via.branch)
        if target is None:
            return False
        self._heard.add(via.branch)
        self._note(via, target)
        return True

    def _ask(self, question: tuple[bytes, int], now: float) -> None:
        branch, round_ = question
        target = self._questions[branch]
        if branch in self._heard:
            return
        node = self._node
        listener = node.listener_to(target, 0)
        us, them = node.sent_by[listener], host_port(target)
        node.ask(
            b"OPTIONS sip:%b SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=%b;sf=%04x0000;rport\r\nMax-Forwards: 70\r\n"
            b"From: <sip:%b>;tag=%b\r\nTo: <sip:%b>\r\nCall-ID: %b\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            % (them, us, branch, node.index, us, branch[-8:], them, branch),
            target,
            listener,
        )
        if round_ < len(AGAIN):
            node.timers.start(AGAIN[round_], now, self._ask, (branch, round_ + 1))
