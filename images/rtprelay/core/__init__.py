"""What a relay decides: sessions, ports, whose packet it is, timeouts. No I/O and no clock (docs/decisions/0001)."""

from rtprelay.core.relay import RelayCore

__all__ = ["RelayCore"]
