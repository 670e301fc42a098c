#!/bin/sh
# scripts/setup.sh demo|test|e2e: makes everything that the goal needs, and nothing else.
#
#   demo   a virtual environment in .venv with the extra `local` (its wheels bring a redis-server)
#   test   the same with the extra `dev`, and the peers: Redis, SIPp, Kamailio, rtpengine, Knot, BIND, Prometheus
#   e2e    the extra `dev`, and what the test cluster and its images are made of: containerd, runc, CNI plugins, buildah ...
#
# Debian packages are installed when this is root or has sudo; otherwise one message says what to install.
# A second run finds its stamp in .venv and ends at once.
. "$(dirname -- "$0")/lib.sh"

goal=${1:-}
case $goal in
demo) extras=local build="hatchling>=1.27" ;;
test | e2e) extras=dev build= ;;
*) die "usage: scripts/setup.sh demo|test|e2e" ;;
esac

# Whether a Python is new enough and can make virtual environments: Debian ships venv and ensurepip apart from python3.
is_good() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The distribution's Python before any other: it is built with profile-guided optimisation, which one that somebody
# compiled into a directory of his own often is not, and that is an eighth of the CPU of a call.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if is_good "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

lacks_python() {
    if [ -x "$VENV/bin/python" ] || is_good /usr/bin/python3; then return 1; fi
    find_python >/dev/null || return 0
    # Another one would do; the distribution's is a small package away.
    [ "$(id -u)" = 0 ] && have apt-get && /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# What the goal needs and the machine lacks, as names of Debian packages. A command that is there counts, wherever
# it came from.
missing_packages() {
    if lacks_python; then echo python3 python3-venv; fi
    if [ "$goal" = test ]; then
        have redis-server || echo redis-server
        have sipp || echo sip-tester
        have kamailio || echo kamailio
        have rtpengine || echo rtpengine-daemon
        have knotd || echo knot
        have named || echo bind9
        have prometheus || echo prometheus
        have ip || echo iproute2
        have iptables || echo iptables
        have conntrack || echo conntrack
        have ps || echo procps
    fi
    if [ "$goal" = e2e ]; then
        have containerd || echo containerd
        have runc || echo runc
        [ -x /usr/lib/cni/bridge ] || echo containernetworking-plugins
        busybox_is_static || echo busybox-static
        have buildah || echo buildah
        have debootstrap || echo debootstrap
        have ip || echo iproute2
        have iptables || echo iptables
        have conntrack || echo conntrack
        have nsenter || echo util-linux
        have knotd || echo knot
        have prometheus || echo prometheus
        have sipp || echo sip-tester
        have ps || echo procps
    fi
}

# The packages busybox and busybox-static bring the same command; only one of them runs in an empty image.
busybox_is_static() {
    have busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] && return 0
    have sudo || return 1
    # Without a terminal nobody can type a password.
    if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

# Services that Debian's packages start when they are installed.
SERVICES="redis-server kamailio rtpengine-daemon rtpengine-recording-daemon knot named containerd prometheus"

service_runs() {
    if [ -d /run/systemd/system ]; then
        systemctl is-active --quiet "$1"
    else
        have service && service "$1" status >/dev/null 2>&1
    fi
}

service_is_installed() { [ -e "/etc/init.d/$1" ] || [ -e "/lib/systemd/system/$1.service" ]; }

# Stops what this installation started, and takes back the start at boot that came with it. What was installed
# before is not touched, whether it runs or not.
stop_new_services() {
    for service in $SERVICES; do
        case " $1 " in *" $service "*) continue ;; esac
        service_runs "$service" || continue
        say "stopping $service, which its installation started"
        if [ -d /run/systemd/system ]; then
            as_root systemctl disable --now --quiet "$service"
        else
            as_root service "$service" stop >/dev/null
        fi
    done
}

install_packages() {
    if ! have apt-get; then
        die "please install these programs (names of Debian packages), then run this again: $*"
    fi
    can_be_root || die "please run this as root, then try again: apt-get install -y --no-install-recommends $*"
    before=
    for service in $SERVICES; do
        if service_is_installed "$service"; then before="$before $service"; fi
    done
    say "installing Debian packages: $*"
    log=$(mktemp)
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } \
        >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        die "apt-get failed (its output is above)"
    fi
    rm -f "$log"
    stop_new_services "$before"
}

# The environment is right while the project file, this script and the interpreter are what they were.
fingerprint() { { cat pyproject.toml scripts/setup.sh && "$VENV/bin/python" -VV; } 2>/dev/null | cksum; }

stamp_is_good() { [ -f "$1" ] && [ "$(cat "$1")" = "$(fingerprint)" ]; }

began=$(date +%s)
packages=$(missing_packages)
# shellcheck disable=SC2086  # a list of words
[ -z "$packages" ] || install_packages $packages

# The extra `dev` includes what `demo` needs.
if stamp_is_good "$VENV/.ready-$extras" || stamp_is_good "$VENV/.ready-dev"; then exit 0; fi

if ! [ -x "$VENV/bin/python" ]; then
    python=$(find_python) || die "no Python >= 3.11 with the modules venv and ensurepip was found"
    say "making .venv with $("$python" -V)"
    "$python" -m venv "$VENV"
fi
say "installing sipfleet[$extras] into .venv"
# shellcheck disable=SC2086  # one word or none
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" ${build:+"$build"}
fingerprint >"$VENV/.ready-$extras"
say "set-up took $(($(date +%s) - began)) s, downloads included"
