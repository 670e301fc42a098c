#!/bin/sh
# scripts/bench.sh proxy|relay|idle|operator [arguments]: one benchmark; its last line is JSON, its exit status tells
# whether the bar holds.
. "$(dirname -- "$0")/lib.sh"
what=${1:?usage: scripts/bench.sh proxy|relay|idle|operator}
shift
scripts/setup.sh test
# A script called operator.py would hide the standard library's module from all that lie beside it.
if [ "$what" = operator ]; then what=operator_bench; fi
exec "$VENV/bin/python" "bench/$what.py" "$@"
