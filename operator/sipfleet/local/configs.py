"""The configuration of each pod: what its revision was made of, and what changes in place as the manifest has it."""

from __future__ import annotations

import asyncio

from sipcore.placeholders import literal
from sipfleet import admin, render
from sipfleet.api import MediaPool, SipCluster
from sipfleet.local import addresses
from sipfleet.local.errors import LocalError
from sipfleet.local.events import Events
from sipfleet.local.pods import Pods, Rendered
from sipfleet.local.sets import Sets
from sipfleet.local.slots import Slot
from sipfleet.local.state import StateDirectory

LOOPBACK6 = "::1"
"""The only IPv6 address of loopback. Relays share it, each with the ports of its range that it gets hold of; ports that
are shared by all sessions cannot be shared by relays too."""
AGAIN = 2.0
"""Seconds until a reload that failed is tried again."""


class Configs:
    """Renders, and reloads what changed."""

    def __init__(self, state: StateDirectory, sets: Sets, events: Events, shared: str, store: str) -> None:
        """`shared` is the cluster's SIP address, `store` the URL of the store."""
        self.dirty = False
        """A manifest changed: some pod may have to read its file again."""
        self._state = state
        self._sets = sets
        self._events = events
        self._shared = shared
        self._store = store

    def of(self, slot: Slot) -> Rendered:
        """What the pod in this slot runs.

        Raises `LocalError` when nobody knows what its revision was made of.
        """
        one = self._sets.by_key.get(slot.owner)
        made_of = one.revisions.get(slot.revision) if one is not None else None
        if one is None or made_of is None:
            raise LocalError(f"{slot.name}: nothing is known of revision {slot.revision}")
        place = render.Place(
            pod=slot.name,
            uid=slot.uid,
            ordinal=slot.ordinal,
            revision=slot.revision,
            address=slot.address,
            address6=LOOPBACK6 if isinstance(made_of, MediaPool) and made_of.spec.ports.mode == "range" else "",
            shared=self._shared,
            admin_port=addresses.ADMIN_PORT,
            hop_port=addresses.HOP_PORT,
            ng_port=addresses.NG_PORT,
            store=literal(self._store),
            key_file=literal(str(self._state.cluster_key())),
        )
        if isinstance(made_of, MediaPool):
            return render.config_text(render.relay_config(made_of, place)), made_of.spec.version, None
        today = one.resource
        assert isinstance(today, SipCluster)
        config = render.proxy_config(made_of, today, place)
        own = next(listener for listener in config.listeners if listener.address == slot.address)
        return render.config_text(config), made_of.spec.version, (own.address, own.port)

    def reload_changed(self, pods: Pods) -> None:
        """Tell every proxy whose configuration changed to read it again; what failed is tried again."""
        if not self.dirty:
            return
        self.dirty = False
        for slot in pods.slots.values():
            if slot.pid is None or slot.owner.kind != "SipCluster" or slot.leave is not None:
                continue
            if "/reload" in slot.busy:
                self.dirty = True
            elif (text := self.of(slot)[0]) != slot.config:
                self._state.write_text(f"pods/{slot.name}.json", text)
                slot.busy.add("/reload")
                pods.spawn(self._reload(slot, slot.uid, text))

    async def _reload(self, slot: Slot, uid: str, text: str) -> None:
        try:
            status, answer = await admin.request((slot.address, addresses.ADMIN_PORT), "POST", "/reload")
            if slot.uid != uid:
                return
            if status == 200:
                slot.config = text
                self._events.add("Reloaded", f"pod/{slot.name}", "routing was changed in place")
                return
            said = answer.decode("utf-8", "replace").strip()[:200]
            self._events.warn("ReloadFailed", f"pod/{slot.name}", f"{status or 'no answer'} {said}")
            await asyncio.sleep(AGAIN)
            self.dirty = True
        finally:
            slot.busy.discard("/reload")
