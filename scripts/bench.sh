#!/bin/sh
# scripts/bench.sh proxy|relay|idle [arguments]: one benchmark; its last line is JSON, its exit status tells whether the bar holds.
. "$(dirname -- "$0")/lib.sh"
what=${1:?usage: scripts/bench.sh proxy|relay|idle}
shift
scripts/setup.sh test
exec "$VENV/bin/python" "bench/$what.py" "$@"
