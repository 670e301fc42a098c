"""A thin client of the API server: the official client's configuration and authentication, plain dictionaries instead
of its models.

Building thousands of model objects for every watch event costs more than all the rest of an idle operator, and copying
a body of plain data once more before it is sent costs as much as sending it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from kubernetes.aio import client, config

from sipfleet.kubernetes.names import FIELD_MANAGER

TIMEOUT = 20.0
"""Seconds that an answer may take."""
WATCH_SECONDS = 290
"""After so long the API server is asked to end a watch, and another is begun where it stopped."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))
"""Seconds of silence, seconds between probes, probes without an answer: a connection is known dead after 11 s. A watch
only reads, and hears nothing for minutes when the node has forgotten its connection tracking."""
UNACKNOWLEDGED_MS = 10_000
"""After so long a connection whose data nobody acknowledges is dead."""

Object = dict[str, Any]


class Resource(NamedTuple):
    """A kind of object, as its path names it."""

    group: str
    """Empty: the core group."""
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{where}/{self.plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")


SIPCLUSTERS = Resource("sipfleet.io", "v1alpha1", "sipclusters", "SipCluster")
MEDIAPOOLS = Resource("sipfleet.io", "v1alpha1", "mediapools", "MediaPool")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node")
SERVICES = Resource("", "v1", "services", "Service")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
EVENTS = Resource("", "v1", "events", "Event")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
SERVICEMONITORS = Resource("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor")
DNSENDPOINTS = Resource("externaldns.k8s.io", "v1alpha1", "dnsendpoints", "DNSEndpoint")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

BY_KIND = {
    one.kind: one
    for one in (SERVICES, CONFIGMAPS, SECRETS, STATEFULSETS, BUDGETS, POLICIES, SERVICEMONITORS, DNSENDPOINTS)
}
SETS = {"SipCluster": SIPCLUSTERS, "MediaPool": MEDIAPOOLS}


class ApiError(Exception):
    """The API server refused, or did not answer (status 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason


def _watched_socket(where: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose end is noticed, also by who only reads from it."""
    family, kind, protocol, *_ = where
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (*KEEPALIVE, (socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def connector(context: ssl.SSLContext | None) -> aiohttp.TCPConnector:
    """Connections to an API server, any number: each watch keeps one."""
    return aiohttp.TCPConnector(ssl=True if context is None else context, limit=0, socket_factory=_watched_socket)


class Api:
    """One connection pool to one API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._configuration = api.configuration
        # aiohttp's own look at the environment reads ~/.netrc in a thread, for every request.
        self._session = aiohttp.ClientSession(connector=connector(api.rest_client.ssl_context), read_bufsize=2**21)
        self._options = _connection_options(api.configuration)

    @classmethod
    async def connect(cls) -> Api:
        """By the service account in a pod, else by KUBECONFIG.

        Raises `ApiError` when there is neither.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            try:
                await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except (config.ConfigException, OSError) as error:
                raise ApiError(
                    0, "NoCluster", f"no cluster: not in a pod, and KUBECONFIG gives none ({error})"
                ) from None
        return cls(client.ApiClient(configuration))

    @property
    def api_client(self) -> client.ApiClient:
        return self._api

    async def close(self) -> None:
        await self._session.close()
        await self._api.close()  # type: ignore[no-untyped-call]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> Any:
        """One request; -> the decoded answer. Raises `ApiError`."""
        try:
            async with await self._send(method, path, query, body, content_type, timeout) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "NoAnswer", f"{method} {path}: {error or type(error).__name__}") from None
        return _decoded(answer.status, answer.reason or "", data)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        content_type: str,
        timeout: float | aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        # A service account's token is read again before it runs out.
        for one in (await self._configuration.auth_settings()).values():
            headers[one["key"]] = one["value"]
        return await self._session.request(
            method,
            self._configuration.host + path,
            params={name: str(value) for name, value in (query or {}).items()},
            data=None if body is None else msgspec.json.encode(body),
            headers=headers,
            timeout=timeout if isinstance(timeout, aiohttp.ClientTimeout) else aiohttp.ClientTimeout(total=timeout),
            **self._options,
        )

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return cast(Object, await self.request("GET", resource.path(namespace, name)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def apply(self, body: Object, *, sub: str | None = None, force: bool = True) -> Object:
        """Server-side apply: the fields in `body` are ours. Raises `ApiError`."""
        resource = BY_KIND.get(body["kind"]) or SETS[body["kind"]]
        metadata = body["metadata"]
        return cast(
            Object,
            await self.request(
                "PATCH",
                resource.path(metadata.get("namespace"), metadata["name"], sub),
                query={"fieldManager": FIELD_MANAGER, "force": str(force).lower()},
                body=body,
                content_type="application/apply-patch+yaml",
            ),
        )

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Object, sub: str | None = None
    ) -> Object:
        """JSON merge patch (RFC 7396). A `metadata.uid` or `resourceVersion` in it is a precondition."""
        return cast(
            Object,
            await self.request(
                "PATCH",
                resource.path(namespace, name, sub),
                query={"fieldManager": FIELD_MANAGER},
                body=body,
                content_type="application/merge-patch+json",
            ),
        )

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        return cast(
            Object,
            await self.request("POST", resource.path(namespace), query={"fieldManager": FIELD_MANAGER}, body=body),
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, *, grace: int | None = None
    ) -> bool:
        """Delete this incarnation and no other; -> False when it is gone already or another has its name."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        body["propagationPolicy"] = "Background"
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            await self.request("DELETE", resource.path(namespace, name), body=body)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def list(self, resource: Resource, namespace: str | None = None, selector: str = "") -> Object:
        """The whole list as the API server has it in its cache: one page."""
        query = {"labelSelector": selector, "resourceVersion": "0"}
        return cast(Object, await self.request("GET", resource.path(namespace), query=query, timeout=60.0))

    async def watch(
        self, resource: Resource, version: str, namespace: str | None = None, selector: str = ""
    ) -> AsyncIterator[tuple[str, Object]]:
        """(type, object) of each change after `version`, until the server ends the watch.

        Raises `ApiError`; status 410 when `version` is too old.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "labelSelector": selector,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_SECONDS,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=WATCH_SECONDS + 30)
        try:
            async with await self._send(
                "GET", resource.path(namespace), query, None, "application/json", timeout
            ) as answer:
                if answer.status != 200:
                    _decoded(answer.status, answer.reason or "", await answer.read())
                async for line in answer.content:
                    event = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        said = event["object"]
                        raise ApiError(said.get("code", 0), said.get("reason", ""), said.get("message", ""))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise ApiError(0, "NoAnswer", f"watch {resource.plural}: {error or type(error).__name__}") from None


def _connection_options(configuration: client.Configuration) -> dict[str, Any]:
    """What each request is given: the name that the server's certificate bears, the proxy on the way."""
    options: dict[str, Any] = {}
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    server = urlsplit(configuration.host)
    proxy = configuration.proxy
    if not proxy and not proxy_bypass(server.netloc):
        proxy = getproxies().get(server.scheme)
    if proxy:
        options |= {"proxy": proxy, "proxy_headers": configuration.proxy_headers}
    return options


def _decoded(status: int, reason: str, data: bytes) -> Any:
    try:
        answer = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError:
        answer = {"message": data[:200].decode("utf-8", "replace")}
    if status >= 400:
        said = answer if isinstance(answer, dict) else {}
        raise ApiError(status, said.get("reason") or reason or "", said.get("message") or "")
    return answer


async def backoff(failures: int) -> None:
    """Wait before the next attempt: 0.2 s, doubled up to 10 s."""
    await asyncio.sleep(min(10.0, 0.2 * 2 ** min(failures, 10)))
