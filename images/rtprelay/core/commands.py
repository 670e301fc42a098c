"""ng commands as rtpengine answers them: each a function of its fields and the sessions."""

from __future__ import annotations

from collections.abc import Callable

from rtprelay.core.book import Book
from rtprelay.core.control import LIST_LIMIT, wishes
from rtprelay.core.events import Action
from rtprelay.core.model import Party, Session
from rtprelay.core.offer import LoadLimitError, Negotiator, RefusedError
from rtprelay.core.report import describe
from sipcore import ng, sdp
from sipcore.bencode import Encodable
from sipcore.errors import SdpError, SipcoreError

Fields = dict[str, Encodable]


class Commands:
    """Carries commands out."""

    def __init__(self, book: Book, negotiator: Negotiator, actions: list[Action]) -> None:
        self.closed = False
        """Cordoned or draining: no new sessions."""
        self._book = book
        self._negotiator = negotiator
        self._actions = actions
        self._table: dict[str, Callable[[ng.Request, float], Fields]] = {
            "ping": lambda request, now: {"result": "pong"},
            "offer": self._offer,
            "answer": self._answer,
            "delete": self._delete,
            "query": self._query,
            "list": self._list,
        }

    def execute(self, request: ng.Request, now: float) -> Fields:
        """The fields of the answer; whatever cannot be done is said there."""
        command = self._table.get(request.command)
        call_id = request.text(b"call-id")
        try:
            if command is None:
                raise RefusedError("Unrecognized command")
            return command(request, now)
        except LoadLimitError as error:
            self._book.counters.load_limits += 1
            self._book.log("warning", "load_limit", call_id, reason=str(error))
            return ng.load_limit(str(error))
        except SipcoreError as error:
            self._book.counters.errors += 1
            self._book.log("warning", "refused", call_id, command=request.command, reason=str(error))
            return ng.error(str(error))

    def _offer(self, request: ng.Request, now: float) -> Fields:
        self._book.counters.offers += 1
        call_id, tags, description = self._signalled(request)
        session = self._book.sessions.get(call_id)
        new = session is None
        if session is None:
            if self.closed or len(self._book.sessions) >= self._book.config.capacity:
                raise LoadLimitError(ng.LOAD_LIMIT)
            session = Session(call_id, now)
        branch = request.text(b"via-branch")
        try:
            body = self._negotiator.offer(session, tags, branch, description, wishes(request), now, self._actions)
        except SipcoreError:
            if new:
                self._book.clear(session, now)
            raise
        if new:
            self._book.add(session)
        return self._signalled_ok(session, request, body, now)

    def _answer(self, request: ng.Request, now: float) -> Fields:
        self._book.counters.answers += 1
        call_id, tags, description = self._signalled(request)
        if not tags[1]:
            raise RefusedError("No to-tag in message")
        session = self._book.sessions.get(call_id)
        if session is None:
            raise RefusedError("Unknown call-id")
        branch = request.text(b"via-branch")
        body = self._negotiator.answer(session, tags, branch, description, wishes(request), now, self._actions)
        return self._signalled_ok(session, request, body, now)

    def _signalled(self, request: ng.Request) -> tuple[bytes, tuple[bytes, bytes], sdp.Description]:
        call_id, from_tag, body = request.text(b"call-id"), request.text(b"from-tag"), request.text(b"sdp")
        if not body:
            raise RefusedError("No SDP body in message")
        if not call_id:
            raise RefusedError("No call-id in message")
        if not from_tag:
            raise RefusedError("No from-tag in message")
        try:
            description = sdp.parse(body)
        except SdpError as error:
            raise RefusedError(f"Failed to parse SDP: {error}") from None
        return call_id, (from_tag, request.text(b"to-tag")), description

    def _signalled_ok(self, session: Session, request: ng.Request, body: bytes, now: float) -> Fields:
        session.metadata = request.text(b"metadata") or session.metadata
        self._book.touch(session, now)
        return {"result": "ok", "sdp": body}

    def _delete(self, request: ng.Request, now: float) -> Fields:
        self._book.counters.deletes += 1
        call_id = request.text(b"call-id")
        if not call_id:
            raise RefusedError("No call-id in message")
        session = self._book.sessions.get(call_id)
        parties = _branch(session, request) if session is not None else None
        if session is None or parties is None:
            return {"result": "ok", "warning": "Call-ID not found or tags didn't match"}
        fields = describe(session, self._book.wall)
        if len(parties) == len(session.parties):
            self._book.end(session, now, "deleted")
        else:
            for party in parties:
                self._negotiator.remove(party, now, self._actions)
            self._book.write([session])
        return fields

    def _query(self, request: ng.Request, now: float) -> Fields:
        session = self._book.sessions.get(request.text(b"call-id"))
        if session is None:
            raise RefusedError("Unknown call-id")
        return describe(session, self._book.wall)

    def _list(self, request: ng.Request, now: float) -> Fields:
        limit = request.fields.get(b"limit")
        count = limit if isinstance(limit, int) and limit > 0 else LIST_LIMIT
        return {
            "result": "ok",
            "calls": [call_id for _, call_id in zip(range(count), self._book.sessions, strict=False)],
        }


def _branch(session: Session, request: ng.Request) -> list[Party] | None:
    """The parties that a delete means: one branch while others are left, else all; None when there is no such call."""
    given = [tag for tag in (request.text(b"from-tag"), request.text(b"to-tag")) if tag]
    branch = request.text(b"via-branch")
    if given and not any(session.by_tag(tag) for tag in given):
        return None
    answerers = session.parties[1:]
    meant = [party for party in answerers if (branch and party.branch == branch) or party.tag in given]
    others = [party for party in answerers if party not in meant]
    if not meant:
        return None if branch and others else session.parties
    connected = any(party.tag and party.peer is not None and party.peer.peer is party for party in meant)
    if not others or (connected and not any(party.tag for party in others)):
        return session.parties
    return meant
