"""docs/dns.md is executed: its Secret is a key, its manifest is one, and the zone then says what the page shows."""

from __future__ import annotations

import asyncio
import base64

import yaml

from sipfleet.api import validated
from sipfleet.dns import Tsig, publish
from sipfleet.plan import SrvRecord
from tests.integration.peers.nameserver import NameServer, block


def test_the_manifest_of_the_page_publishes_the_records_of_the_page(primary: NameServer) -> None:
    secret, manifest = yaml.safe_load_all(block("apiVersion: v1"))
    key = Tsig.of_secret(
        {name: base64.b64encode(text.encode()).decode() for name, text in secret["stringData"].items()}
    )
    assert manifest["spec"]["dns"]["rfc2136"]["tsigSecretRef"]["name"] == secret["metadata"]["name"]
    manifest["spec"]["dns"]["rfc2136"] |= {"server": primary.address, "port": primary.port}
    manifest["metadata"]["uid"] = "6f0c1a52-0000-4000-8000-000000000001"
    cluster = validated(manifest)
    ttl = cluster.spec.dns.ttl
    records = tuple(
        SrvRecord("_sip._udp.example.test.", f"demo-{pod}.example.test.", 5060, f"192.0.2.1{pod}", 0, weight, ttl)
        for pod, weight in enumerate((100, 50))
    )
    done = asyncio.run(publish(cluster, records, key))
    assert (done.records, done.problems) == (records, ())
    shown = {" ".join(line.split()) for line in block("example.test.            30 NAPTR").splitlines()}
    assert len(shown) == 5
    assert shown <= primary.records()
    (mark,) = block("_sipfleet.demo-0").splitlines()
    assert any(line.startswith(mark.partition("-...")[0]) for line in primary.records())
