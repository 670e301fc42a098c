"""A node's processes and what they are given: its first process, containerd, kubelet and kube-proxy.

All of a node's processes share a network, a mount, a pid and a uts namespace: they see each other and the node's own
disk, not the other nodes', and all die with the first process, as they do when a machine loses its power.
"""

from __future__ import annotations

import json
from pathlib import Path

from e2e.cluster import binaries, layout
from e2e.cluster.layout import Node
from e2e.cluster.processes import Launch

CNI_PROGRAMS = "/usr/lib/cni"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

PRIVATE_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/etc/cni",
    str(layout.VOLUMES),
)
"""What of a node's file system is on its own disk, and outlives a restart of the node."""

EMPTY_FOLDERS = ("/run/containerd", "/run/netns")
"""What is in memory, and new each time that the node starts."""

KERNEL_SETTINGS = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""What a kubelet sets for the machine. It gets copies to write to, so that the host keeps its own."""


def first_name(node: Node) -> str:
    """The name of the process that a node lives and dies with."""
    return f"{node.name}.first"


def containerd_name(node: Node) -> str:
    """The name of a node's container runtime."""
    return f"{node.name}.containerd"


def kubelet_name(node: Node) -> str:
    """The name of a node's kubelet."""
    return f"{node.name}.kubelet"


def kube_proxy_name(node: Node) -> str:
    """The name of a node's kube-proxy."""
    return f"{node.name}.kube-proxy"


def all_names(node: Node) -> list[str]:
    """The names of a node's processes, the first one last."""
    return [kubelet_name(node), kube_proxy_name(node), containerd_name(node), first_name(node)]


def folder(node: Node) -> Path:
    """Where a node's configuration is, in the host and in the node."""
    return layout.CONFIGURATION / node.name


def first(node: Node) -> Launch:
    """The process that makes a node's namespaces."""
    furniture = {
        "hostname": node.name,
        "tmpfs": EMPTY_FOLDERS,
        "mounts": [[str(node.disk / path.strip("/").replace("/", "-")), path] for path in PRIVATE_FOLDERS],
        "over": [[str(folder(node) / "sysctl" / name), f"/proc/sys/{name}"] for name in KERNEL_SETTINGS],
    }
    return Launch(first_name(node), [], node.name, node=furniture, cgroup=node.cgroup)


def containerd(node: Node) -> Launch:
    """The container runtime."""
    argv = ["containerd", "--config", str(folder(node) / "containerd.toml"), "--log-level", "warn"]
    return Launch(containerd_name(node), argv, node.name, within=first_name(node), cgroup=node.cgroup)


def kubelet(node: Node) -> Launch:
    """The kubelet."""
    argv = [
        str(binaries.KUBERNETES.path),
        "kubelet",
        f"--config={folder(node) / 'kubelet.json'}",
        f"--kubeconfig={layout.PKI / f'{node.name}.kubeconfig'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]
    return Launch(kubelet_name(node), argv, node.name, within=first_name(node), cgroup=node.cgroup)


def kube_proxy(node: Node) -> Launch:
    """What turns Services into packet filters."""
    argv = [str(binaries.KUBERNETES.path), "kube-proxy", f"--config={folder(node) / 'kube-proxy.json'}"]
    return Launch(kube_proxy_name(node), argv, node.name, within=first_name(node), cgroup=node.cgroup)


def write_configuration(node: Node) -> None:
    """Writes all files that a node's processes are given."""
    place = folder(node)
    (place / "cni").mkdir(parents=True)
    (place / "containerd.toml").write_text(containerd_configuration(node))
    (place / "kubelet.json").write_text(json.dumps(kubelet_configuration(node), indent=1))
    (place / "kube-proxy.json").write_text(json.dumps(kube_proxy_configuration(node), indent=1))
    (place / "cni" / "10-pods.conflist").write_text(json.dumps(cni_configuration(node), indent=1))
    # Names outside the cluster are none: what runs here talks to nobody else.
    (place / "resolv.conf").write_text("")
    for name in KERNEL_SETTINGS:
        copy = place / "sysctl" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(Path("/proc/sys", name).read_text())


def containerd_configuration(node: Node) -> str:
    """containerd's settings (version 2 of its format, of containerd 1.6)."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  # Lowering a process's score needs a capability that root in a sandbox may lack.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{folder(node) / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def cni_configuration(node: Node) -> dict[str, object]:
    """A bridge per node. What leaves the cluster is translated by a rule of the node's own, see network.py."""
    bridge = {
        "type": "bridge",
        "bridge": layout.PODS_BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": str(node.pods)}]], "dataDir": "/var/lib/cni/networks"},
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def kubelet_configuration(node: Node) -> dict[str, object]:
    """The kubelet's settings: defaults, but for what one machine with several nodes on control groups v1 demands."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.PKI / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(layout.PKI / f"{node.name}.key"),
        "clusterDNS": [layout.DNS_SERVICE_ADDRESS],
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "resolvConf": str(folder(node) / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        # A kubelet removes the pods' groups that it does not know: each has a tree of its own.
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        # The nodes share one disk and one memory; none may evict pods because the others use them.
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
            "pid.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 100,
        "registerNode": True,
    }


def kube_proxy_configuration(node: Node) -> dict[str, object]:
    """kube-proxy's settings."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(layout.PKI / "proxy.kubeconfig")},
        "hostnameOverride": node.name,
        # By this range it knows a pod's packet: one to a Service's outer address is served from any node.
        "clusterCIDR": str(layout.POD_NETWORK),
        "healthzBindAddress": "0.0.0.0:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The kernel's limit is the whole machine's, not a node's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def node_object(node: Node) -> dict[str, object]:
    """The Node object, made before the kubelet registers: it carries its zone and its pods' range from the start."""
    labels = {
        "topology.kubernetes.io/zone": node.zone,
        "topology.kubernetes.io/region": "test",
        "kubernetes.io/hostname": node.name,
    }
    spec = {"podCIDR": str(node.pods), "podCIDRs": [str(node.pods)]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": labels}, "spec": spec}
