"""sipfleet as it is installed for the tests: two charts, one namespace under the restricted profile, two manifests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.harness.kubectl import CommandError, Kubectl, Object, settled

ROOT = Path(__file__).resolve().parents[2]
OPERATOR_NAMESPACE = "sipfleet"
DOMAIN = "example.test"
CLUSTER, POOL = "demo", "demo-media"
OPERATOR = "deployment/sipfleet-operator"
OPERATORS = 2
"""As the chart has it: one of them stands by."""


@dataclass
class Fleet:
    """One SipCluster and one MediaPool in a namespace."""

    kubectl: Kubectl
    helm: str
    callee: tuple[str, int]
    """Where calls go: the static route's target."""
    proxies: int = 2
    relays: int = 2
    version: str = "0.1.0"
    exposure: str = "loadBalancer"
    ports: Object = field(default_factory=lambda: {"mode": "shared", "base": 30000, "count": 4})
    """Of the relays."""
    profile: str = "restricted"
    """The Pod Security profile of the namespace."""
    more: dict[str, Any] = field(default_factory=dict)
    """More fields for `spec` of both kinds."""

    @property
    def system(self) -> Kubectl:
        """The operator's namespace."""
        return self.kubectl.within(OPERATOR_NAMESPACE)

    def install(self, **values: str) -> None:
        """Both charts, as the README says."""
        charts = ROOT / "charts"
        common = ["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"]
        self.kubectl.run([self.helm, "upgrade", "--install", "sipfleet-crds", str(charts / "sipfleet-crds"), *common])
        settings = [word for name, value in values.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
        self.kubectl.run(
            [self.helm, "upgrade", "--install", "sipfleet", str(charts / "sipfleet"), *common, *settings], timeout=240
        )

    def namespace(self) -> None:
        """The namespace of the calls."""
        labels = {"pod-security.kubernetes.io/enforce": self.profile}
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.kubectl.namespace, "labels": labels}}
        )

    def manifests(self) -> list[Object]:
        """What the user applies."""
        common: Object = {"version": self.version, "exposure": {"type": self.exposure}, **self.more}
        target = f"sip:{self.callee[0]}:{self.callee[1]}"
        pool = common | {
            "replicas": self.relays,
            "ports": self.ports,
            "capacity": 100,
        }
        cluster = common | {
            "replicas": self.proxies,
            "domains": [DOMAIN],
            # So long does the test cluster's CoreDNS keep an answer.
            "dns": {"ttl": 5},
            "routing": {"routes": [{"name": "all", "domain": DOMAIN, "targets": [target]}]},
            "mediaPools": [POOL],
        }
        return [_resource("MediaPool", POOL, pool), _resource("SipCluster", CLUSTER, cluster)]

    def apply(self) -> None:
        # What a test added by a patch is no concern of `kubectl apply`, and a count and a rule exclude each other.
        for what, count in ((f"mediapool/{POOL}", self.relays), (f"sipcluster/{CLUSTER}", self.proxies)):
            by_hand = json.dumps({"spec": {"replicas": count, "autoscale": None}})
            self.kubectl.attempt("patch", what, "--type=merge", "-p", by_hand)
        self.kubectl.apply(*self.manifests())

    def until_settled(self, timeout: float = 240.0) -> None:
        """Both kinds are Ready and nothing is under way."""
        deadline = time.monotonic() + timeout
        for what in (f"mediapool/{POOL}", f"sipcluster/{CLUSTER}"):
            self.kubectl.until("settled", settled, max(1.0, deadline - time.monotonic()), what)

    @property
    def address(self) -> str:
        """Where the world sends SIP to: the address that proxies share, else that of the first one."""
        shared = self.kubectl.get(f"sipcluster/{CLUSTER}")["status"].get("address")
        return str(shared or self.kubectl.get(f"pod/{CLUSTER}-0")["status"]["podIP"])

    def pods(self, name: str) -> list[Object]:
        """The pods of a set, by ordinal."""
        found = self.kubectl.items("pods", "-l", f"sipfleet.io/set={name}")
        return sorted(found, key=lambda pod: int(pod["metadata"]["name"].rpartition("-")[2]))

    def status(self, name: str) -> Object:
        kind = "sipcluster" if name == CLUSTER else "mediapool"
        return dict(self.kubectl.get(f"{kind}/{name}").get("status") or {})

    def busiest(self, name: str, calls: int = 0) -> str:
        """The pod that carries most calls, by a status that knows of so many: it is written every 10 s at most."""

        def known(status: Object) -> bool:
            return sum(pod.get("active") or 0 for pod in status.get("pods", [])) >= calls

        pods = self.until(name, f"{calls} calls in the status", known, 30)["status"]["pods"]
        return str(max(pods, key=lambda pod: pod.get("active") or 0)["name"])

    def until(self, name: str, what: str, test: Callable[[Object], bool], timeout: float) -> Object:
        """Wait for a status of a set."""
        kind = "sipcluster" if name == CLUSTER else "mediapool"
        return self.kubectl.until(what, lambda found: test(found.get("status") or {}), timeout, f"{kind}/{name}")

    def cdrs(self) -> Mapping[str, int]:
        """How many CDRs there are for each Call-ID; equal ids count once (the stream is at least once)."""
        ids: dict[str, set[str]] = {}
        for text in self._stream():
            record = json.loads(text)
            ids.setdefault(str(record["call_id"]), set()).add(str(record["id"]))
        return {call_id: len(found) for call_id, found in ids.items()}

    def _stream(self) -> list[str]:
        """The CDR stream, from whichever store pod answers."""
        key = f"sf:{self.kubectl.namespace}/{CLUSTER}:cdr"
        script = f'redis-cli --no-auth-warning -a "$STORE_PASSWORD" --json xrange "{key}" - +'
        errors = []
        for number in range(3):
            pod = f"sipfleet-store-{number}"
            status, text = self.kubectl.attempt("exec", pod, "-c", "redis", "--", "sh", "-c", script, timeout=30)
            if status == 0:
                return [dict(zip(entry[1][::2], entry[1][1::2], strict=True))["cdr"] for entry in json.loads(text)]
            errors.append(f"{pod}: {text.strip()[:200]}")
        raise CommandError(f"no store pod tells the CDRs: {'; '.join(errors)}")


def _resource(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "sipfleet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
