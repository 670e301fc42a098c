#!/bin/sh
# A cluster on this machine, events under calls, a verdict. Arguments go to `sipfleet demo`.
. "$(dirname -- "$0")/lib.sh"
scripts/setup.sh demo
exec "$VENV/bin/sipfleet" demo "$@"
