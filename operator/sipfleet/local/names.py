"""How people name what they ask for: `sipcluster/demo`, `mediapool media`, `pods`, as with kubectl."""

from __future__ import annotations

import click

ALIASES: dict[str, str] = {
    alias: plural
    for plural, aliases in {
        "sipclusters": ("sipclusters", "sipcluster", "clusters", "cluster", "sc"),
        "mediapools": ("mediapools", "mediapool", "pools", "pool", "mp"),
        "pods": ("pods", "pod", "po"),
        "calls": ("calls", "call"),
        "cdrs": ("cdrs", "cdr"),
        "srv": ("srv", "dns"),
        "events": ("events", "event", "ev"),
        "releases": ("releases", "release"),
    }.items()
    for alias in aliases
}


def resource_name(words: tuple[str, ...], kinds: tuple[str, ...], name_needed: bool = True) -> tuple[str, str | None]:
    """(plural kind, name) of `KIND/NAME`, `KIND NAME` or `KIND`.

    Raises `click.UsageError` that says what is allowed.
    """
    parts = words[0].split("/", 1) if len(words) == 1 else list(words)
    kind = ALIASES.get(parts[0].lower().removesuffix(".sipfleet.io"))
    if kind not in kinds or kind is None:
        raise click.UsageError(f"{parts[0]!r} given, one of {', '.join(kinds)} allowed")
    if len(parts) > 2:
        raise click.UsageError(f"one name at a time: {' '.join(words)!r} given")
    name = parts[1] if len(parts) == 2 else None
    if name is None and name_needed:
        raise click.UsageError(f"the name is missing: {parts[0]}/NAME")
    return kind, name
