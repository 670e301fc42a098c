"""What an idle cluster costs: memory (PSS summed) and CPU of `sipfleet up` with everything that it started.

    python bench/idle.py [--seconds 60] [-f examples/cluster.yaml]

Prints a table a process and one JSON line; exit 1 above a bar (400 MB, 5 % of a core).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from common import BenchError, cpu_seconds, memory_mb, process_tree, program, wait_until

MEMORY_BAR_MB = 400.0
CPU_BAR = 0.05
SETTLE_S = 5.0
"""Start-up (imports, first heartbeats) is not idling."""


def command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "(gone)"
    return " ".join(Path(w).name if w.startswith("/") else w for w in words if w)[:70]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("-f", "--file", default="examples/cluster.yaml")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="sipfleet-idle-") as state:
        log = Path(state) / "up.log"
        argv = [sys.executable, "-m", "sipfleet", "up", "-f", arguments.file]
        environment = {"XDG_STATE_HOME": state}
        with program(argv, core=os.sched_getaffinity(0).pop(), log=log, env=environment) as up:
            os.sched_setaffinity(up.pid, os.sched_getaffinity(0))
            probe = f"XDG_STATE_HOME={state} {sys.executable} -m sipfleet get clusters --json 2>/dev/null"

            def ready() -> bool:
                try:
                    rows = json.loads(os.popen(probe).read())
                except ValueError:
                    return False
                conditions = [c for row in rows for c in row["status"]["conditions"] if c["type"] == "Ready"]
                return bool(conditions) and all(c["status"] == "True" for c in conditions)

            wait_until(ready, up, "sipfleet up", log, limit=30.0)
            print(f"up and ready; {SETTLE_S:g} s to settle, then {arguments.seconds:g} s of idling", flush=True)
            time.sleep(SETTLE_S)
            before = {pid: cpu_seconds(pid) for pid in process_tree(up.pid)}
            total_before, started = cpu_seconds(up.pid), time.monotonic()
            time.sleep(arguments.seconds)
            elapsed, total = time.monotonic() - started, cpu_seconds(up.pid) - total_before
            memory = memory_mb(up.pid)
            for pid in process_tree(up.pid):
                one = Path(f"/proc/{pid}/smaps_rollup").read_text()
                pss = sum(int(line.split()[1]) for line in one.splitlines() if line.startswith("Pss:")) / 1000
                own = (cpu_seconds(pid) - before.get(pid, 0.0)) / elapsed
                print(f"{pid:>8} {pss:7.1f} MB {own:7.2%} (with children)  {command_line(pid)}")
            up.send_signal(signal.SIGINT)
            up.wait(20)
    good = memory < MEMORY_BAR_MB and total / elapsed < CPU_BAR
    print(json.dumps({"memory_mb": round(memory, 1), "cpu": round(total / elapsed, 4), "seconds": round(elapsed, 1)}))
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"bench idle: {error}", file=sys.stderr)
        sys.exit(2)
