#!/bin/sh
# scripts/e2e-binaries.sh [--paths | --clean]: builds the programs of the test cluster into the cache, where they are missing.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh e2e
exec "$VENV/bin/python" -m e2e.cluster.binaries "$@"
