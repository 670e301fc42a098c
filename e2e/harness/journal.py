"""What happens while a test does something: objects as the API server tells of them, and answers of a name server, each
with the time at which it was seen (Unix time in seconds)."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from e2e.cluster import network
from e2e.cluster.api import Api, ApiError, Object


@dataclass(frozen=True)
class Event:
    """A change of an object, or what stood at the beginning (`ADDED`)."""

    at: float
    kind: str
    found: Object

    @property
    def uid(self) -> str:
        return str(self.found["metadata"]["uid"])

    @property
    def leaving(self) -> bool:
        """It is gone, or was told to go."""
        return self.kind == "DELETED" or bool(self.found["metadata"].get("deletionTimestamp"))


class Background(AbstractContextManager["Background"], ABC):
    """Something that looks again and again until the `with` ends."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._problem: BaseException | None = None

    def _run(self) -> None:
        try:
            self._look()
        except BaseException as error:
            self._problem = error

    @abstractmethod
    def _look(self) -> None:
        """Until `_ended` is set."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(15)
        if self._problem is not None and error is None:
            raise self._problem


class Journal(Background):
    """Every change of the objects of a collection, such as `/api/v1/namespaces/voip/pods`."""

    def __init__(self, kubeconfig: Path, path: str, selector: str = "") -> None:
        super().__init__()
        self._api = Api(kubeconfig)
        self._path = path + (f"?labelSelector={selector}" if selector else "")
        self.events: list[Event] = []

    def _look(self) -> None:
        version = ""
        while not self._ended.is_set():
            try:
                if not version:
                    found = self._api.get(self._path)
                    self.events += [Event(time.time(), "ADDED", item) for item in found["items"]]
                    version = found["metadata"]["resourceVersion"]
                for kind, item in self._api.watch(self._path, version, seconds=2):
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        self.events.append(Event(time.time(), kind, item))
            except (ApiError, OSError, http.client.HTTPException):  # the API server is away, or the version too old
                version = ""
                time.sleep(0.5)  # not to ask in a frenzy


@dataclass(frozen=True)
class Answer:
    """What a name server said to a question for SRV records."""

    at: float
    addresses: frozenset[str]
    """Of the targets, by the additional section (RFC 2782) or one more question each."""


class Questions(Background):
    """The SRV records of a name, asked for about ten times a second from a place of our own cluster."""

    def __init__(self, place: str, server: tuple[str, int], name: str) -> None:
        super().__init__()
        self._server = server
        self._name = name
        self.answers: list[Answer] = []
        with network.sockets_in(place):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def names(self, count: int) -> bool:
        """Whether the last answer named so many addresses."""
        return bool(self.answers) and len(self.answers[-1].addresses) == count

    def _look(self) -> None:
        with self._socket:
            while not self._ended.wait(0.1):
                try:
                    told = self._ask(self._name, "SRV")
                except dns.exception.Timeout:
                    continue
                at = time.time()
                targets = {
                    record.target.to_text()
                    for rrset in told.answer
                    if rrset.rdtype == dns.rdatatype.SRV
                    for record in rrset
                }
                known = {rrset.name.to_text(): rrset for rrset in told.additional if rrset.rdtype == dns.rdatatype.A}
                found = {rdata.to_text() for name in targets & known.keys() for rdata in known[name]}
                for name in targets - known.keys():
                    answer = self._ask(name, "A").answer
                    found |= {rdata.to_text() for rrset in answer for rdata in rrset}
                self.answers.append(Answer(at, frozenset(found)))

    def _ask(self, name: str, kind: str) -> dns.message.Message:
        host, port = self._server
        question = dns.message.make_query(name, kind)
        return dns.query.udp(question, host, 2, port, sock=self._socket, ignore_unexpected=True)
