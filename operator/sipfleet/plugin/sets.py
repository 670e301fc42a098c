"""SipClusters and MediaPools as the API server has them: which are meant by a name on the command line."""

from __future__ import annotations

from sipfleet.kubernetes.client import MEDIAPOOLS, SETS, SIPCLUSTERS, ApiError, Object

from .connection import Connection
from .errors import PluginError

_ALIASES = {
    "sipcluster": "SipCluster",
    "sipclusters": "SipCluster",
    "mediapool": "MediaPool",
    "mediapools": "MediaPool",
}


def parsed(name: str) -> tuple[tuple[str, ...], str]:
    """`demo` or `sipcluster/demo` -> (kinds, name).

    Raises `PluginError` for a kind that is not ours.
    """
    kind, slash, rest = name.rpartition("/")
    if not slash:
        return tuple(SETS), name
    if kind.lower() not in _ALIASES:
        raise PluginError(f"{name}: kind {kind!r} given, sipcluster or mediapool expected")
    return (_ALIASES[kind.lower()],), rest


async def every(to: Connection, namespace: str | None) -> list[Object]:
    """All SipClusters, then all MediaPools, of one namespace or (None) of all.

    Raises `PluginError` where the kinds are not installed, `ApiError`.
    """
    found: list[Object] = []
    for kind, resource in (("SipCluster", SIPCLUSTERS), ("MediaPool", MEDIAPOOLS)):
        try:
            answer = await to.api.list(resource, namespace)
        except ApiError as error:
            if error.status == 404:
                text = "the API server knows no SipClusters: install the chart sipfleet-crds, then the chart sipfleet"
                raise PluginError(text) from None
            raise
        found += [{"apiVersion": answer["apiVersion"], "kind": kind, **item} for item in answer["items"]]
    return found


async def named(to: Connection, name: str) -> list[Object]:
    """Those of the namespace that a name means: one, or one of each kind.

    Raises `PluginError` when there is none, `ApiError`.
    """
    kinds, rest = parsed(name)
    every_one = await every(to, to.namespace)
    found = [one for one in every_one if one["metadata"]["name"] == rest and one["kind"] in kinds]
    if not found:
        there = ", ".join(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in every_one) or "none"
        raise PluginError(f"{name}: there is no such one in namespace {to.namespace}; there: {there}")
    return found


async def cluster(to: Connection, name: str | None) -> Object:
    """The SipCluster of that name; without a name the only one.

    Raises `PluginError` when there is none, or several, `ApiError`.
    """
    if name is not None:
        kinds, rest = parsed(name)
        if "SipCluster" not in kinds:
            raise PluginError(f"{name}: a SipCluster is expected")
        return (await named(to, f"sipcluster/{rest}"))[0]
    found = [one for one in await every(to, to.namespace) if one["kind"] == "SipCluster"]
    if len(found) != 1:
        names = ", ".join(one["metadata"]["name"] for one in found)
        why = f"there are {len(found)}: {names}; name one" if found else "there is none"
        raise PluginError(f"a SipCluster in namespace {to.namespace} is meant, and {why}")
    return found[0]
