"""What the operator is told by its environment (the chart sets it): images, where to watch, who it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import sipcore


class SettingsError(Exception):
    """A variable of the environment is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """See `charts/sipfleet`."""

    proxy_image: str = "localhost/sipfleet/sipproxy"
    """Repository without tag: `spec.version` is the tag."""
    relay_image: str = "localhost/sipfleet/rtprelay"
    store_image: str = "localhost/sipfleet/store:7.0"
    """With the tag of its Redis: another release of sipfleet restarts no store. Without a tag it has `image_tag`."""
    image_tag: str = sipcore.__version__
    """Tag where `spec.version` is not given."""
    pull_policy: str = "IfNotPresent"
    namespaces: tuple[str, ...] = ()
    """Watched namespaces; none: all."""
    identity: str = ""
    """Who holds the leadership lease."""
    namespace: str = "default"
    """Where the operator itself lives."""
    priority_class: str = ""
    """Of proxies and relays; empty: none."""

    @property
    def store_reference(self) -> str:
        """The store's image with its tag."""
        tagged = {":", "@"} & set(self.store_image.rpartition("/")[2])
        return self.store_image if tagged else f"{self.store_image}:{self.image_tag}"

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises `SettingsError` with the variable, what was given and what is allowed."""
        policy = environ.get("SIPFLEET_IMAGE_PULL_POLICY") or "IfNotPresent"
        allowed = ("Always", "IfNotPresent", "Never")
        if policy not in allowed:
            raise SettingsError(f"SIPFLEET_IMAGE_PULL_POLICY: {policy!r} given, one of {', '.join(allowed)} expected")
        plain = cls()
        return cls(
            proxy_image=environ.get("SIPFLEET_PROXY_IMAGE") or plain.proxy_image,
            relay_image=environ.get("SIPFLEET_RELAY_IMAGE") or plain.relay_image,
            store_image=environ.get("SIPFLEET_STORE_IMAGE") or plain.store_image,
            image_tag=environ.get("SIPFLEET_IMAGE_TAG") or plain.image_tag,
            pull_policy=policy,
            namespaces=tuple(filter(None, environ.get("SIPFLEET_WATCH_NAMESPACES", "").replace(",", " ").split())),
            identity=environ.get("POD_NAME") or socket.gethostname(),
            namespace=environ.get("POD_NAMESPACE") or "default",
            priority_class=environ.get("SIPFLEET_PRIORITY_CLASS", ""),
        )
