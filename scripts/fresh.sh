#!/bin/bash
# The proof of the README on a bare machine: an empty Debian 12 root (debootstrap, variant minbase), a clean clone of
# the last commit, an empty home, and the README's first block of commands as they stand, inside a chroot with its own
# mounts and processes. Nothing of it stays but the base archive in the cache.
#
#   scripts/fresh.sh           the README's commands
#   scripts/fresh.sh COMMAND   the same root, with these commands in the clone instead (for example 'make test')
#
# Needs root and network. How this host reaches Debian's packages and PyPI (sources, proxy, certificates, pip's
# settings) is copied into the root.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sipfleet/fresh

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "make fresh makes a chroot: run it as root"
for tool in debootstrap unshare git; do
    command -v "$tool" >/dev/null || die "$tool is missing: apt-get install -y debootstrap util-linux git"
done

. scripts/minbase.sh

# --- how this host reaches its package sources -----------------------------------------------------------------------

copy_in() { # copy_in <absolute path>: the same path in the root, symbolic links followed
    [ -e "$1" ] || return 0
    mkdir -p "$root$(dirname "$1")"
    cp -rL "$1" "$root$(dirname "$1")/"
}

# Variables that tell pip, git and OpenSSL where to go; a file that one of them names comes along.
passed_variables() {
    env | grep -E '^(PIP_[A-Z_]+|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY)=' || true
}

# The bundle for what runs before ca-certificates is installed (git brings it), and what the host has in it beyond
# Debian's own where that installation looks for a machine's own certificates.
trust_what_the_host_trusts() {
    local bundle=/etc/ssl/certs/ca-certificates.crt own=$root/usr/local/share/ca-certificates
    [ -e "$bundle" ] || return 0
    copy_in "$bundle"
    mkdir -p "$own"
    cat /usr/share/ca-certificates/*/*.crt 2>/dev/null | awk -v own="$own" '
        /BEGIN CERTIFICATE/ { body = ""; inside = 1; next }
        /END CERTIFICATE/ {
            if (FILENAME == "-") debian[body] = 1
            else if (!(body in debian)) {
                file = sprintf("%s/host-%03d.crt", own, ++n)
                printf "-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n", body >file
                close(file)
            }
            inside = 0
        }
        inside { body = body $0 "\n" }' - "$bundle"
}

copy_access() {
    local file line
    copy_in /etc/resolv.conf
    copy_in /etc/hosts
    copy_in /etc/pip.conf
    trust_what_the_host_trusts
    if host_is_debian_12; then
        rm -f "$root/etc/apt/sources.list"
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian*.sources /etc/apt/sources.list.d/debian*.list; do
            copy_in "$file"
        done
    fi
    for file in /etc/apt/apt.conf.d/*; do
        if grep -q 'Acquire::' "$file"; then copy_in "$file"; fi
    done
    for file in "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" "$HOME/.pip/pip.conf"; do
        if [ -e "$file" ]; then cp "$file" "$root/etc/pip.conf"; fi
    done
    while IFS= read -r line; do
        case ${line#*=} in
        /etc/ssl/certs) ;; # the bundle in it is copied above
        /*) copy_in "${line#*=}" ;;
        esac
    done < <(passed_variables)
}

# --- the run -----------------------------------------------------------------------------------------------------------

# The first block of shell commands of the README, without its comments.
readme_commands() {
    awk '/^```sh$/ { inside = 1; next } /^```$/ { if (inside) exit } inside && !/^[[:space:]]*#/ { print }' README.md
}

started=$SECONDS
make_minbase
base_seconds=$((SECONDS - started))

root=$CACHE/root.$$
log=$CACHE/run.$$.log
cleanup() {
    # Mounts and processes of the run live in namespaces that end with it; what is left is a directory.
    rm -rf --one-file-system "$root"
    rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "unpacking the bare root"
mkdir -p "$root"
tar -C "$root" -xf "$MINBASE"
copy_access
mkdir -p "$root/home/new" "$root/srv"
[ -z "$(git status --porcelain)" ] || say "note: uncommitted changes are not part of this run"
git clone --quiet --bare --no-hardlinks . "$root/srv/sipfleet.git"

commands=$(readme_commands)
if [ $# -gt 0 ]; then
    commands="apt-get install -y git make
git clone \"\$REPOSITORY\" sipfleet && cd sipfleet
$*"
fi
[ -n "$commands" ] || die "README.md has no block of shell commands"

# What a fresh machine has done once before anybody types: the package lists.
cat >"$root/run.sh" <<'RUN'
set -eu
cd "$HOME"
export DEBIAN_FRONTEND=noninteractive
step() { printf '\n### %s s: %s\n' "$(($(date +%s) - BEGAN))" "$1"; }
BEGAN=$(date +%s)
step 'apt-get update'
apt-get update -q >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
RUN
while IFS= read -r command; do
    [ -n "$command" ] || continue
    printf 'step %q\n%s\n' "$command" "$command" >>"$root/run.sh"
done <<<"$commands"
printf 'step end\n' >>"$root/run.sh"

# shellcheck disable=SC2016  # expanded inside
inside='
set -eu
root=$1; shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
status=0
chroot "$root" /usr/bin/env -i "$@" /bin/bash /run.sh || status=$?
# This shell is process 1 of its namespace; whoever else is still here was left behind by the commands.
for entry in "$root"/proc/[0-9]*; do
    [ "${entry##*/}" != 1 ] || continue
    printf "left running: "; tr "\\0" " " <"$entry/cmdline" || true; echo
    status=70
done
exit "$status"
'

variables=()
while IFS= read -r line; do [ -z "$line" ] || variables+=("$line"); done < <(passed_variables)
say "running in the bare root:"
printf '%s\n' "$commands" | sed 's/^/      /'

set +e
unshare --mount --pid --fork --kill-child --propagation private -- \
    /bin/sh -c "$inside" fresh "$root" HOME=/home/new TERM=dumb LANG=C.UTF-8 REPOSITORY=/srv/sipfleet.git \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${variables[@]}" \
    </dev/null 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
set -e

say "times"
[ "$base_seconds" -lt 2 ] || printf '  %5s s  debootstrap of the base (kept in the cache)\n' "$base_seconds"
awk '
    function flush() {
        if (!name) return
        printf "  %5d s  %s\n", now - before, name
        if (set_up) printf "  %5d s      set-up, downloads included\n  %5d s      the rest\n", set_up, now - before - set_up
        set_up = 0
    }
    /^==> set-up took [0-9]+ s/ { set_up = $4 }
    /^### [0-9]+ s: / { now = $2; flush(); before = now; sub(/^### [0-9]+ s: /, ""); name = $0 }' "$log"
[ "$status" = 0 ] || die "the commands failed in the bare root (exit status $status)"
say "these commands work on a bare Debian 12"
