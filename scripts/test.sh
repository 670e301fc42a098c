#!/bin/sh
# scripts/test.sh [pytest arguments]: lint, then every test, with coverage. Arguments narrow the tests and leave lint out.
#
# Integration tests mostly wait, for calls to end; the others compute. So the others run beside them, with a lower
# priority, and after them the integration tests that have network namespaces of their own. What runs beside is printed
# when the integration tests have ended.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh test

if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi

scripts/lint.sh

rm -f .coverage .coverage.*
printed=$(mktemp)
beside=
# What runs beside may have ended by itself meanwhile: then there is nobody to kill, and the exit status stays.
trap 'rm -f "$printed"; [ -z "$beside" ] || kill "$beside" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

IN_NAMESPACES="tests/integration/proxy/test_behind_a_service.py tests/integration/relay/test_behind_a_service.py"
without=
for path in $IN_NAMESPACES; do without="$without --ignore=$path"; done

run_beside() {
    running=
    trap 'kill "$running" 2>/dev/null; exit 143' TERM
    failed=0
    say "unit, property and simulation tests"
    COVERAGE_FILE=.coverage.computing nice -n 19 "$VENV/bin/python" -m pytest -q --ignore=tests/integration \
        --cov --cov-report= -p no:cacheprovider &
    running=$!
    wait "$running" || failed=$?
    say "integration tests in network namespaces"
    # shellcheck disable=SC2086 # they are several
    COVERAGE_FILE=.coverage.namespaces "$VENV/bin/python" -m pytest -q $IN_NAMESPACES \
        --cov --cov-report= --durations=5 -p no:cacheprovider &
    running=$!
    wait "$running" || failed=$?
    return "$failed"
}

say "integration tests; unit, property and simulation tests beside them"
run_beside >"$printed" 2>&1 </dev/null &
beside=$!
status=0
# shellcheck disable=SC2086 # they are several
COVERAGE_FILE=.coverage.integration "$VENV/bin/python" -m pytest tests/integration $without \
    --cov --cov-report= --durations=10 || status=$?
beside_status=0
wait "$beside" || beside_status=$?
beside=

cat "$printed"
say "coverage, of what ran inside pytest"
"$VENV/bin/coverage" combine --quiet
"$VENV/bin/coverage" report
[ "$status" = 0 ] || die "integration tests failed (pytest status $status; 5: nothing collected)"
[ "$beside_status" = 0 ] || die "tests beside them failed (pytest status $beside_status; 5: nothing collected)"
say "all tests passed"
