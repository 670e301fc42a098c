#!/bin/sh
# scripts/e2e.sh build|smoke|all [pytest arguments]: the end-to-end tests on a Kubernetes of this machine.
#
#   build   what they need: Debian packages, .venv, the programs of the test cluster (25 minutes at most), the images
#   smoke   the same, then one case of each kind, within 30 minutes
#   all     the same, then everything, within 100 minutes
#
# The cluster is brought up and taken down without a trace, whatever happens in between. With KUBECONFIG set to another
# cluster the tests run on that one (docs/e2e.md). Exit status 0 only when every test was played and passed.
. "$(dirname -- "$0")/lib.sh"

goal=${1:-}
case $goal in
build) limit=0 ;;
smoke) limit=1800 ;;
all) limit=6000 ;;
*) die "usage: scripts/e2e.sh build|smoke|all [pytest arguments]" ;;
esac
shift
[ "$(id -u)" = 0 ] || die "the cluster and its images need root: namespaces, mounts, control groups"

BUILD_LIMIT=1500
# In the foreground: what ends this script ends them too.
began=$(date +%s)
since() { echo "$(($(date +%s) - $1)) s"; }

scripts/setup.sh e2e
python=$VENV/bin/python
mark=$(date +%s)
timeout --foreground --kill-after=30 "$BUILD_LIMIT" "$python" -m e2e.cluster.binaries ||
    die "the programs of the test cluster were not built (exit status $?; 124: not within $BUILD_LIMIT s)"
say "programs of the test cluster: $(since "$mark") (0 to 1 s: they were there)"
mark=$(date +%s)
scripts/images.sh
scripts/images.sh --version 0.1.1
scripts/images.sh --version 0.1.2 --broken
say "images: $(since "$mark")"
if [ "$goal" = build ]; then exit 0; fi
# What was built above is what is tested, also when somebody edits a file meanwhile.
export SIPFLEET_E2E_BUILT=1

own=$("$python" -c 'from e2e.cluster import layout; print("" if layout.other_kubeconfig() else "own")')
down() {
    if [ "$own" ]; then "$python" -m e2e.cluster down; fi
}
trap 'status=$?; trap - EXIT; down || status=1; exit $status' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ "$own" ]; then "$python" -m e2e.cluster up; fi

if [ "$goal" = smoke ]; then set -- -m smoke "$@"; fi
mark=$(date +%s)
status=0
timeout --foreground --kill-after=60 "$limit" "$python" -m pytest e2e/tests --durations=15 "$@" || status=$?
"$python" -m e2e.harness.table
say "tests took $(since "$mark"), with set-up $(since "$began")"
[ "$status" = 0 ] || die "end-to-end tests failed (pytest status $status; 5: nothing collected, 124: not within $limit s)"
down
trap - EXIT
say "all end-to-end tests passed; the cluster is gone"
