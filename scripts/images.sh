#!/bin/bash
# The container images, built by buildah on a base that debootstrap makes, as archives that every engine loads.
#
#   scripts/images.sh                          operator, sipproxy, rtprelay and store, of the version in the source
#   scripts/images.sh --version 0.1.1          the same source as another version, to roll to
#   scripts/images.sh --version 0.1.2 --broken a sipproxy and an rtprelay that exit at once
#
#   --out DIR    where the archives go; without it dist/images
#   --only NAME  operator, sipproxy, rtprelay or store; may be given several times
#
# DIR/sipfleet-operator-V.tar, sipproxy-V.tar, rtprelay-V.tar and sipfleet-store-V.tar are docker archives of
# localhost/sipfleet/{operator,sipproxy,rtprelay,store}:V; the store is localhost/sipfleet/store:7.0 too, after its Redis.
# What is there already and made of the same files is kept.
#
# Needs root, Debian's packages and the package index of pip, as this host reaches them. With a registry at hand none of
# this is needed: the Containerfiles build with any engine (docs/install.md).
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sipfleet/images
PREFIX=localhost/sipfleet
# Of Debian 12: the tag that the chart has for the store, which is not rolled with sipfleet.
REDIS=7.0

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

. scripts/minbase.sh

# --- what is wanted ------------------------------------------------------------------------------------------------

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' images/sipcore/__init__.py)
out=dist/images
broken=
only=()
while [ $# -gt 0 ]; do
    case $1 in
    --version) version=${2:?--version wants a version} && shift 2 ;;
    --out) out=${2:?--out wants a directory} && shift 2 ;;
    --only) only+=("${2:?--only wants a name}") && shift 2 ;;
    --broken) broken=broken && shift ;;
    *) die "$1: unknown argument; --version V, --out DIR, --only NAME and --broken are known" ;;
    esac
done
[[ $version =~ ^[0-9][0-9A-Za-z.]*$ ]] || die "--version $version: a PEP 440 version without '+' is expected: it is a tag too"
if [ ${#only[@]} = 0 ]; then
    only=(sipproxy rtprelay)
    [ -n "$broken" ] || only+=(operator store)
fi

containerfile() {
    case $1 in
    operator) echo operator/Containerfile ;;
    *) echo "images/$1/Containerfile" ;;
    esac
}

archive() {
    case $1 in
    operator | store) echo "$out/sipfleet-$1-$version.tar" ;;
    *) echo "$out/$1-$version.tar" ;;
    esac
}

for name in "${only[@]}"; do
    case $name${broken:+ broken} in
    operator | sipproxy | rtprelay | store | "sipproxy broken" | "rtprelay broken") ;;
    *) die "--only $name: operator, sipproxy, rtprelay and store are known, with --broken sipproxy and rtprelay" ;;
    esac
done

# --- whether there is anything to do -------------------------------------------------------------------------------

digest() { sha256sum | cut -d ' ' -f 1; }

files_digest() { # of the names and contents of all files below the given paths
    find "$@" -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | digest
}

# Everything that the image is made of, but for what the package index gives today.
inputs() {
    {
        echo "$1 $version $broken"
        case $1 in
        store) files_digest "$(containerfile store)" ;;
        *) files_digest pyproject.toml README.md LICENSE operator images ;;
        esac
        files_digest images/base scripts/images.sh scripts/minbase.sh
    } | digest
}

stamp() { echo "$(dirname "$(archive "$1")")/.$(basename "$(archive "$1")").inputs"; }

missing=()
for name in "${only[@]}"; do
    if ! { [ -e "$(archive "$name")" ] && [ "$(cat "$(stamp "$name")" 2>/dev/null)" = "$(inputs "$name")" ]; }; then
        missing+=("$name")
    fi
done

sizes() {
    for name in "${only[@]}"; do
        printf '  %5s MB  %-60s %s\n' "$(($(stat -c %s "$(archive "$name")") / 1000000))" "$(archive "$name")" \
            "$PREFIX/$name:$version"
    done
}

if [ ${#missing[@]} = 0 ]; then
    say "images of $version are made of these files already"
    sizes
    exit 0
fi

# --- tools ---------------------------------------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || die "building on a base of our own makes a chroot: run it as root"
packages=()
for tool in buildah debootstrap; do
    command -v "$tool" >/dev/null || packages+=("$tool")
done
if [ ${#packages[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "please install: ${packages[*]}"
    say "installing Debian packages: ${packages[*]}"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; } \
        >/dev/null </dev/null || die "apt-get install ${packages[*]} failed"
fi

mkdir -p "$CACHE" "$out"
# One storage, one builder at a time.
exec 9>"$CACHE/lock"
flock 9

# Each version leaves its layers: now and then the storage begins anew.
if [ "$(find "$CACHE/storage/overlay" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -gt 600 ]; then
    rm -rf --one-file-system "$CACHE/storage" "$CACHE/run"
fi

buildah() { command buildah --root "$CACHE/storage" --runroot "$CACHE/run" --storage-driver "$driver" "$@"; }

driver=overlay
buildah info >/dev/null 2>&1 || driver=vfs # a file system that cannot be the upper one of an overlay
cleanup() {
    rm -rf "$work"
    # What the overlay driver mounted for itself.
    if mountpoint -q "$CACHE/storage/overlay"; then umount "$CACHE/storage/overlay" || true; fi
}
work=$(mktemp -d)
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Of a run that was killed.
buildah rm --all >/dev/null

# How this host reaches the package index: what pip is told here, in one file that is mounted while something is built.
host_python=python3
[ ! -x .venv/bin/python ] || host_python=.venv/bin/python
bundle=/etc/ssl/certs/ca-certificates.crt
{
    echo '[global]'
    "$host_python" -m pip config list 2>/dev/null |
        sed -nE "s/^(:env:|global)\.(index-url|extra-index-url|trusted-host|proxy|default-timeout|timeout)='(.*)'\$/\2 = \3/p" |
        sed 's/\\n/ /g' | awk '!seen[$1]++'
    [ ! -e "$bundle" ] || echo "cert = /run/host-certificates.crt"
} >"$work/pip.conf"
mounts=(--volume "$work/pip.conf:/etc/pip.conf:ro")
[ ! -e "$bundle" ] || mounts+=(--volume "$bundle:/run/host-certificates.crt:ro")

build() { # build <image> <arguments of buildah>: its output is shown when it fails
    local image=$1
    shift
    buildah build --isolation chroot --quiet --tag "$image" "$@" >"$work/build.log" 2>&1 || {
        tail -n 40 "$work/build.log" >&2
        die "building $image failed"
    }
}

has_image() { buildah inspect --type image "$1" >/dev/null 2>&1; }

# --- the base, and the base with what builds --------------------------------------------------------------------------

make_minbase
base=$PREFIX/base:$({ files_digest images/base && stat -c '%s %Y' "$MINBASE"; } | digest | cut -c 1-12)
builder=$PREFIX/builder:${base##*:}
if ! has_image "$base"; then
    say "base: Debian $SUITE with python3; once"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$MINBASE" / >/dev/null
    buildah commit --quiet --rm "$container" "$PREFIX/minbase" >/dev/null
    build "$base" --squash --build-arg MINBASE="$PREFIX/minbase" images/base
fi
if ! has_image "$builder"; then
    say "builder: the base with python3-venv; once"
    printf '%s\n' "FROM $base" 'RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv' |
        build "$builder" -f - images/base
fi

# --- the images ------------------------------------------------------------------------------------------------------

# An image whose program ends with an error before it has done anything: nothing that could be served, ever.
build_broken() {
    local name=$1 container
    printf '#!/bin/sh\necho "%s: broken on purpose" >&2\nexit 1\n' "$name" >"$work/$name"
    container=$(buildah from --pull-never "$PREFIX/$name:good-$version")
    buildah copy --quiet --chmod 0755 "$container" "$work/$name" "/opt/$name/bin/$name" >/dev/null
    buildah config --label "org.opencontainers.image.version=$version" "$container"
    buildah commit --quiet --rm "$container" "$PREFIX/$name:$version" >/dev/null
}

add_name() { # add_name <docker archive> <its name> <another name>
    mkdir "$work/archive"
    tar -C "$work/archive" -xf "$1"
    chmod u+w "$work/archive/manifest.json"
    sed -i "s|\"$2\"|\"$2\",\"$3\"|" "$work/archive/manifest.json"
    grep -qF "\"$3\"" "$work/archive/manifest.json" || die "$1: no name $2 in its manifest"
    # In place, GNU tar would damage what stands before.
    (cd "$work/archive" && tar -cf "$1" -- *)
    rm -rf "$work/archive"
}

for name in "${missing[@]}"; do
    began=$SECONDS
    image=$PREFIX/$name:$version
    built=$PREFIX/$name:${broken:+good-}$version
    # Taken before the build: who edits a file meanwhile gets another build.
    made_of=$(inputs "$name")
    build "$built" --layers -f "$(containerfile "$name")" \
        --build-arg BASE="$base" --build-arg BUILDER="$builder" --build-arg VERSION="$version" "${mounts[@]}" .
    [ -z "$broken" ] || build_broken "$name"
    rm -f "$(stamp "$name")"
    buildah push --quiet "$image" "docker-archive:$work/archive.tar:$image" >/dev/null
    [ "$name" != store ] || add_name "$work/archive.tar" "$image" "$PREFIX/store:$REDIS"
    mv "$work/archive.tar" "$(archive "$name")"
    echo "$made_of" >"$(stamp "$name")"
    say "$image built in $((SECONDS - began)) s"
done
sizes
