"""Sessions as records and back: what a relay stores, and how its next incarnation takes it up on the same ports."""

from __future__ import annotations

import msgspec

from rtprelay.core.events import Action
from rtprelay.core.match import Matcher
from rtprelay.core.model import Interface, Leg, Pair, Party, Session
from rtprelay.core.ports import Pool
from sipcore.errors import SipcoreError
from sipcore.session import LegRecord, PartyRecord, SessionRecord


class NotRestoredError(SipcoreError):
    """A stored session whose address or ports this relay does not have (any more)."""


def to_record(session: Session, wall: float) -> SessionRecord:
    """`wall` is Unix time minus the core's clock, seconds."""
    parties = {id(party): number for number, party in enumerate(session.parties)}
    return SessionRecord(
        call_id=session.call_id,
        created=session.created + wall,
        parties=[_party_record(party, parties, wall) for party in session.parties],
        metadata=session.metadata,
    )


def _party_record(party: Party, parties: dict[int, int], wall: float) -> PartyRecord:
    return PartyRecord(
        tag=party.tag,
        branch=party.branch,
        interface=(party.interface.name, party.interface.advertised),
        received=party.received,
        origin=party.origin,
        digest=party.digest,
        peer=parties.get(id(party.peer), -1),
        created=party.created + wall,
        connected=all(leg.indexed for leg in party.legs if leg is not None),
        legs=[None if leg is None else _leg_record(leg, parties, wall) for leg in party.legs],
    )


def _leg_record(leg: Leg, parties: dict[int, int], wall: float) -> LegRecord:
    peer, known = leg.peer, leg.stream.known
    return LegRecord(
        index=leg.index,
        address=leg.pair.interface.advertised,
        number=leg.pair.number,
        kind=leg.kind,
        protocol=leg.protocol,
        is_rtp=leg.is_rtp,
        active=leg.active,
        held=leg.held,
        direction=leg.direction,
        remote=leg.remote,
        remote_rtcp=leg.remote_rtcp,
        identity=leg.identity,
        named=sorted(leg.named),
        payloads=sorted(leg.payloads),
        learnt=leg.learnt,
        mux=leg.mux,
        mux_offered=leg.mux_offered,
        peer=(parties[id(peer.party)], peer.index) if peer is not None and id(peer.party) in parties else None,
        rate=leg.stream.rate,
        stream=None if known is None else msgspec.structs.replace(known, at=known.at + wall),
    )


class Restorer:
    """Makes sessions out of records; legs that shared a pair share it again."""

    def __init__(self, interfaces: list[Interface], pools: list[Pool], matcher: Matcher) -> None:
        self._matcher = matcher
        self._interfaces = interfaces
        self._pools = dict(zip(interfaces, pools, strict=True))

    def restore(self, record: SessionRecord, now: float, wall: float, actions: list[Action]) -> Session:
        """The session, its ports opened and its learnt sources in place.

        Raises `NotRestoredError`; ports that were taken for it are given back.
        """
        pairs: dict[tuple[str, int], Pair] = {}
        try:
            session = self._session(record, wall, pairs, actions)
        except (NotRestoredError, IndexError) as error:
            for pair in pairs.values():
                self._pools[pair.interface].release(pair, now, actions)
            raise NotRestoredError(str(error)) from None
        for party, kept in zip(session.parties, record.parties, strict=True):
            for leg in party.legs:
                if leg is not None and kept.connected:
                    leg.stream.last = now  # the time that we were away is not the caller's silence
                    self._matcher.index(leg)
        for leg in session.legs():
            self._matcher.link(leg)
        return session

    def _session(
        self, record: SessionRecord, wall: float, pairs: dict[tuple[str, int], Pair], actions: list[Action]
    ) -> Session:
        session = Session(record.call_id, record.created - wall)
        session.metadata, session.restored, session.stored = record.metadata, True, True
        for kept in record.parties:
            party = Party(session, kept.tag, kept.branch, self._interface(kept.interface), kept.created - wall)
            party.received, party.origin, party.digest = kept.received, kept.origin, kept.digest
            party.legs = [None if leg is None else self._leg(party, leg, wall, pairs, actions) for leg in kept.legs]
            session.parties.append(party)
        for party, kept in zip(session.parties, record.parties, strict=True):
            party.peer = session.parties[kept.peer] if kept.peer >= 0 else None
            for leg, kept_leg in zip(party.legs, kept.legs, strict=True):
                if leg is not None and kept_leg is not None and kept_leg.peer is not None:
                    leg.peer = session.parties[kept_leg.peer[0]].legs[kept_leg.peer[1]]
        return session

    def _leg(
        self,
        party: Party,
        kept: LegRecord,
        wall: float,
        pairs: dict[tuple[str, int], Pair],
        actions: list[Action],
    ) -> Leg:
        place = (kept.address, kept.number)
        pair = pairs.get(place)
        if pair is None:
            pair = self._pools[self._interface((party.interface.name, kept.address))].reserve(kept.number, actions)
            if pair is None:
                raise NotRestoredError(f"port {kept.number} of {kept.address} is not free")
            pairs[place] = pair
        leg = Leg(party, kept.index, pair)
        leg.kind, leg.protocol, leg.is_rtp = kept.kind, kept.protocol, kept.is_rtp
        leg.active, leg.held, leg.direction = kept.active, kept.held, kept.direction
        leg.remote, leg.remote_rtcp, leg.identity = kept.remote, kept.remote_rtcp, kept.identity
        leg.named, leg.payloads = frozenset(kept.named), frozenset(kept.payloads)
        leg.learnt, leg.mux, leg.mux_offered = kept.learnt, kept.mux, kept.mux_offered
        leg.stream.rate = kept.rate
        if kept.stream is not None:
            leg.stream.kept = msgspec.structs.replace(kept.stream, at=kept.stream.at - wall)
        return leg

    def _interface(self, place: tuple[str, str]) -> Interface:
        for interface in self._interfaces:
            if (interface.name, interface.advertised) == place:
                return interface
        raise NotRestoredError(f"interface {place[0]}/{place[1]} is not one of ours")
