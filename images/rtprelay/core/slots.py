"""What the world calls a relay whose address belongs to its slot: read from the slots file (docs/decisions/0007)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address

from rtprelay.core.ports import parse_interface
from sipcore.errors import ConfigError


def address_of(text: str, slot: int) -> str | None:
    """The address of this slot in the text of a slots file, `{"0": "198.51.100.7"}`; None when it is not in it.

    Raises `ConfigError`.
    """
    try:
        slots = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"slots file: {error}") from None
    if not isinstance(slots, dict):
        raise ConfigError(f"slots file: {type(slots).__name__} given, an object of addresses by slot expected")
    address = slots.get(str(slot))
    if address is None:
        return None
    try:
        return str(ip_address(address if isinstance(address, str) else ""))
    except ValueError:
        raise ConfigError(f"slots file: slot {slot}: {address!r} given, an IP address expected") from None


def advertise(interfaces: Sequence[str], address: str) -> list[str]:
    """The interfaces, the first of the address's family advertised under it.

    Raises `ConfigError` when there is none of that family.
    """
    family = "IP6" if ":" in address else "IP4"
    parsed = [parse_interface(text) for text in interfaces]
    for number, interface in enumerate(parsed):
        if interface.family == family:
            mine = f"{interface.name}/{interface.address}!{address}"
            return [*interfaces[:number], mine, *interfaces[number + 1 :]]
    raise ConfigError(f"slots file: {address} given, an address of the family of {', '.join(interfaces)} expected")
