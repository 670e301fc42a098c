"""The control plane's processes: etcd, API server, controller manager, scheduler, DNS. What each is given, and why."""

from __future__ import annotations

import json
from collections.abc import Callable

from e2e.cluster import binaries, layout
from e2e.cluster.processes import Launch

ETCD = "control.etcd"
API_SERVER = "control.apiserver"
CONTROLLER_MANAGER = "control.controller-manager"
SCHEDULER = "control.scheduler"
DNS = "control.dns"

ETCD_URL = "http://127.0.0.1:2379"


def _flags(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _kube(component: str, options: dict[str, object]) -> list[str]:
    return [str(binaries.KUBERNETES.path), component, *_flags(options)]


def etcd() -> Launch:
    """The store. Nothing survives the cluster, so nothing is forced to disk."""
    options: dict[str, object] = {
        "name": "control",
        "data-dir": layout.DATA / "etcd",
        "listen-client-urls": ETCD_URL,
        "advertise-client-urls": ETCD_URL,
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": "control=http://127.0.0.1:2380",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    return Launch(ETCD, [str(binaries.ETCD.path), *_flags(options)], "control")


def api_server() -> Launch:
    """The API server, with the authorizers and admission plugins that clusters have by default."""
    pki = layout.PKI
    options: dict[str, object] = {
        "etcd-servers": ETCD_URL,
        "bind-address": "0.0.0.0",
        "advertise-address": layout.CONTROL_ADDRESS,
        "secure-port": layout.API_PORT,
        "service-cluster-ip-range": layout.SERVICE_NETWORK,
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        # Webhooks are reached at their pods: no kube-proxy runs beside the control plane.
        "enable-aggregator-routing": "true",
        "service-account-issuer": f"https://kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
        "service-account-key-file": pki / "service-accounts.pub",
        "service-account-signing-key-file": pki / "service-accounts.key",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "profiling": "false",
        "audit-policy-file": layout.CONFIGURATION / "audit.json",
        "audit-log-path": layout.LOGS / "audit.log",
        "audit-log-maxsize": 50,
        "audit-log-maxbackup": 1,
    }
    return Launch(API_SERVER, _kube("kube-apiserver", options), "control")


def controller_manager() -> Launch:
    """The controllers, with their default delays: what a dead node costs here it costs elsewhere."""
    options: dict[str, object] = {
        "kubeconfig": layout.PKI / "controller-manager.kubeconfig",
        "authentication-kubeconfig": layout.PKI / "controller-manager.kubeconfig",
        "authorization-kubeconfig": layout.PKI / "controller-manager.kubeconfig",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "use-service-account-credentials": "true",
        "service-account-private-key-file": layout.PKI / "service-accounts.key",
        "root-ca-file": layout.PKI / "ca.crt",
        "cluster-signing-cert-file": layout.PKI / "ca.crt",
        "cluster-signing-key-file": layout.PKI / "ca.key",
        # Each node's range stands in its Node object from the start.
        "allocate-node-cidrs": "false",
        "profiling": "false",
    }
    return Launch(CONTROLLER_MANAGER, _kube("kube-controller-manager", options), "control")


def scheduler() -> Launch:
    """The scheduler."""
    options: dict[str, object] = {
        "kubeconfig": layout.PKI / "scheduler.kubeconfig",
        "authentication-kubeconfig": layout.PKI / "scheduler.kubeconfig",
        "authorization-kubeconfig": layout.PKI / "scheduler.kubeconfig",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "profiling": "false",
    }
    return Launch(SCHEDULER, _kube("kube-scheduler", options), "control")


def dns() -> Launch:
    """The cluster's DNS. It runs beside the control plane: a test that kills a node does not also kill names."""
    return Launch(DNS, [str(binaries.COREDNS.path), "-conf", str(layout.CONFIGURATION / "Corefile")], "control")


ALL: tuple[Callable[[], Launch], ...] = (etcd, api_server, controller_manager, scheduler, dns)


def corefile() -> str:
    """CoreDNS's configuration: the cluster's names as kubeadm has them; there are no others."""
    return f"""{layout.CLUSTER_DOMAIN}:{layout.DNS_PORT} in-addr.arpa:{layout.DNS_PORT} {{
    bind {layout.CONTROL_ADDRESS}
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes {layout.CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {layout.PKI / "dns.kubeconfig"}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}

.:{layout.DNS_PORT} {{
    bind {layout.CONTROL_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def audit_policy() -> str:
    """Who did what: writes, and what was refused, of service accounts outside kube-system and of people."""
    rules: list[dict[str, object]] = [
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "None", "users": ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata", "omitStages": ["RequestReceived"]},
    ]
    return json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})
