#!/bin/sh
# Everything that can be said about the code without running it.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh test

failed=
check() {
    name=$1
    shift
    say "$name"
    "$@" || failed="$failed, $name"
}

check "ruff check" "$VENV/bin/ruff" check --quiet
check "ruff format" "$VENV/bin/ruff" format --check --quiet --diff
check "mypy --strict" "$VENV/bin/mypy"
check "mypy --strict, benchmarks" env MYPYPATH=bench "$VENV/bin/mypy" --config-file= --strict --no-error-summary bench
check "mypy --strict, end-to-end tests" env MYPYPATH=.:operator:images \
    "$VENV/bin/mypy" --config-file= --strict --no-error-summary -p e2e
check "crds/ and their chart are what the models say" "$VENV/bin/python" -m sipfleet.api.crd --check
check "import contracts" "$VENV/bin/lint-imports" --no-logo
[ -z "$failed" ] || die "lint failed: ${failed#, }"
