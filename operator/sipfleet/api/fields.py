"""The building blocks of the models: the base class, scalar types with their limits, and rules that span fields.

What belongs here: what more than one model uses. Every limit stands once, in a type or in a `Rule`; the CRDs and the
checks in Python both come from it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

BROKEN_RULE = "broken_rule"
"""Type of the pydantic error that carries the rules a model breaks, in `ctx["rules"]`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A check that spans fields, said twice: for Python, and as CEL for the API server (x-kubernetes-validations)."""

    path: str
    """The field to blame, by its wire name, relative to the model; empty for the model itself."""
    allowed: str
    """What is allowed, as the user reads it."""
    cel: str | None
    """None where the schema says it by other means (`list_of`)."""
    holds: Callable[[Any], bool]

    def validation(self) -> dict[str, str]:
        """An entry of x-kubernetes-validations."""
        entry = {"rule": self.cel or "true", "message": f"allowed: {self.allowed}"}
        return entry | {"fieldPath": f".{self.path}"} if self.path else entry


FAULTY = object()
"""Stands for a value that could not be read: it is there, and nothing else can be said of it."""


def _broken_rules(rules: tuple[Rule, ...]) -> PydanticCustomError:
    text = "; ".join(rule.allowed for rule in rules)
    return PydanticCustomError(BROKEN_RULE, "{text}", {"text": text, "rules": rules})


def _surely_broken(rule: Rule, partial: SimpleNamespace) -> bool:
    try:
        return not rule.holds(partial)
    except (TypeError, AttributeError):  # it looks into a faulty field
        return False


class WireModel(BaseModel):
    """A piece of a manifest: camelCase on the wire, immutable in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        frozen=True,
        use_attribute_docstrings=True,
    )


class SpecModel(WireModel):
    """A piece of `spec`: what it does not know it refuses, and all broken rules are reported, not the first."""

    model_config = ConfigDict(extra="forbid")

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def all_rules(cls) -> tuple[Rule, ...]:
        """Its own rules and those of the models that it extends."""
        return tuple(rule for model in cls.__mro__ for rule in model.__dict__.get("rules", ()))

    @model_validator(mode="wrap")
    @classmethod
    def _keep_the_rules(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            model = handler(data)
        except ValidationError as error:
            raise cls._with_broken_rules(error, data) from None
        broken = tuple(rule for rule in cls.all_rules() if not rule.holds(model))
        if broken:
            raise _broken_rules(broken)
        return model

    @classmethod
    def _with_broken_rules(cls, error: ValidationError, data: Any) -> ValidationError:
        """The same errors, and the rules that are broken whatever the faulty fields should have been."""
        found = error.errors(include_url=False)
        lines = [
            InitErrorDetails(
                type=PydanticCustomError(line["type"], "{text}", {**line.get("ctx", {}), "text": line["msg"]}),
                loc=line["loc"],
                input=line["input"],
            )
            for line in found
        ]
        if isinstance(data, dict):
            partial = cls._partial(data, {line["loc"][0] for line in found if line["loc"]})
            broken = tuple(rule for rule in cls.all_rules() if _surely_broken(rule, partial))
            if broken:
                lines.append(InitErrorDetails(type=_broken_rules(broken), loc=(), input=data))
        return ValidationError.from_exception_data(cls.__name__, lines)

    @classmethod
    def _partial(cls, data: dict[str, Any], faulty: set[str | int]) -> SimpleNamespace:
        """The fields that are right, defaults included; `FAULTY` stands for the others."""
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            key = next((key for key in (field.alias, name) if key in data), None)
            if faulty & {field.alias, name}:
                values[name] = FAULTY
            elif key is None:
                values[name] = field.get_default(call_default_factory=True, validated_data={})
            else:
                hint: Any = field.annotation
                for extra in field.metadata:
                    hint = Annotated[hint, extra]
                values[name] = TypeAdapter(hint).validate_python(data[key])
        return SimpleNamespace(**values)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        validations = [rule.validation() for rule in cls.all_rules() if rule.cel is not None]
        if validations:
            schema["x-kubernetes-validations"] = validations
        return schema


def ip_address(value: str) -> str:
    """Refuse what no IPv4 or IPv6 address is."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise PydanticCustomError("ip_address", "an IPv4 or IPv6 address such as 192.0.2.1") from None
    return value


def sip_target(value: str) -> str:
    """Refuse a SIP URI whose host is no address (nothing is looked up in DNS on the way of a call) or whose port is
    none."""
    parts = re.match(SIP_TARGET, value)
    if parts is not None:  # the pattern has been checked before, with an error of its own
        ip_address(parts[1].strip("[]"))
        if int(parts[2] or 5060) > 65535:
            raise PydanticCustomError("port", "a port from 1 to 65535")
    return value


def unique(values: Any) -> bool:
    """True when no value occurs twice."""
    values = list(values)
    return len(values) == len(set(values))


def list_of(*, key: str | None = None) -> dict[str, Any]:
    """Schema extras of a list whose entries differ: by the field `key`, or as a whole (SSA merges by the same)."""
    if key is None:
        return {"x-kubernetes-list-type": "set"}
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def whole(ge: int, le: int) -> Any:
    """A whole number from `ge` to `le`; texts, floats and booleans are refused, as the API server refuses them."""
    return Field(strict=True, ge=ge, le=le)


DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DOMAIN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
SIP_TARGET = r"^sip:(\[[0-9A-Fa-f:.]+\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::([1-9][0-9]{0,4}))?(?:;transport=udp)?$"
VERSION = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
PREFIX = r"^\+?[0-9A-Za-z*#._-]*$"
STORE_URL = r"^redis://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[0-9]{1,2})?$"
HTTP_URL = r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
ADDRESS = r"^[0-9A-Fa-f.:]+$"
HOST = r"^([0-9A-Fa-f.:]+|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?)$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
PERCENT = r"^[1-9][0-9]?%$"

Label = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=50)]
Domain = Annotated[str, StringConstraints(pattern=DOMAIN, min_length=1, max_length=253)]
Port = Annotated[int, whole(1, 65535)]
Seconds = Annotated[int, whole(1, 86400)]
IpAddress = Annotated[str, StringConstraints(pattern=ADDRESS, min_length=2, max_length=45), AfterValidator(ip_address)]
