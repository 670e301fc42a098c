"""What the operator is told by its environment."""

from __future__ import annotations

import pytest

import sipcore
from sipfleet.kubernetes.settings import Settings, SettingsError


def test_without_any_variable_everything_has_a_value_that_works_outside_a_pod() -> None:
    plain = Settings.read({})
    assert plain.image_tag == sipcore.__version__
    assert plain.namespaces == ()
    assert plain.namespace == "default"
    assert plain.identity


def test_an_empty_variable_is_no_value() -> None:
    assert Settings.read({"SIPFLEET_PROXY_IMAGE": "", "SIPFLEET_IMAGE_PULL_POLICY": ""}) == Settings.read({})


def test_namespaces_are_separated_by_commas_or_blanks() -> None:
    assert Settings.read({"SIPFLEET_WATCH_NAMESPACES": "voice, lab,,test"}).namespaces == ("voice", "lab", "test")


def test_the_pod_names_leader_and_home() -> None:
    found = Settings.read({"POD_NAME": "sipfleet-5d", "POD_NAMESPACE": "operators"})
    assert (found.identity, found.namespace) == ("sipfleet-5d", "operators")


def test_a_wrong_pull_policy_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(
        SettingsError, match=r"SIPFLEET_IMAGE_PULL_POLICY: 'never' given, one of Always, IfNotPresent, Never"
    ):
        Settings.read({"SIPFLEET_IMAGE_PULL_POLICY": "never"})


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("registry.example:5000/store", "registry.example:5000/store:0.1"),
        ("registry.example/store:7.0", "registry.example/store:7.0"),
        ("store@sha256:00", "store@sha256:00"),
    ],
)
def test_the_stores_image_has_the_tag_that_it_names_or_the_operators(image: str, reference: str) -> None:
    assert Settings(store_image=image, image_tag="0.1").store_reference == reference
