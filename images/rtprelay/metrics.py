"""`GET /metrics` in Prometheus' text format.

Written by hand: importing the client library at the first scrape would hold every call's packets up for longer than a
packet's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtprelay.server import Relay

_COUNTERS = (
    ("offers", "ng offers"),
    ("answers", "ng answers"),
    ("deletes", "ng deletes"),
    ("errors", "ng commands refused"),
    ("load_limits", "ng commands answered with load limit"),
    ("created", "sessions made"),
    ("restored", "sessions taken up after a restart"),
    ("not_restored", "stored sessions that could not be taken up"),
    ("timeouts", "sessions ended because nothing came"),
)


def exposition(relay: Relay) -> bytes:
    """All metrics of a relay."""
    core, counters = relay.core, relay.core.counters
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP rtprelay_{name} {text}")
        lines.append(f"# TYPE rtprelay_{name} {kind}")
        lines.extend(f"rtprelay_{name}{labels} {value:.10g}" for labels, value in samples)

    legs = [leg for session in core.sessions.values() for leg in session.legs()]
    metric("sessions", "gauge", "Sessions now.", ("", len(core.sessions)))
    metric("capacity", "gauge", "Sessions that it takes.", ("", core.config.capacity))
    metric("cordoned", "gauge", "1 while it takes no new sessions.", ("", core.cordoned))
    metric("store_available", "gauge", "1 while the store answers.", ("", core.store_available))
    for name, text in _COUNTERS:
        metric(f"{name}_total", "counter", f"{text.capitalize()}.", ("", getattr(counters, name)))
    packets = counters.ended_packets + sum(leg.stream.packets for leg in legs)
    size = counters.ended_bytes + sum(leg.stream.bytes for leg in legs)
    metric("rtp_packets_total", "counter", "RTP packets received and accepted.", ("", packets))
    metric("rtp_bytes_total", "counter", "Bytes of these.", ("", size))
    metric("rtcp_packets_total", "counter", "RTCP packets received and accepted.", ("", core.matcher.rtcp_packets))
    metric(
        "dropped_packets_total",
        "counter",
        "Packets that went nowhere, by reason.",
        *((f'{{reason="{reason}"}}', count) for reason, count in core.matcher.dropped.items()),
    )
    metric("keepalives_total", "counter", "Keepalives sent to parties in silence.", ("", core.matcher.keepalives))
    metric("moves_total", "counter", "Parties recognised at another port in mid-call.", ("", core.matcher.moves))
    metric("send_errors_total", "counter", "Packets that the kernel refused.", ("", relay.datapath.errors))
    lost = sum(max(0, leg.stream.lost) for leg in legs)
    jitter = max((leg.stream.jitter_ms for leg in legs), default=0.0)
    metric("rtp_lost_packets", "gauge", "Packets lost on the way to us, in the sessions of now.", ("", lost))
    metric("rtp_jitter_ms_max", "gauge", "Worst jitter of the sessions of now, in ms.", ("", jitter))
    return "\n".join(lines).encode() + b"\n"
