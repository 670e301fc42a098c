"""Which loopback address a pod has: handed out once for each place, kept over restarts of pod and supervisor.

Linux answers for all of 127.0.0.0/8, so every pod has an address of its own without any set-up. Pure: the table of what
was handed out is passed in and kept by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from ipaddress import ip_address

from sipfleet.local.errors import AddressError

Free = Callable[[str], bool]

CLUSTER_HOST = 1
"""The cluster's own address in its /24."""
STORE_HOST = 2
FIRST_HOST, LAST_HOST = 10, 254

SIP_PORT = 5060
HOP_PORT = 5070
NG_PORT = 2223
ADMIN_PORT = 9090
STORE_PORT = 6379


def network(cluster: str, address: str | None = None) -> str:
    """The first three octets of a cluster's loopback addresses: those of its own address, else made from its name.

    `127.0` is left to others, and so are the resolvers that listen on 127.0.0.53 and 127.0.1.1.
    """
    if address is not None and ip_address(address).is_loopback and "." in address:
        return address.rpartition(".")[0]
    digest = blake2b(cluster.encode(), digest_size=2).digest()
    return f"127.{16 + digest[0] % 64}.{digest[1]}"


class Addresses:
    """The addresses of the slots of one cluster, as data: `table` is slot name -> address."""

    def __init__(self, net: str, table: dict[str, str] | None = None, free: Free = lambda address: True) -> None:
        """`free` says whether nobody else uses an address: another cluster may live in the same network.

        An address in `table` that is not free any more is forgotten.
        """
        self.net = net
        self._free = free
        self.table = {name: a for name, a in (table or {}).items() if a.rpartition(".")[0] == net and free(a)}

    def of(self, slot: str, used: set[str] | None = None) -> str:
        """The address of a slot; the lowest free one when it has none yet.

        `used` are the slots that exist: when all addresses are handed out, one of a slot that is gone is taken.
        Raises `AddressError` when none is left.
        """
        known = self.table.get(slot)
        if known is not None:
            return known
        taken = set(self.table.values())
        for host in range(FIRST_HOST, LAST_HOST + 1):
            address = f"{self.net}.{host}"
            if address not in taken and self._free(address):
                self.table[slot] = address
                return address
        for name in sorted(set(self.table) - (used or set(self.table))):
            self.table[slot] = self.table.pop(name)
            return self.table[slot]
        raise AddressError(f"{slot}: all {LAST_HOST - FIRST_HOST + 1} pod addresses of {self.net}.0/24 are in use")
