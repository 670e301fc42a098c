"""What `query` and `delete` answer of a session, in rtpengine's shape; seconds are Unix time."""

from __future__ import annotations

from collections.abc import Mapping

from rtprelay.core.events import Source
from rtprelay.core.model import Leg, Party, Port, Session
from sipcore.bencode import Encodable


def describe(session: Session, wall: float) -> dict[str, Encodable]:
    """All of a session; `wall` is Unix time minus the core's clock, seconds."""
    created = session.created + wall
    totals = {"RTP": [0, 0], "RTCP": [0, 0]}
    tags: dict[str, Encodable] = {}
    for number, party in enumerate(session.parties, 1):
        tags[party.tag.decode("utf-8", "surrogateescape") or f"<untagged {number}>"] = _party(party, session, wall)
        for leg in party.legs:
            if leg is not None:
                totals["RTP"][0] += leg.stream.packets
                totals["RTP"][1] += leg.stream.bytes
                totals["RTCP"][0] += leg.rtcp_packets
                totals["RTCP"][1] += leg.rtcp_bytes
    fields: dict[str, Encodable] = {
        "result": "ok",
        "created": int(created),
        "created_us": int(created % 1 * 1e6),
        "last signal": int(session.last_signal + wall),
        "SSRC": {},
        "tags": tags,
        "totals": {kind: _stats(packets, size) for kind, (packets, size) in totals.items()},
    }
    if session.metadata:
        fields["metadata"] = session.metadata
    return fields


def _party(party: Party, session: Session, wall: float) -> dict[str, Encodable]:
    peer = party.peer
    linked: list[Encodable] = (
        [{"tag": peer.tag, "type": "offer/answer"}] if peer is not None and peer.peer is party else []
    )
    fields: dict[str, Encodable] = {
        "tag": party.tag,
        "created": int(party.created + wall),
        "medias": [_media(leg, session, wall) for leg in party.legs if leg is not None],
        "subscriptions": linked,
        "subscribers": linked,
    }
    if party.branch:
        fields["via-branch"] = party.branch
    return fields


def _media(leg: Leg, session: Session, wall: float) -> dict[str, Encodable]:
    flags = ["initialized"] if leg.remote is not None or leg.held else []
    if leg.direction in (b"sendrecv", b"sendonly"):
        flags.append("send")
    if leg.direction in (b"sendrecv", b"recvonly"):
        flags.append("recv")
    if leg.mux:
        flags.append("rtcp-mux")
    kinds = ["RTP", "RTCP"] if leg.mux else ["RTP"]
    stream = leg.stream
    rtp = dict(_stats(stream.packets, stream.bytes))
    rtp["packets lost"] = max(0, stream.lost)
    rtp["jitter us"] = int(stream.jitter_ms * 1000)
    return {
        "index": leg.index + 1,
        "type": leg.kind,
        "protocol": leg.protocol,
        "flags": flags,
        "streams": [
            _stream(leg.pair.rtp, leg.target, leg.remote, kinds, rtp, (stream.last or session.created) + wall),
            _stream(
                leg.pair.rtcp,
                leg.rtcp_target,
                leg.remote_rtcp,
                ["RTCP"],
                _stats(leg.rtcp_packets, leg.rtcp_bytes),
                (leg.rtcp_last or session.created) + wall,
            ),
        ],
    }


def _stream(
    port: Port,
    target: Source | None,
    signalled: Source | None,
    kinds: list[str],
    stats: Mapping[str, Encodable],
    last: float,
) -> dict[str, Encodable]:
    return {
        "local address": port.interface.address,
        "local port": port.number,
        "family": "IPv4" if port.interface.family == "IP4" else "IPv6",
        "endpoint": _endpoint(target),
        "advertised endpoint": _endpoint(signalled),
        "last packet": int(last),
        "flags": [*kinds, "filled"] if signalled else kinds,
        "stats": stats,
    }


def _endpoint(source: Source | None) -> dict[str, Encodable]:
    if source is None:
        return {}
    return {"family": "IPv6" if ":" in source[0] else "IPv4", "address": source[0], "port": source[1]}


def _stats(packets: int, size: int) -> dict[str, Encodable]:
    return {"packets": packets, "bytes": size, "errors": 0}
