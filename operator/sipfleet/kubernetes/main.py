"""The command `sipfleet operator`: Kopf watches SipClusters and MediaPools, everything else comes from thin watches,
and a few workers pass over the sets whose turn it is."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
from typing import Any, cast

import aiohttp
import click
import kopf
from kopf._core.engines.peering import Identity

from sipfleet.api.common import GROUP, VERSION_NAME
from sipfleet.kubernetes.avoid import sweep
from sipfleet.kubernetes.client import Api, ApiError, connector
from sipfleet.kubernetes.fleet import Fleet
from sipfleet.kubernetes.leader import Leadership
from sipfleet.kubernetes.reconcile import reconcile
from sipfleet.kubernetes.settings import Settings, SettingsError

log = logging.getLogger("sipfleet")

WORKERS = 16
"""Passes at a time: they mostly wait for the API server."""
FAILED = 2.0
"""Seconds until a pass that failed is tried again; doubled with each failure up to a minute."""
COLLECT = (50_000, 20, 50)
"""Thresholds of the garbage collector: each read of the store is thousands of short-lived lists."""
WARM = 5.0
"""Seconds between two looks of a standby for stores to read."""
LIVENESS = "http://0.0.0.0:8080/healthz"


class Operator:
    """One running operator."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failures: dict[object, int] = {}
        self._early: list[tuple[str, dict[str, object]]] = []
        self.fleet: Fleet | None = None
        self.stop = asyncio.Event()
        """Set to end."""
        self.failed = False
        """It could not go on."""

    def set_event(self, kind: str | None, manifest: dict[str, object]) -> None:
        """From Kopf, for each SipCluster and MediaPool; before the first sync they are kept."""
        if self.fleet is None:
            self._early.append((kind or "ADDED", manifest))
        else:
            self.fleet.set_changed(kind or "ADDED", manifest)

    async def run(self) -> None:
        """Until `stop` is set or leadership is lost. Raises `ApiError` when there is no cluster."""
        api = await Api.connect()
        leadership = Leadership(api, self._settings)
        try:
            fleet = Fleet(api, self._settings)
            await fleet.start()
            self.fleet = fleet
            for kind, manifest in self._early:
                fleet.set_changed(kind, manifest)
            self._early.clear()
            acquire = asyncio.ensure_future(leadership.acquire())
            warm = asyncio.ensure_future(_warm(fleet))
            stop = asyncio.ensure_future(self.stop.wait())
            await asyncio.wait([acquire, stop], return_when=asyncio.FIRST_COMPLETED)
            warm.cancel()
            if self.stop.is_set():
                acquire.cancel()
                await fleet.close()
                return
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECT)
            log.info("watches %s", ", ".join(self._settings.namespaces) or "all namespaces")
            await fleet.monitors.look()
            workers = [asyncio.ensure_future(self._work(fleet)) for _ in range(WORKERS)]
            workers.append(asyncio.ensure_future(sweep(fleet)))
            workers.append(asyncio.ensure_future(fleet.monitors.run()))
            lost = asyncio.ensure_future(leadership.lost.wait())
            blind = asyncio.ensure_future(fleet.blind())
            await asyncio.wait([stop, lost, blind], return_when=asyncio.FIRST_COMPLETED)
            self.failed = leadership.lost.is_set() or blind.done()
            blind.cancel()
            for worker in workers:
                worker.cancel()
            await fleet.close()
        finally:
            await leadership.release()
            await api.close()

    async def _work(self, fleet: Fleet) -> None:
        while True:
            key = await fleet.queue.get()
            state = fleet.sets.get(key)
            if state is None:
                self._failures.pop(key, None)
                fleet.queue.done(key)
                continue
            again = FAILED
            try:
                again = await reconcile(fleet, state)
                self._failures.pop(key, None)
            except ApiError as error:
                again = self._failed(key)
                log.warning("%s: %s; again in %g s", key.qualified, error, again)
                if error.status in (400, 403, 422):
                    text = f"the API server refused: {error}"
                    await fleet.events.add(key, state.uid, "Refused", text, warning=True)
            except Exception:  # one set must not end the others
                again = self._failed(key)
                log.error("%s: %s", key.qualified, traceback.format_exc())
            finally:
                fleet.queue.done(key)
            if key in fleet.sets:
                fleet.queue.add_after(key, again)

    def _failed(self, key: object) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return min(60.0, FAILED * 2.0 ** (count - 1))


class NoDiff(kopf.DiffBaseStorage):
    """Nothing here asks Kopf what changed in an object; copying it whole to find that out would be a tenth of what the
    operator costs."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


async def _warm(fleet: Fleet) -> None:
    """While another operator leads."""
    while True:
        try:
            await fleet.warm()
        except ApiError as error:
            log.warning("standby: %s", error)
        await asyncio.sleep(WARM)


def _session(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Kopf's watches only read, as ours do: its own sessions would notice after 70 s that nobody is there any more."""
    session = aiohttp.ClientSession(
        connector=connector(info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
    )
    return kopf.AiohttpSession(server=info.server, default_namespace=info.default_namespace, aiohttp_session=session)


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """What Kopf calls: the two kinds, start and end."""
    found = kopf.OperatorRegistry()
    running: list[asyncio.Task[None]] = []

    @kopf.on.login(registry=found)
    async def login(**given: Any) -> kopf.AiohttpSession | None:
        info = kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)
        return None if info is None else _session(info)

    @kopf.on.startup(registry=found)
    async def startup(settings: kopf.OperatorSettings, **_: object) -> None:
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.persistence.finalizer = "sipfleet.io/kopf"
        settings.persistence.diffbase_storage = NoDiff()
        running.append(asyncio.ensure_future(_guarded(operator)))

    @kopf.on.cleanup(registry=found)
    async def cleanup(**_: object) -> None:
        operator.stop.set()
        await asyncio.wait(running, timeout=10)

    for plural in ("sipclusters", "mediapools"):

        @kopf.on.event(GROUP, VERSION_NAME, plural, registry=found)
        async def changed(event: kopf.RawEvent, **_: object) -> None:
            operator.set_event(event["type"], dict(event["object"]))

    return found


async def _guarded(operator: Operator) -> None:
    """An operator that cannot go on ends its process: whoever runs it starts another one."""
    try:
        await operator.run()
    except ApiError as error:
        operator.failed = True
        log.error("%s", error)
    except Exception:
        operator.failed = True
        log.error("%s", traceback.format_exc())
    operator.stop.set()


@click.command("operator")
@click.option("--namespace", "namespaces", multiple=True, help="Watch this namespace only; may be given several times.")
@click.option("--liveness", default=LIVENESS, show_default=True, help="Where the liveness probe is answered.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def operator_command(namespaces: tuple[str, ...], liveness: str, verbose: bool) -> None:
    """Run the operator: in a pod, or outside by KUBECONFIG. Images and more come from its environment
    (docs/install.md)."""
    try:
        settings = Settings.read()
    except SettingsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if namespaces:
        from dataclasses import replace

        settings = replace(settings, namespaces=namespaces)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.DEBUG if verbose else logging.INFO
    )
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.INFO if verbose else logging.WARNING)
    sys.exit(asyncio.run(_main(settings, liveness)))


async def _main(settings: Settings, liveness: str) -> int:
    operator = Operator(settings)
    await kopf.operator(
        registry=registry(operator),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=list(settings.namespaces),
        liveness_endpoint=liveness,
        # Kopf would ask the system for a user's name, which a container's user has not.
        identity=Identity(settings.identity),
        stop_flag=operator.stop,
    )
    return 1 if operator.failed else 0
