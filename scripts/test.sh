#!/bin/sh
# scripts/test.sh [pytest arguments]: lint, then every test, with coverage. Arguments narrow the tests and leave lint out.
#
# Integration tests mostly wait, for calls to end; the others compute. So the others run beside them, with a lower
# priority, and are printed when the integration tests have ended.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh test

if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi

scripts/lint.sh

rm -f .coverage .coverage.*
beside=$(mktemp)
computing=
trap 'rm -f "$beside"; [ -z "$computing" ] || kill "$computing" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "integration tests; unit, property and simulation tests beside them"
COVERAGE_FILE=.coverage.computing nice -n 19 "$VENV/bin/python" -m pytest -q --ignore=tests/integration \
    --cov --cov-report= -p no:cacheprovider >"$beside" 2>&1 </dev/null &
computing=$!
status=0
COVERAGE_FILE=.coverage.integration "$VENV/bin/python" -m pytest tests/integration --cov --cov-report= --durations=10 ||
    status=$?
beside_status=0
wait "$computing" || beside_status=$?

say "unit, property and simulation tests"
cat "$beside"
say "coverage, of what ran inside pytest"
"$VENV/bin/coverage" combine --quiet
"$VENV/bin/coverage" report
[ "$status" = 0 ] || die "integration tests failed (pytest status $status; 5: nothing collected)"
[ "$beside_status" = 0 ] || die "unit, property or simulation tests failed (pytest status $beside_status; 5: nothing collected)"
say "all tests passed"
