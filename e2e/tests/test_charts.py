"""What the charts make, by Helm itself, for several sets of values; no cluster is needed for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.binaries import HELM
from sipfleet.kubernetes.leader import NAME as LEASE

ROOT = Path(__file__).resolve().parents[2]
OPERATOR, CRDS = ROOT / "charts/sipfleet", ROOT / "charts/sipfleet-crds"

Object = dict[str, Any]


class Helm:
    """Helm with a home of its own."""

    def __init__(self, home: Path) -> None:
        self._environment = os.environ | {f"HELM_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment.pop("KUBECONFIG", None)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert HELM.path.exists(), "helm is not built: python -m e2e.cluster.binaries"
        return subprocess.run(
            [str(HELM.path), *arguments], capture_output=True, text=True, check=False, env=self._environment
        )

    def objects(self, chart: Path, *arguments: str) -> list[Object]:
        """What a release called `fleet` in the namespace `voip` is made of."""
        done = self.run("template", "fleet", str(chart), "--namespace", "voip", *arguments)
        assert done.returncode == 0, done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    def refusal(self, chart: Path, *arguments: str) -> str:
        """What Helm says to values that the schema forbids."""
        done = self.run("template", "fleet", str(chart), *arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def kinds(objects: list[Object]) -> list[str]:
    return sorted(each["kind"] for each in objects)


def pod(objects: list[Object]) -> Object:
    spec: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def environment(objects: list[Object]) -> dict[str, str]:
    (container,) = pod(objects)["containers"]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def allowed(role: Object) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of each thing that a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def only_reads(role: Object) -> bool:
    return {verb for _, _, verb in allowed(role)} <= {"get", "list", "watch"}


@pytest.mark.parametrize("chart", [OPERATOR, CRDS], ids=lambda path: path.name)
def test_lint_finds_nothing(helm: Helm, chart: Path) -> None:
    done = helm.run("lint", "--strict", str(chart))
    assert done.returncode == 0, done.stdout + done.stderr


# --- the operator --------------------------------------------------------------------------------------------------


def test_the_default_watches_all_namespaces(helm: Helm) -> None:
    objects = helm.objects(OPERATOR)
    role = one(objects, "ClusterRole", "fleet-operator-voip")
    assert ("apps", "statefulsets", "create") in allowed(role)
    assert ("", "namespaces", "watch") in allowed(role)
    assert [each["metadata"]["namespace"] for each in objects if each["kind"] == "Role"] == ["voip"]
    assert environment(objects)["SIPFLEET_WATCH_NAMESPACES"] == ""


def test_listed_namespaces_alone_can_be_written_to(helm: Helm) -> None:
    objects = helm.objects(OPERATOR, "--set", "watchNamespaces={blue,green}")
    assert only_reads(one(objects, "ClusterRole", "fleet-operator-voip"))
    roles = {each["metadata"]["namespace"]: each for each in objects if each["kind"] == "Role"}
    assert roles.keys() == {"blue", "green", "voip"}
    assert ("apps", "statefulsets", "create") in allowed(roles["blue"])
    assert allowed(roles["blue"]) == allowed(roles["green"])
    assert {resource for _, resource, _ in allowed(roles["voip"])} == {"leases"}
    bound = {each["metadata"]["namespace"] for each in objects if each["kind"] == "RoleBinding"}
    assert bound == roles.keys()
    assert environment(objects)["SIPFLEET_WATCH_NAMESPACES"] == "blue,green"


def test_all_bindings_are_for_the_operator_s_own_account(helm: Helm) -> None:
    objects = helm.objects(OPERATOR, "--set", "watchNamespaces={blue}", "--set", "serviceAccount.name=somebody")
    account = one(objects, "ServiceAccount")["metadata"]
    assert (account["name"], account["namespace"]) == ("somebody", "voip")
    assert pod(objects)["serviceAccountName"] == "somebody"
    for binding in (each for each in objects if each["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "somebody", "namespace": "voip"}]


@pytest.mark.parametrize("arguments", [(), ("--set", "watchNamespaces={blue}")], ids=["all", "listed"])
def test_no_right_is_more_than_what_the_operator_does(helm: Helm, arguments: tuple[str, ...]) -> None:
    roles = [
        each
        for each in helm.objects(OPERATOR, *arguments, "--set", "rbac.aggregate=false")
        if each["kind"] in ("Role", "ClusterRole")
    ]
    rights = set().union(*(allowed(role) for role in roles))
    assert not [right for right in rights if "*" in right]
    assert {verb for _, resource, verb in rights if resource == "secrets"} == {"get", "create", "patch", "delete"}
    for resource in ("nodes", "namespaces", "customresourcedefinitions"):
        assert {verb for _, name, verb in rights if name == resource} <= {"get", "list", "watch"}
    assert not [right for right in rights if right[0] == "rbac.authorization.k8s.io" or "/exec" in right[1]]
    # A manifest belongs to its user: the operator adds finalizers, and writes status.
    assert {verb for _, name, verb in rights if name == "sipclusters"} == {"get", "list", "watch", "patch"}


def test_the_lease_of_leadership_goes_with_the_release(helm: Helm) -> None:
    objects = helm.objects(OPERATOR)
    lease = one(objects, "Lease")
    assert (lease["metadata"]["name"], lease["metadata"]["namespace"]) == (LEASE, "voip")
    assert "spec" not in lease
    (by_name, by_kind) = one(objects, "Role", "fleet-operator")["rules"]
    assert (by_name["resourceNames"], by_name["verbs"]) == ([LEASE], ["get", "patch"])
    assert by_kind["verbs"] == ["create"]


def test_what_the_operator_changes_is_checked_for_its_account_and_no_other(helm: Helm) -> None:
    policy = one(helm.objects(OPERATOR), "ValidatingAdmissionPolicy")
    (condition,) = policy["spec"]["matchConditions"]
    assert "system:serviceaccount:voip:fleet-operator" in condition["expression"]


def test_the_pod_fits_the_restricted_profile(helm: Helm) -> None:
    spec = pod(helm.objects(OPERATOR))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all("hostPath" not in volume for volume in spec.get("volumes", ()))


def test_the_pod_asks_for_cpu_and_is_not_limited_in_it(helm: Helm) -> None:
    (container,) = pod(helm.objects(OPERATOR))["containers"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}


def test_images_come_from_the_registry_that_is_given(helm: Helm) -> None:
    objects = helm.objects(OPERATOR, "--set", "images.registry=registry.example:5000", "--set", "images.tag=1.2.3")
    (container,) = pod(objects)["containers"]
    assert container["image"] == "registry.example:5000/sipfleet/operator:1.2.3"
    told = environment(objects)
    assert told["SIPFLEET_PROXY_IMAGE"] == "registry.example:5000/sipfleet/sipproxy"
    assert told["SIPFLEET_RELAY_IMAGE"] == "registry.example:5000/sipfleet/rtprelay"
    # Another version of sipfleet is not another version of Redis.
    assert told["SIPFLEET_STORE_IMAGE"] == "registry.example:5000/sipfleet/store:7.0"
    assert told["SIPFLEET_IMAGE_TAG"] == "1.2.3"


def test_without_a_tag_images_have_the_version_of_the_chart(helm: Helm) -> None:
    version = yaml.safe_load((OPERATOR / "Chart.yaml").read_text())["appVersion"]
    objects = helm.objects(OPERATOR)
    (container,) = pod(objects)["containers"]
    assert container["image"] == f"localhost/sipfleet/operator:{version}"
    assert environment(objects)["SIPFLEET_IMAGE_TAG"] == version


def test_a_store_of_another_registry_has_a_tag_of_its_own(helm: Helm) -> None:
    store = "images.store={registry: registry.example, repository: library/redis, tag: '7.4'}"
    assert helm.refusal(OPERATOR, "--set-json", store)
    store = 'images.store={"registry": "registry.example", "repository": "library/redis", "tag": "7.4"}'
    told = environment(helm.objects(OPERATOR, "--set-json", store))
    assert told["SIPFLEET_STORE_IMAGE"] == "registry.example/library/redis:7.4"


def test_two_operators_stand_on_different_nodes_behind_a_budget(helm: Helm) -> None:
    alone, pair = helm.objects(OPERATOR, "--set", "replicas=1"), helm.objects(OPERATOR)
    assert "PodDisruptionBudget" not in kinds(alone)
    assert "affinity" not in pod(alone)
    budget = one(pair, "PodDisruptionBudget")["spec"]
    labels = one(pair, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert pod(pair)["affinity"]["podAntiAffinity"]


def test_the_probes_ask_a_port_that_the_pod_has(helm: Helm) -> None:
    (container,) = pod(helm.objects(OPERATOR))["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/healthz"
        assert ports[container[probe]["httpGet"]["port"]] == 8080


def test_nothing_is_left_out_of_a_release_s_namespace(helm: Helm) -> None:
    cluster_wide = {
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    for each in helm.objects(OPERATOR, "--set", "watchNamespaces={blue}"):
        assert (each["kind"] in cluster_wide) != ("namespace" in each["metadata"]), each["metadata"]


@pytest.mark.parametrize(
    ("setting", "where", "why"),
    [
        ("replicas=3", "/replicas", "maximum"),
        ("watchNamespaces=voip", "/watchNamespaces", "want array"),
        ("watchNamespaces={Voip}", "/watchNamespaces/0", "pattern"),
        ("watchNamespaces={a,a}", "/watchNamespaces", "items at 0 and 1 are equal"),
        ("images.registry=https://registry.example", "/images/registry", "pattern"),
        ("images.pullPolicy=Sometimes", "/images/pullPolicy", "'IfNotPresent'"),
        ("images.proxy.tag=1", "/images/proxy", "additional properties 'tag' not allowed"),
        ("image.tag=1", "''", "additional properties 'image' not allowed"),
        ("resources.request.cpu=1", "/resources", "additional properties 'request' not allowed"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(helm: Helm, setting: str, where: str, why: str) -> None:
    said = helm.refusal(OPERATOR, "--set", setting)
    assert where in said
    assert why in said


# --- the definitions -----------------------------------------------------------------------------------------------


def test_the_definitions_are_those_of_the_models(helm: Helm) -> None:
    made = {each["metadata"]["name"]: each for each in helm.objects(CRDS) if each["kind"] == "CustomResourceDefinition"}
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert made == {each["metadata"]["name"]: each for each in files}


def test_definitions_are_kept_where_that_is_asked_for(helm: Helm) -> None:
    for each in helm.objects(CRDS, "--set", "keep=true"):
        if each["kind"] == "CustomResourceDefinition":
            assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_priority_class_can_be_somebody_else_s(helm: Helm) -> None:
    assert one(helm.objects(CRDS), "PriorityClass")["value"] == 1000000
    assert "PriorityClass" not in kinds(helm.objects(CRDS, "--set", "priorityClass.create=false"))
    assert "maximum" in helm.refusal(CRDS, "--set", "priorityClass.value=2000000000")
