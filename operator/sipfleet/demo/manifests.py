"""The manifests of the demo, small enough that every relay carries calls (new sessions go to the lowest with room)."""

from __future__ import annotations

from dataclasses import dataclass

CLUSTER, POOL = "demo", "media"
DOMAIN = "demo.example"

_TEMPLATE = """\
apiVersion: sipfleet.io/v1alpha1
kind: SipCluster
metadata: {{name: {cluster}}}
spec:
  replicas: {proxies}
  domains: [{domain}]
  exposure: {{type: virtualIP, address: {address}}}
  routing:
    routes:
      - {{name: all, domain: {domain}, targets: ["sip:{callee}"]}}
  mediaPools: [{pool}]
{version}---
apiVersion: sipfleet.io/v1alpha1
kind: MediaPool
metadata: {{name: {pool}}}
spec:
  replicas: {relays}
  capacity: {capacity}
  ports: {{mode: {mode}, {ports}}}
  rollout: {{surge: 2}}
{version}"""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What is applied."""

    network: str
    """First three octets of the loopback addresses."""
    version: str | None = None
    """The release that all pods run; None is the one that the command itself is of."""
    capacity: int = 50
    """Sessions per relay."""
    proxies: int = 2
    relays: int = 2
    shared_ports: bool = False

    @property
    def address(self) -> str:
        """The cluster's SIP address."""
        return f"{self.network}.1"

    @property
    def callee(self) -> tuple[str, int]:
        """Where the generator's own callee listens."""
        return f"{self.network}.4", 5080

    def text(self) -> str:
        """Both manifests as YAML."""
        shared = "base: 20000, count: 8" if self.shared_ports else "min: 20000, max: 20999"
        return _TEMPLATE.format(
            cluster=CLUSTER,
            pool=POOL,
            domain=DOMAIN,
            address=self.address,
            callee=f"{self.callee[0]}:{self.callee[1]}",
            proxies=self.proxies,
            relays=self.relays,
            capacity=self.capacity,
            mode="shared" if self.shared_ports else "range",
            ports=shared,
            version="" if self.version is None else f"  version: {self.version}\n",
        )
