"""A small client of the Kubernetes API: requests and watches with a client certificate, and nothing else.

The cluster must run before anything is installed on it, and its fake cloud should not hold a cache of the whole API. So
this is `http.client` and `ssl`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    """A connection to the API server that a kubeconfig file names. Not for use by several threads at once."""

    def __init__(self, kubeconfig: Path, timeout: float = 10.0) -> None:
        document = _read(kubeconfig)
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self._context = ssl.create_default_context(cadata=_text(cluster["certificate-authority-data"]))
        # Certificates can only be loaded from a file.
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(kubeconfig)) as file:
            file.write(_text(user["client-certificate-data"]) + _text(user["client-key-data"]))
            file.flush()
            self._context.load_cert_chain(file.name)
        server = urllib.parse.urlsplit(cluster["server"])
        self._host, self._port = server.hostname or "", server.port or 443
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)

    def request(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Any:
        """One request; the answer's JSON, or its text. Raises ApiError, OSError and http.client.HTTPException."""
        if self._connection is None:
            self._connection = self._connect(self._timeout)
        try:
            content = None if body is None else json.dumps(body)
            self._connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
            response = self._connection.getresponse()
            text = response.read().decode()
        except BaseException:
            self._connection.close()
            self._connection = None
            raise
        if response.status >= 400:
            raise ApiError(response.status, text.strip()[:500])
        try:
            return json.loads(text)
        except ValueError:
            return text

    def get(self, path: str) -> Any:
        """GET."""
        return self.request("GET", path)

    def find(self, path: str) -> Any:
        """GET, or None where there is no such object."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def apply(self, path: str, body: Object) -> Any:
        """Server-side apply."""
        return self.request("PATCH", f"{path}?fieldManager=e2e-cluster&force=true", body, APPLY)

    def merge(self, path: str, body: Object) -> Any:
        """A JSON merge patch."""
        return self.request("PATCH", path, body, MERGE)

    def watch(self, path: str, version: str, seconds: int = 300) -> Iterator[tuple[str, Object]]:
        """The events (type, object) of a collection after a resource version, for so many seconds at most."""
        connection = self._connect(seconds + 30)
        try:
            query = urllib.parse.urlencode(
                {"watch": "1", "resourceVersion": version, "timeoutSeconds": seconds, "allowWatchBookmarks": "true"}
            )
            connection.request("GET", f"{path}{'&' if '?' in path else '?'}{query}")
            response = connection.getresponse()
            if response.status >= 400:
                raise ApiError(response.status, response.read().decode()[:500])
            for line in response:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(int(event["object"].get("code", 0)), str(event["object"].get("message")))
                yield event["type"], event["object"]
        finally:
            connection.close()


def _read(kubeconfig: Path) -> Object:
    document: Object = json.loads(kubeconfig.read_text())
    return document


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def wait_until(what: str, check: Callable[[], bool], seconds: float, pause: float = 0.25) -> None:
    """Waits until `check` is true; an API server that is away counts as false. Raises TimeoutError naming `what`."""
    until = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < until:
        try:
            if check():
                return
            last = None
        except (ApiError, OSError, http.client.HTTPException) as error:
            last = error
        time.sleep(pause)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s" + (f" (last error: {last})" if last else ""))
