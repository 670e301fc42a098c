"""The SIP proxy as a pure core (docs/decisions/0001): events and the time in, actions out; no sockets, no clock.

What belongs here: everything that the proxy decides. What does not: sockets, the store's connection, files, processes.
"""

from .proxy import ProxyCore

__all__ = ["ProxyCore"]
