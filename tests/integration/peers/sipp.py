"""SIPp with its stock scenarios, as a caller and as a callee, with message traces and counters."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.peers.probe import Address, is_bound
from tests.integration.peers.process import Peer, PeerError, wait_for
from tests.integration.peers.sipp_trace import TraceVerdict, judge_trace_files


@dataclass(frozen=True)
class SippCounters:
    """The cumulative counters of SIPp's statistics file."""

    created: int
    current: int
    successful: int
    failed: int
    retransmissions: int


class Sipp(Peer):
    """One SIPp process; its traces stand in `work` as `<name>.msg`, `<name>.csv` and `<name>.err`."""

    def __init__(self, work: Path, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.messages = work / f"{name}.msg"
        self.statistics = work / f"{name}.csv"
        self.errors = work / f"{name}.err"
        traces = ["-trace_msg", "-message_file", str(self.messages), "-trace_err", "-error_file", str(self.errors)]
        traces += ["-trace_stat", "-stf", str(self.statistics), "-fd", "1", "-nostdin"]
        super().__init__(["sipp", *arguments, *traces], work / f"{name}.log")

    @property
    def counters(self) -> SippCounters:
        """As of the last second. All zero before the first."""
        rows = []
        if self.statistics.exists():
            with self.statistics.open(newline="") as file:
                rows = [row for row in csv.DictReader(file, delimiter=";") if row.get("Retransmissions(C)")]
        if not rows:
            return SippCounters(0, 0, 0, 0, 0)
        columns = ("TotalCallCreated", "CurrentCall", "SuccessfulCall(C)", "FailedCall(C)", "Retransmissions(C)")
        return SippCounters(*(int(rows[-1][column]) for column in columns))


@dataclass(frozen=True)
class SippLoad:
    """A load between two stock SIPps: `calls` in all, `rate` of them a second, each held for `hold_ms`."""

    calls: int
    rate: int
    hold_ms: int
    limit: int = 90
    """Seconds after which the caller is killed: SIPp itself goes on retransmitting a BYE for half a minute."""


def sipp_caller(work: Path, source: str, callee: Address, proxy: Address, load: SippLoad) -> Sipp:
    """`sipp -sn uac -t un`: a socket for each call, everything to `proxy`."""
    arguments = ["-sn", "uac", "-t", "un", "-max_socket", "900", "-i", source, "-d", str(load.hold_ms)]
    arguments += ["-r", str(load.rate), "-m", str(load.calls)]
    arguments += ["-rsa", f"{proxy[0]}:{proxy[1]}", f"{callee[0]}:{callee[1]}"]
    return Sipp(work, "uac", arguments)


def sipp_callee(work: Path, address: Address) -> Sipp:
    """`sipp -sn uas`: answers every call; it sends its responses to the source of the request."""
    return Sipp(work, "uas", ["-sn", "uas", "-i", address[0], "-p", str(address[1])])


@dataclass(frozen=True)
class SippOutcome:
    """How a load went: the caller's exit status (-9: killed at its limit) and counters, and what both traces say."""

    status: int
    counters: SippCounters
    verdict: TraceVerdict
    complaints: str
    """The beginning of the caller's error file: why SIPp gave calls up."""

    def __str__(self) -> str:
        told = f"\nSIPp's first complaints:\n{self.complaints}" if self.complaints else ""
        return f"sipp exit status {self.status}, {self.counters}\n{self.verdict}{told}"


def run_sipp(
    work: Path,
    load: SippLoad,
    *,
    proxy: Address,
    callee: Address,
    source: str,
    during: Callable[[Sipp], None] = lambda caller: None,
) -> SippOutcome:
    """Run both SIPps through `proxy` until the caller ends; `during(caller)` is called once it has started."""
    work.mkdir(parents=True, exist_ok=True)
    with sipp_callee(work, callee) as uas:
        wait_for(lambda: is_bound(callee), 5, "sipp -sn uas listens")
        with sipp_caller(work, source, callee, proxy, load) as uac:
            during(uac)
            status = uac.wait(load.limit, kill=True)
        # The last 200 of the callee is in its trace before it is at the caller: nothing to wait for.
        if not uas.running:
            raise PeerError(f"the callee ended early:\n{uas.tail()}")
        complaints = uac.errors.read_text(errors="replace")[:1500] if uac.errors.exists() else ""
        return SippOutcome(status, uac.counters, judge_trace_files(uac.messages, uas.messages), complaints)
