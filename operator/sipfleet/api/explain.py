"""What was given and what is allowed, in words, made of the same schema that the API server checks."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from .fields import (
    ADDRESS,
    BROKEN_RULE,
    DNS_LABEL,
    DOMAIN,
    HOST,
    HTTP_URL,
    OBJECT_NAME,
    PERCENT,
    PREFIX,
    SIP_TARGET,
    STORE_URL,
    VERSION,
    Rule,
)
from .schema import Schema, structural

SHOWN = 60
"""So many characters of a value are shown."""
WORDS = {
    DNS_LABEL: "lower-case letters, digits and '-', as in a DNS label",
    DOMAIN: "a domain name in lower-case letters, such as example.test",
    SIP_TARGET: "a SIP URI with an IP address, such as sip:192.0.2.7:5060",
    VERSION: "a version such as 0.1.0 (in quotes when it looks like a number)",
    PREFIX: "the beginning of a user part, such as +49 or 00",
    ADDRESS: "an IPv4 or IPv6 address such as 192.0.2.1",
    HOST: "a host name or an IP address without a port",
    OBJECT_NAME: "lower-case letters, digits, '-' and '.', as in the name of an object",
    STORE_URL: "redis://HOST:PORT/DB without credentials",
    HTTP_URL: "http://HOST:PORT/PATH or https:// without credentials and parameters",
    PERCENT: '"1%" to "99%"',
}

Path = tuple[str | int, ...]


def given(value: object) -> str:
    """A value as it may stand in a line of text."""
    if isinstance(value, dict | list | tuple) and not value:
        return "an empty list" if not isinstance(value, dict) else "nothing"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):  # dates, sets, numbers that JSON has no form for
        text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def allowed(schema: Schema) -> str:
    """What a schema allows."""
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        number = f"a whole number from {schema['minimum']} to {schema['maximum']}"
        return f"{number}, or {WORDS.get(schema.get('pattern', ''), 'a text')}"
    kind = schema.get("type")
    if kind == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}" if "maximum" in schema else "a number"
    if kind == "array":
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        return f"a list of {low} to {high} entries" if high is not None else "a list"
    if kind == "object":
        names = list(schema.get("properties", ()))
        return (
            f"the fields {', '.join(names)}" if names else "no fields" if "properties" in schema else "names and texts"
        )
    text = WORDS.get(schema.get("pattern", ""), "a text")
    return f"{text}, at most {schema['maxLength']} characters" if "maxLength" in schema else text


def schema_at(schema: Schema, path: Path) -> Schema | None:
    """The schema of the field at `path`; None where there is none."""
    for part in path:
        child = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
        if child is None:
            return None
        schema = child
    return schema


def clean(path: Sequence[str | int], schema: Schema) -> Path:
    """pydantic's location without the parts that name branches of a union."""
    out: list[str | int] = []
    for part in path:
        here = schema_at(schema, tuple(out)) or {}
        if here.get("x-kubernetes-int-or-string"):
            break
        out.append(part)
    return tuple(out)


def dotted(path: Path) -> str:
    """`spec.listeners[0].port`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def explain(errors: Iterable[ErrorDetails], model: type[BaseModel]) -> Iterator[tuple[Path, str, str]]:
    """(path, given, allowed) of each thing that is wrong, each once."""
    schema = structural(model)
    seen: set[tuple[Path, str]] = set()
    for error in errors:
        for path, value, text in _expand(error, schema):
            if (path, text) not in seen:
                seen.add((path, text))
                yield path, value, text


def _expand(error: ErrorDetails, schema: Schema) -> Iterator[tuple[Path, str, str]]:
    path = clean(error["loc"], schema)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    here = schema_at(schema, path) or {}
    if kind == BROKEN_RULE:
        for rule in context["rules"]:
            yield from _broken(rule, path, value, schema)
    elif kind == "missing":
        yield path, "nothing", allowed(here)
    elif kind in ("extra_forbidden", "invalid_key"):
        known = list((schema_at(schema, path[:-1]) or {}).get("properties", ()))
        yield path, f"an unknown field with {given(value)}", _instead(str(path[-1]), known)
    elif kind == "too_short" and isinstance(value, list) and len(value) >= context.get("min_length", 0):
        return  # only because entries of it are wrong, which is said for each
    elif kind in ("ip_address", "port"):
        yield path, given(value), error["msg"]
    elif kind in ("too_long", "too_short"):
        yield path, f"{len(value)} entries" if value else "an empty list", allowed(here)
    else:
        yield path, given(value), allowed(here)


def _broken(rule: Rule, path: Path, value: Any, schema: Schema) -> Iterator[tuple[Path, str, str]]:
    inner = tuple(filter(None, rule.path.split(".")))
    blamed: Any = value
    for part in inner:
        blamed = blamed.get(part) if isinstance(blamed, dict) else None
    default = (schema_at(schema, path + inner) or {}).get("default")
    absent = "nothing" if default is None else f"nothing, which means {given(default)},"
    yield path + inner, absent if blamed is None else given(blamed), rule.allowed


def _instead(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return (", ".join(known) if known else "no fields") + hint
