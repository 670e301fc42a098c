"""The cluster's keys: an authority, a certificate for each component, and the kubeconfig files that carry them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster import layout

LIFE = timedelta(days=30)
"""Of all certificates: a test cluster does not live longer."""


@dataclass(frozen=True)
class Identity:
    """A key and the certificate over it, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, name: str) -> tuple[Path, Path]:
        """Writes both under `layout.PKI` and returns where (certificate, key)."""
        paths = (layout.PKI / f"{name}.crt", layout.PKI / f"{name}.key")
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            write_private(path, content)
        return paths


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_key_pair() -> tuple[bytes, bytes]:
    """A private and a public key as PEM: with these, tokens of service accounts are signed and checked."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _pem(key), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Authority:
    """A certificate authority whose key lives as long as this object."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
        builder = self._builder(self._subject, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.identity = Identity(self._sign(builder.add_extension(usage, critical=True)), _pem(self._key))

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._subject, subject, public, x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + LIFE)

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, user: str, groups: Sequence[str] = (), names: Sequence[str] = ()) -> Identity:
        """A certificate for a user of the API in its groups, and for a server where it has names (or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        builder = self._builder(x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, user)]), key.public_key())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if names:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return Identity(self._sign(builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)), _pem(key))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def kubeconfig(authority: bytes, identity: Identity, server: str = layout.API_URL) -> bytes:
    """A kubeconfig file (JSON is YAML) that carries an identity."""

    def data(content: bytes) -> str:
        return base64.b64encode(content).decode()

    user = {"client-certificate-data": data(identity.certificate), "client-key-data": data(identity.key)}
    cluster = {"server": server, "certificate-authority-data": data(authority)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": layout.NAME, "cluster": cluster}],
        "users": [{"name": layout.NAME, "user": user}],
        "contexts": [{"name": layout.NAME, "context": {"cluster": layout.NAME, "user": layout.NAME}}],
        "current-context": layout.NAME,
    }
    return json.dumps(document, indent=1).encode()


def make(all_nodes: Sequence[layout.Node]) -> None:
    """Makes all keys and kubeconfig files of a new cluster."""
    layout.PKI.mkdir(mode=0o700, parents=True)
    authority = Authority("sipfleet-e2e")
    authority.identity.write("ca")
    server_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
        "localhost",
        "127.0.0.1",
        layout.CONTROL_ADDRESS,
        layout.CONTROL_HOST_ADDRESS,
        layout.KUBERNETES_SERVICE_ADDRESS,
    ]
    authority.issue("kube-apiserver", names=server_names).write("apiserver")
    # What comes through an aggregated API is vouched for by an authority of its own.
    front = Authority("sipfleet-e2e-front-proxy")
    front.identity.write("front-proxy-ca")
    front.issue("front-proxy-client").write("front-proxy-client")
    authority.issue("kube-apiserver-kubelet-client", ["system:masters"]).write("apiserver-kubelet-client")
    private, public = new_key_pair()
    write_private(layout.PKI / "service-accounts.key", private)
    write_private(layout.PKI / "service-accounts.pub", public)

    users = {
        "admin": ("kubernetes-admin", ["system:masters"]),
        "controller-manager": ("system:kube-controller-manager", []),
        "scheduler": ("system:kube-scheduler", []),
        "proxy": ("system:kube-proxy", []),
        "dns": ("system:dns", []),
        "cloud": ("system:cloud", []),
    }
    for name, (user, groups) in users.items():
        write_kubeconfig(name, authority.identity.certificate, authority.issue(user, groups))
    for node in all_nodes:
        identity = authority.issue(f"system:node:{node.name}", ["system:nodes"], [node.name, node.address])
        identity.write(node.name)
        write_kubeconfig(node.name, authority.identity.certificate, identity)
    write_private(layout.KUBECONFIG, (layout.PKI / "admin.kubeconfig").read_bytes())


def write_kubeconfig(name: str, authority: bytes, identity: Identity) -> None:
    """Writes the kubeconfig file of a component."""
    write_private(layout.PKI / f"{name}.kubeconfig", kubeconfig(authority, identity))
