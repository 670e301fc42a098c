#!/bin/sh
# scripts/e2e-cluster.sh up|down|... : the test cluster (`python -m e2e.cluster --help` lists the verbs), set up first.
. "$(dirname -- "$0")/lib.sh"
[ "$(id -u)" = 0 ] || die "the cluster needs root: namespaces, mounts, control groups"
scripts/setup.sh e2e
if [ "${1:-}" = up ]; then "$VENV/bin/python" -m e2e.cluster.binaries; fi
exec "$VENV/bin/python" -m e2e.cluster "$@"
