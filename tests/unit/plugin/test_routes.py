"""Where a SipCluster sends a call, as `kubectl sipfleet call` reads it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sipcore.config import Listener, ProxyConfig, Route
from sipfleet.plugin.call import address_of
from sipfleet.plugin.routes import objection, route_for, routes_of, target_through
from sipproxy.core.routing import Refusal, Router

HERE = ("192.0.2.7", 7070)
DOMAINS = ["example.test", "other.test"]


def cluster(*routes: dict[str, Any], **status: Any) -> dict[str, Any]:
    spec = {"domains": DOMAINS, "routing": {"routes": list(routes)}, "listeners": [{"name": "udp", "port": 5080}]}
    return {"metadata": {"name": "demo", "namespace": "voip"}, "spec": spec, "status": status}


def route(name: str, *targets: str, **more: str) -> dict[str, Any]:
    return {"name": name, "targets": list(targets), **more}


TRUNK = route("trunk", "sip:198.51.100.10")
TESTS = route("tests", "sip:192.0.2.7:7070", prefix="test-")


def test_a_target_is_made_of_the_route_that_names_the_callee() -> None:
    found = routes_of(cluster(TRUNK, TESTS))
    assert target_through(found, DOMAINS, HERE) == "sip:test-test@example.test"
    assert target_through(found, DOMAINS, ("192.0.2.8", 7070)) is None


def test_the_domain_of_the_route_is_called() -> None:
    found = routes_of(cluster({**TESTS, "domain": "other.test"}))
    assert target_through(found, DOMAINS, HERE) == "sip:test-test@other.test"


def test_a_route_that_another_one_hides_is_not_taken() -> None:
    hidden = route("hidden", "sip:192.0.2.7:7070")
    every = [route("one", "sip:198.51.100.10", domain=domain) for domain in DOMAINS]
    assert target_through(routes_of(cluster(*every, hidden)), DOMAINS, HERE) is None


def test_what_reaches_the_callee_is_not_objected_to() -> None:
    assert objection(cluster(TRUNK, TESTS), "sip:test-1@example.test", HERE) is None


def test_a_call_that_goes_elsewhere_names_the_route_and_how_to_add_one() -> None:
    text = objection(cluster(TRUNK, TESTS), "sip:1@example.test", HERE)
    assert text is not None
    assert text.startswith("route trunk sends sip:1@example.test to 198.51.100.10:5060, and not to our callee at")
    assert "kubectl -n voip patch sipcluster demo --type=json -p " in text
    assert '"path":"/spec/routing/routes/-"' in text


def test_the_callee_must_be_tried_first() -> None:
    second = route("both", "sip:198.51.100.10", "sip:192.0.2.7:7070")
    text = objection(cluster(second), "sip:1@example.test", HERE)
    assert text is not None
    assert "to 198.51.100.10:5060, then 192.0.2.7:7070" in text


def test_without_any_route_the_whole_field_is_added() -> None:
    text = objection(cluster(), "sip:1@example.test", HERE)
    assert text is not None
    assert "no route fits sip:1@example.test" in text
    assert '"path":"/spec/routing","value":{"routes":[' in text


def test_a_domain_that_is_not_served_is_told() -> None:
    text = objection(cluster(TESTS), "sip:1@elsewhere.test", HERE)
    assert text == "sip:1@elsewhere.test: the SipCluster does not serve elsewhere.test, but example.test, other.test"


def test_where_to_call() -> None:
    assert address_of(cluster(address="203.0.113.9")) == ("203.0.113.9", 5080)
    pods = [{"phase": "Starting", "address": "10.0.0.1"}, {"phase": "Serving", "address": "10.0.0.2"}]
    assert address_of(cluster(pods=pods)) == ("10.0.0.2", 5080)


USERS = st.text("01", max_size=4)
ROUTES = st.lists(st.tuples(st.sampled_from(["", *DOMAINS]), st.text("01", max_size=3)), max_size=6, unique=True)


@given(ROUTES, USERS, st.sampled_from(DOMAINS))
def test_a_route_is_chosen_as_the_proxy_chooses_it(rows: list[tuple[str, str]], user: str, domain: str) -> None:
    targets = [f"sip:192.0.2.{n + 1}:5060" for n in range(len(rows))]
    config = ProxyConfig(
        listeners=[Listener(address="127.0.0.1")],
        domains=DOMAINS,
        routes=[Route(domain=d, prefix=p, targets=[t]) for (d, p), t in zip(rows, targets, strict=True)],
    )
    taken = Router(config, frozenset()).targets(f"sip:{user}@{domain}".encode() if user else f"sip:{domain}".encode())
    manifest = cluster(
        *(route(f"r{n}", t, domain=d, prefix=p) for n, ((d, p), t) in enumerate(zip(rows, targets, strict=True)))
    )
    found = route_for(routes_of(manifest), user, domain)
    assert (None if isinstance(taken, Refusal) else taken[0].address) == (found.targets[0] if found else None)
