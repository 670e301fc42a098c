"""The objects that a bare cluster lacks and that installers make: permissions, the DNS Service, local volumes."""

from __future__ import annotations

from collections.abc import Iterable

from e2e.cluster import layout
from e2e.cluster.api import Object
from e2e.cluster.layout import Node

RBAC = "/apis/rbac.authorization.k8s.io/v1"


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def _role(name: str, rules: list[Object]) -> list[tuple[str, Object]]:
    """A cluster role and its binding to the user of the same name."""
    kind = "rbac.authorization.k8s.io/v1"
    role = {"apiVersion": kind, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": kind,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }
    return [(f"{RBAC}/clusterroles/{name}", role), (f"{RBAC}/clusterrolebindings/{name}", binding)]


def permissions() -> list[tuple[str, Object]]:
    """What the DNS and the fake cloud may do."""
    read = ["list", "watch"]
    dns = [
        _rule([""], ["services", "pods", "namespaces"], read),
        _rule(["discovery.k8s.io"], ["endpointslices"], read),
    ]
    cloud = [
        _rule([""], ["services", "nodes"], ["get", *read]),
        _rule([""], ["services/status"], ["patch"]),
        _rule([""], ["persistentvolumes"], ["get", "patch", *read]),
    ]
    return [*_role("system:dns", dns), *_role("system:cloud", cloud)]


def dns_service() -> list[tuple[str, Object]]:
    """The DNS by the name and address that pods expect; its process is no pod, so its endpoint is written down."""
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": layout.DNS_SERVICE_ADDRESS, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": layout.NAME},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [layout.CONTROL_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": port["name"], "port": layout.DNS_PORT, "protocol": port["protocol"]} for port in ports],
    }
    return [
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", endpoints),
    ]


def storage(all_nodes: Iterable[Node]) -> list[tuple[str, Object]]:
    """A default storage class of volumes made ahead: folders on the nodes."""
    made: list[tuple[str, Object]] = [
        (
            f"/apis/storage.k8s.io/v1/storageclasses/{layout.STORAGE_CLASS}",
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": layout.STORAGE_CLASS,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": "kubernetes.io/no-provisioner",
                # A volume is on one node: the pod is placed first.
                "volumeBindingMode": "WaitForFirstConsumer",
            },
        )
    ]
    for node in all_nodes:
        made += [_volume(node, number) for number in range(1, layout.VOLUMES_PER_NODE + 1)]
    return made


def _volume(node: Node, number: int) -> tuple[str, Object]:
    name = f"{node.name}-{number}"
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": layout.STORAGE_CLASS,
            "local": {"path": str(layout.VOLUMES / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
    return f"/api/v1/persistentvolumes/{name}", volume
