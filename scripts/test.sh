#!/bin/sh
# scripts/test.sh [pytest arguments]: lint, then every test, with coverage. Arguments narrow the tests and leave lint out.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh test

if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi

scripts/lint.sh
say "tests"
exec "$VENV/bin/python" -m pytest --cov --cov-report=term --durations=15
