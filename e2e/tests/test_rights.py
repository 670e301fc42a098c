"""The operator can do what it must and nothing else; what is secret is nowhere but in Secrets."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from e2e.harness.fleet import OPERATOR_NAMESPACE, Fleet
from e2e.harness.kubectl import Kubectl
from sipfleet.plugin.inside import SELECTOR

ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:sipfleet-operator"

FORBIDDEN = [
    ("list", "secrets", "voip"),
    ("watch", "secrets", "voip"),
    ("create", "pods/exec", "voip"),
    ("create", "deployments.apps", "voip"),
    ("delete", "deployments.apps", OPERATOR_NAMESPACE),
    ("create", "daemonsets.apps", "voip"),
    ("patch", "nodes", ""),
    ("delete", "nodes", ""),
    ("delete", "namespaces", ""),
    ("create", "clusterroles.rbac.authorization.k8s.io", ""),
    ("create", "rolebindings.rbac.authorization.k8s.io", "voip"),
    ("impersonate", "users", ""),
    ("create", "serviceaccounts/token", "voip"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io", ""),
    ("create", "jobs.batch", "voip"),
    ("create", "validatingwebhookconfigurations.admissionregistration.k8s.io", ""),
    ("delete", "persistentvolumes", ""),
]


@pytest.mark.smoke
def test_the_service_account_can_do_nothing_outside_what_it_manages(installed: Fleet, kubectl: Kubectl) -> None:
    granted = []
    for verb, resource, namespace in FORBIDDEN:
        scope = ["-n", namespace] if namespace else ["--all-namespaces"]
        # With a slash it would be the name of an object.
        kind, _, part = resource.partition("/")
        asked = [kind, f"--subresource={part}"] if part else [kind]
        status, text = kubectl.attempt("auth", "can-i", verb, *asked, "--as", ACCOUNT, *scope)
        if status == 0 or text.strip().startswith("yes"):
            granted.append(f"{verb} {resource} in {namespace or 'the cluster'}")
    assert not granted


@pytest.mark.smoke
def test_it_really_is_refused(installed: Fleet, kubectl: Kubectl) -> None:
    status, text = kubectl.attempt("get", "secrets", "--as", ACCOUNT)
    assert status != 0
    assert "forbidden" in text.lower()
    for words in (
        ("create", "configmap", "x", "-n", "kube-system"),
        ("delete", "service", "kubernetes", "-n", "default"),
        ("label", "configmap", "kube-root-ca.crt", "x=y", "-n", "default"),
    ):
        status, text = kubectl.attempt(*words, "--as", ACCOUNT)
        assert status != 0, words
        assert "changes only what it made" in text, text
    status, text = kubectl.attempt("label", "node", "--all", "x=y", "--as", ACCOUNT)
    assert status != 0
    assert "forbidden" in text.lower()


@pytest.mark.smoke
def test_no_secret_is_in_a_config_map_an_event_or_a_log(fleet: Fleet, kubectl: Kubectl) -> None:
    secrets = [
        b64decode(value).decode().strip()
        for one in kubectl.items("secrets")
        for value in (one.get("data") or {}).values()
    ]
    assert len(secrets) >= 2, "the store's password and the cluster key are expected"
    told = [json.dumps(kubectl.items(kind)) for kind in ("configmaps", "events", "sipclusters", "mediapools", "pods")]
    pods = [pod["metadata"]["name"] for pod in kubectl.items("pods")]
    told += [kubectl("logs", pod, "--all-containers", "--tail=-1") for pod in pods]
    told.append(fleet.system("logs", "-l", SELECTOR, "--tail=-1"))
    for secret in secrets:
        assert not any(secret in text for text in told)
