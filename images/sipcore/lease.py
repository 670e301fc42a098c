"""Leases: who is alive, and whether we may still act as an owner (DESIGN 2.7).

Pure: `now` is a boot-time clock in seconds, replies of the scripts in `sipcore.store` come in, commands go out.
"""

from __future__ import annotations

from sipcore.errors import SipcoreError
from sipcore.record import Lease, decode, encode
from sipcore.resp import Value
from sipcore.store import HEARTBEAT, LEASE_KEPT_MS, LEASE_LIFE_MS, LEASES, RELEASE, Command, Keys

INTERVAL = 1.0
LIFE = LEASE_LIFE_MS / 1000
MARGIN = 0.5


class LeaseView:
    """The leases of one set as the store last told them."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.alive: dict[int, Lease] = {}
        """Live leases by index; this observer's own among them."""
        self.server_ms = 0.0
        """The store's clock at the last answer."""
        self.run_since: float | None = None
        self.generation = 0
        """Goes up when a lease appears, ends or changes."""
        self._known: dict[str, tuple[bytes, Lease]] = {}

    @property
    def leases(self) -> dict[str, Lease]:
        """Live leases by id (`pod/uid`), also those that have no index yet."""
        return {name: lease for name, (_, lease) in self._known.items()}

    def read(self) -> Command:
        return LEASES.call((self.keys.leases, self.keys.beats))

    def store_changed(self, available: bool, now: float) -> None:
        """The store came, went, or is another one: what is missing counts only after a whole lease life from now."""
        self.run_since = now if available else None

    def trusted(self, now: float) -> bool:
        """Whether a missing lease means a dead pod."""
        return self.run_since is not None and now - self.run_since >= LIFE

    def dead(self, index: int, now: float) -> bool:
        """Whether the pod of this index is proved dead by its lease."""
        return index not in self.alive and self.trusted(now)

    def update(self, reply: Value, now: float) -> None:
        """Take in the reply of HEARTBEAT or LEASES; leases that cannot be read (a newer major) are left out.

        A lease that was known and is missing is kept until a missing one counts: a store that lost its memory must not
        make us forget who is there.
        """
        if not (isinstance(reply, list) and len(reply) == 4):
            return
        now_ms, leases, beats = reply[0], reply[2], reply[3]
        if not (isinstance(now_ms, bytes) and isinstance(leases, list) and isinstance(beats, list)):
            return
        clock = int(now_ms)
        self.server_ms = float(clock)
        beat = dict(zip(beats[::2], beats[1::2], strict=False))
        known: dict[str, tuple[bytes, Lease]] = {}
        changed = False
        for name, data in zip(leases[::2], leases[1::2], strict=False):
            last = beat.get(name)
            if not (isinstance(name, bytes) and isinstance(data, bytes) and isinstance(last, bytes)):
                continue
            if clock - int(last) >= LEASE_LIFE_MS:
                continue
            old = self._known.get(name.decode())
            if old and old[0] == data:
                lease = old[1]
            else:
                try:
                    lease = decode(data, Lease)
                except SipcoreError:
                    continue
                changed = True
            known[name.decode()] = (data, lease)
        if not self.trusted(now):
            present = {lease.pod for _, lease in known.values()}
            known |= {key: old for key, old in self._known.items() if old[1].pod not in present}
        alive: dict[int, Lease] = {}
        for _, lease in known.values():
            other = alive.get(lease.index)
            if lease.index and (other is None or _prevails(lease, other)):
                alive[lease.index] = lease
        if changed or known.keys() != self._known.keys():
            self.generation += 1
        self._known, self.alive = known, alive


def _prevails(one: Lease, other: Lease) -> bool:
    """Which of two leases with one index counts: the later incarnation of a slot, else the pod that had it first."""
    earlier = (one.started, one.id) < (other.started, other.id)
    return not earlier if one.pod == other.pod else earlier


class LeaseKeeper(LeaseView):
    """Our own lease, renewed each second, and the view of our set that comes back with each renewal."""

    def __init__(self, keys: Keys, lease: Lease) -> None:
        super().__init__(keys)
        self.lease = lease
        self.renewed: float | None = None
        """When the last renewal that was answered was sent."""

    def heartbeat(self) -> Command:
        """The command that renews `lease` as it stands; remember when it was sent for `answered`."""
        return HEARTBEAT.call(
            (self.keys.leases, self.keys.beats, self.keys.index, self.keys.slots),
            self.lease.id,
            encode(self.lease),
            self.lease.index,
            LEASE_KEPT_MS,
            # What a relay has outlives its process: its next incarnation is the same relay. A proxy's is another one.
            self.lease.pod if self.lease.kind == "relay" else "",
        )

    def answered(self, reply: Value, sent: float) -> None:
        """The store answered the heartbeat that was sent at `sent`."""
        if not (isinstance(reply, list) and len(reply) == 4 and isinstance(reply[1], int)):
            return
        self.renewed = sent
        first = self.lease.index == 0
        self.lease.index = reply[1]
        self.update(reply, sent)
        if first:
            self.alive.setdefault(self.lease.index, self.lease)
        elif self.alive.get(self.lease.index, self.lease).id != self.lease.id:
            self.lease.index = 0  # the same index was handed out twice by a store that forgot: the younger asks again

    def valid(self, now: float) -> bool:
        """Whether we may still do what only an owner does."""
        return self.renewed is not None and now - self.renewed < LIFE - MARGIN

    def release(self) -> Command:
        """The command that takes our lease away at a clean end."""
        return RELEASE.call((self.keys.leases, self.keys.beats), self.lease.id)
