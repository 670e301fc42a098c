"""`${NAME}` in the string values of a configuration file, filled in from the environment: one file for all pods of a
revision (docs/decisions/0007). `$$` is a dollar; any other dollar stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sipcore.errors import ConfigError

_MARK = re.compile(r"\$\$|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*\Z")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


def fill(value: object, environ: Mapping[str, str], urls: frozenset[str] = frozenset(), path: str = "$") -> object:
    """`value` (of TOML or JSON) with every `${NAME}` in its strings replaced; keys stay as they are.

    In the fields whose paths are in `urls` what is filled in is percent-encoded (RFC 3986 2.1), unless the placeholder
    is the whole value: a password may hold any letter, a URL may come whole. A colon stays (IPv6 addresses have it).
    Raises `ConfigError` with the path of the field, what was given and what is allowed.
    """
    if isinstance(value, str):
        return _filled(value, environ, path, encode=path in urls)
    if isinstance(value, list):
        return [fill(one, environ, urls, f"{path}[{number}]") for number, one in enumerate(value)]
    if isinstance(value, dict):
        return {key: fill(one, environ, urls, _below(path, key)) for key, one in value.items()}
    return value


def literal(text: str) -> str:
    """`text` as it has to stand in a file to be read as it is."""
    return text.replace("$", "$$")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if _KEY.match(key) else f"{path}[{key!r}]"


def _filled(text: str, environ: Mapping[str, str], path: str, *, encode: bool) -> str:
    if "$" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if not match[0].endswith("}") or not _NAME.match(name):
            raise ConfigError(
                f"configuration: {path}: {match[0]!r} given, ${{NAME}} with a name of A-Z, 0-9 and _ expected "
                "(a dollar is written $$)"
            )
        if name not in environ:
            raise ConfigError(
                f"configuration: {path}: ${{{name}}} given, the name of a variable in the environment expected; "
                f"{name} is not set"
            )
        value = environ[name]
        if encode and match[0] != text:
            from urllib.parse import quote

            return quote(value, safe=":")
        return value

    return _MARK.sub(replace, text)
