"""Which cluster and which namespace: as kubectl finds them, from KUBECONFIG, `--context` and `-n`."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .errors import PluginError

if TYPE_CHECKING:
    from sipfleet.kubernetes.client import Api

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Where:
    """What the command line says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    def flags(self) -> list[str]:
        """The same for kubectl itself, but for the namespace."""
        given = (("--context", self.context), ("--kubeconfig", self.kubeconfig))
        return [f"{flag}={value}" for flag, value in given if value]


class Connection(NamedTuple):
    """A cluster that can be asked."""

    api: Api
    namespace: str


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of kubectl that every command here has; the command gets them as `where`."""

    @click.option("-n", "--namespace", metavar="NAME", help="Namespace [default: that of the context].")
    @click.option("--context", metavar="NAME", help="Context of the kubeconfig [default: the current one].")
    @click.option("--kubeconfig", metavar="FILE", help="[default: what KUBECONFIG names, else ~/.kube/config]")
    @functools.wraps(command)
    def with_where(namespace: str | None, context: str | None, kubeconfig: str | None, **rest: Any) -> Any:
        return command(where=Where(namespace, context, kubeconfig), **rest)

    return with_where


@asynccontextmanager
async def connect(where: Where) -> AsyncIterator[Connection]:
    """Raises `PluginError` when nothing says where a cluster is."""
    from kubernetes.aio import client, config

    from sipfleet.kubernetes.client import Api

    configuration = client.Configuration()
    try:
        loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=where.kubeconfig,
            context=where.context,
            client_configuration=configuration,
            persist_config=False,
        )
        own = loader.current_context["context"].get("namespace")
    except (config.ConfigException, OSError) as error:
        if where.context or where.kubeconfig:
            raise PluginError(f"no cluster: {error}") from None
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            own = _POD_NAMESPACE.read_text().strip()
        except (config.ConfigException, OSError):
            raise PluginError(f"no cluster: KUBECONFIG gives none ({error}), and this is no pod") from None
    api = Api(client.ApiClient(configuration))
    try:
        yield Connection(api, where.namespace or own or "default")
    finally:
        await api.close()
