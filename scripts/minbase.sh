# Sourced by fresh.sh and images.sh (bash): a bare Debian root, variant minbase, kept as an archive in the cache.
# It needs root, network and debootstrap. The caller has `say` and `die`.

SUITE=bookworm
MINBASE_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sipfleet/fresh
MINBASE=$MINBASE_CACHE/$SUITE-minbase.tar

host_is_debian_12() { (. /etc/os-release && [ "${ID:-}" = debian ] && [ "${VERSION_CODENAME:-}" = "$SUITE" ]) 2>/dev/null; }

# Where this host gets the suite from; Debian's own address where it does not get it.
mirror() {
    local found=
    if host_is_debian_12; then
        # shellcheck disable=SC2016  # the fields are apt's
        found=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
            awk -v suite="$SUITE" '$1 == suite && $2 == "main" { print $3; exit }')
    fi
    echo "${found:-http://deb.debian.org/debian}"
}

# Makes $MINBASE where it is missing.
make_minbase() {
    [ ! -e "$MINBASE" ] || return 0
    local building=$MINBASE_CACHE/base.$$ keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    say "debootstrap $SUITE (minbase) into the cache; once"
    mkdir -p "$MINBASE_CACHE"
    debootstrap --variant=minbase ${keyring:+$([ -e "$keyring" ] && echo "--keyring=$keyring")} \
        "$SUITE" "$building" "$(mirror)" >"$MINBASE_CACHE/debootstrap.log" 2>&1 || {
        tail -n 20 "$MINBASE_CACHE/debootstrap.log" >&2
        rm -rf --one-file-system "$building"
        die "debootstrap failed"
    }
    rm -f "$building"/var/cache/apt/archives/*.deb
    tar -C "$building" -cf "$MINBASE.part" . && mv "$MINBASE.part" "$MINBASE"
    rm -rf --one-file-system "$building"
}
