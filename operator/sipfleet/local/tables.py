"""Text tables for people, the way kubectl prints them: columns that answer the first question. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

Row = dict[str, Any]


class Column(NamedTuple):
    """A heading, and how its cell is made of a row."""

    title: str
    cell: Callable[[Row], Any]
    wide: bool = False
    """Only with `-o wide`."""


def age(since: float | None, now: float | None = None) -> str:
    """`12s`, `3m5s`, `2h7m`, `4d1h`."""
    if not since:
        return "-"
    seconds = max(0, int((time.time() if now is None else now) - since))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600}h"


def _clock(stamp: float | None) -> str:
    return datetime.fromtimestamp(stamp).strftime("%H:%M:%S") if stamp else "-"


def condition(row: Row, type: str) -> Row:
    found: list[Row] = [c for c in row.get("status", {}).get("conditions", []) if c["type"] == type]
    return found[0] if found else {}


def _ready(row: Row) -> str:
    status = row["status"]
    return f"{status.get('readyReplicas', 0)}/{status.get('desiredReplicas') or 0}"


def _set_columns(active: str) -> tuple[Column, ...]:
    return (
        Column("NAME", lambda r: r["metadata"]["name"]),
        Column("READY", _ready),
        Column("CALLS", lambda r: r["status"].get(active)),
        Column("FREE", lambda r: r["status"].get("freeCapacity")),
        Column("VERSION", lambda r: r["status"].get("version")),
        Column("ADDRESS", lambda r: r["status"].get("address")),
        Column("STATE", state),
        Column("STORE", lambda r: condition(r, "StoreAvailable").get("status"), wide=True),
        Column("GENERATION", lambda r: r["metadata"].get("generation"), wide=True),
    )


URGENT = (
    ("Accepted", "False"),
    ("DrainBlocked", "True"),
    ("SurgeBlocked", "True"),
    ("Degraded", "True"),
    ("StoreAvailable", "False"),
    ("Progressing", "True"),
    ("Ready", "False"),
)
"""Conditions that somebody should know of, the most urgent first."""


def state(row: Row) -> str:
    """The most urgent thing that the conditions say."""
    for type, bad in URGENT:
        found = condition(row, type)
        if found.get("status") == bad:
            return str(found.get("reason") or type)
    return "Ready" if condition(row, "Ready").get("status") == "True" else "-"


COLUMNS: dict[str, tuple[Column, ...]] = {
    "sipclusters": _set_columns("activeDialogs"),
    "mediapools": _set_columns("activeSessions"),
    "pods": (
        Column("NAME", lambda r: r["name"]),
        Column("PHASE", lambda r: r["phase"]),
        Column("CALLS", lambda r: r["active"]),
        Column("CAPACITY", lambda r: r["capacity"]),
        Column("VERSION", lambda r: r["version"]),
        Column("ADDRESS", lambda r: r["address"]),
        Column("RESTARTS", lambda r: r["restarts"]),
        Column("AGE", lambda r: age(r["since"])),
        Column("PID", lambda r: r["pid"], wide=True),
        Column("REVISION", lambda r: r["revision"], wide=True),
        Column("INDEX", lambda r: r["index"], wide=True),
        Column("MESSAGE", lambda r: r["message"], wide=True),
    ),
    "calls": (
        Column("CALL-ID", lambda r: r["callId"]),
        Column("FROM", lambda r: r.get("from")),
        Column("TO", lambda r: r.get("to")),
        Column("SINCE", lambda r: age(r.get("answered"))),
        Column("PROXY", lambda r: r.get("owner")),
        Column("RELAY", lambda r: r.get("relay")),
        Column("EPOCH", lambda r: r.get("epoch"), wide=True),
    ),
    "cdrs": (
        Column("ENDED", lambda r: _clock(r.get("ended"))),
        Column("FROM", lambda r: f"{r.get('src_user')}@{r.get('src_domain')}"),
        Column("TO", lambda r: f"{r.get('dst_user')}@{r.get('dst_domain')}"),
        Column("SECONDS", lambda r: f"{r.get('duration', 0.0):.1f}"),
        Column("BY", lambda r: r.get("ended_by")),
        Column("STATUS", lambda r: r.get("status")),
        Column("PROXY", lambda r: r.get("owner")),
        Column("RELAY", lambda r: r.get("relay")),
        Column("CALL-ID", lambda r: r.get("call_id"), wide=True),
    ),
    "srv": (
        Column("NAME", lambda r: r["name"]),
        Column("TTL", lambda r: r["ttl"]),
        Column("PRIORITY", lambda r: r["priority"]),
        Column("WEIGHT", lambda r: r["weight"]),
        Column("PORT", lambda r: r["port"]),
        Column("TARGET", lambda r: r["target"]),
        Column("ADDRESS", lambda r: r["address"]),
    ),
    "events": (
        Column("TIME", lambda r: _clock(r["time"])),
        Column("TYPE", lambda r: r["type"]),
        Column("REASON", lambda r: r["reason"]),
        Column("OBJECT", lambda r: r["object"]),
        Column("MESSAGE", lambda r: r["message"]),
    ),
    "releases": (Column("VERSION", lambda r: r["version"]), Column("PATH", lambda r: r["path"])),
}


def table(columns: Sequence[Column], rows: Sequence[Row], wide: bool = False) -> str:
    """Aligned columns under their headings; what is unknown is `-`."""
    shown = [c for c in columns if wide or not c.wide]
    cells = [[c.title for c in shown]]
    cells += [["-" if (value := c.cell(row)) in (None, "") else str(value) for c in shown] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown))]
    return "\n".join("   ".join(f"{v:<{w}}" for v, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _events(events: Sequence[Row]) -> list[str]:
    return ["Events:", _indent(table(COLUMNS["events"], events[-20:])) if events else "  none"]


def describe_set(row: Row, pods: Sequence[Row], events: Sequence[Row]) -> str:
    """All about a SipCluster or MediaPool."""
    import yaml

    status = row["status"]
    lines = [
        f"Name:        {row['metadata']['name']}",
        f"Namespace:   {row['metadata'].get('namespace', 'default')}",
        f"Kind:        {row['kind']}, generation {row['metadata'].get('generation')}",
        f"Address:     {status.get('address') or '-'}",
        f"Pods:        {_ready(row)} ready, free capacity {status.get('freeCapacity', '-')}",
        "Spec:",
        _indent(yaml.safe_dump(row["spec"], sort_keys=False).rstrip()),
        "Conditions:",
    ]
    columns = [
        Column("TYPE", lambda c: c["type"]),
        Column("STATUS", lambda c: c["status"]),
        Column("REASON", lambda c: c["reason"]),
        Column("SINCE", lambda c: c["lastTransitionTime"]),
        Column("MESSAGE", lambda c: c.get("message")),
    ]
    lines.append(_indent(table(columns, status.get("conditions", []))))
    lines += ["Pods:", _indent(table(COLUMNS["pods"], pods, wide=True)) if pods else "  none"]
    return "\n".join(lines + _events(events))


def describe_pod(row: Row, events: Sequence[Row]) -> str:
    """All about a pod."""
    lines = [f"{name + ':':<14}{value if value not in (None, '') else '-'}" for name, value in row.items()]
    return "\n".join(lines + _events(events))
