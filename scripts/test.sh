#!/bin/sh
# scripts/test.sh [pytest arguments]: lint, then every test, with coverage. Arguments narrow the tests and leave lint out.
#
# Integration tests mostly wait, for calls to end; the others compute. So they run in three streams: integration tests
# of whole clusters, printed as they go; integration tests of proxies, relays and calls, in a network namespace so that
# no address is another stream's too, and then property tests; and beside both, with a lower priority, the other tests
# that compute. What the last two print comes when the first has ended.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh test

if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi

scripts/lint.sh

rm -f .coverage .coverage.*
printed=$(mktemp -d)
apart= computing=
# They may have ended by themselves meanwhile: then there is nobody to kill, and the exit status stays.
trap 'rm -rf "$printed"; for one in $apart $computing; do kill "$one" 2>/dev/null || true; done' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

APART="tests/integration/calls tests/integration/proxy tests/integration/relay"
without=
for path in $APART; do without="$without --ignore=$path"; done

say "tests in three streams"
run_apart() {
    running=
    trap 'kill "$running" 2>/dev/null; exit 143' TERM
    failed=0
    # shellcheck disable=SC2016,SC2086 # the inner shell expands its own arguments; they are several
    COVERAGE_FILE=.coverage.apart unshare --net -- sh -c 'ip link set lo up && exec "$@"' sh \
        "$VENV/bin/python" -m pytest -q $APART --cov --cov-report= --durations=10 -p no:cacheprovider &
    running=$!
    wait "$running" || failed=$?
    COVERAGE_FILE=.coverage.property nice -n 19 "$VENV/bin/python" -m pytest -q tests/property \
        --cov --cov-report= --durations=10 -p no:cacheprovider &
    running=$!
    wait "$running" || failed=$?
    return "$failed"
}
run_apart >"$printed/apart" 2>&1 </dev/null &
apart=$!
COVERAGE_FILE=.coverage.computing nice -n 19 "$VENV/bin/python" -m pytest -q \
    --ignore=tests/integration --ignore=tests/property \
    --cov --cov-report= --durations=10 -p no:cacheprovider >"$printed/computing" 2>&1 </dev/null &
computing=$!

failed=
# shellcheck disable=SC2086 # they are several
COVERAGE_FILE=.coverage.integration "$VENV/bin/python" -m pytest tests/integration $without \
    --cov --cov-report= --durations=10 || failed="integration (pytest status $?)"
wait "$apart" || failed="$failed proxy, relay, calls or property (pytest status $?)"
apart=
say "integration tests of proxies, relays and calls; property tests"
cat "$printed/apart"
wait "$computing" || failed="$failed unit or simulation (pytest status $?)"
computing=
say "unit and simulation tests"
cat "$printed/computing"

say "coverage, of what ran inside pytest"
"$VENV/bin/coverage" combine --quiet
"$VENV/bin/coverage" report
[ -z "$failed" ] || die "tests failed: $failed (5: nothing collected)"
say "all tests passed"
