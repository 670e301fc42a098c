#!/bin/sh
# A cluster on this machine, events under calls, a verdict. Arguments go to `sipfleet demo`.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh demo
began=$(date +%s)
status=0
"$VENV/bin/sipfleet" demo "$@" || status=$?
# The last line of the demo is its JSON; this is not for its reader.
say "demo took $(($(date +%s) - began)) s" >&2
exit "$status"
