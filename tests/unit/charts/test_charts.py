"""What can be said of the charts without Helm; what they make is tested in e2e/tests/test_charts.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import sipcore
from sipfleet.api.crd import main as crd_main
from sipfleet.kubernetes.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
CHARTS = sorted(path.parent for path in (ROOT / "charts").glob("*/Chart.yaml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(params=CHARTS, ids=lambda path: path.name)
def chart(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_are_two_charts() -> None:
    assert [path.name for path in CHARTS] == ["sipfleet", "sipfleet-crds"]


def test_a_chart_has_the_version_of_the_programs(chart: Path) -> None:
    described = loaded(chart / "Chart.yaml")
    assert (described["version"], described["appVersion"]) == (sipcore.__version__, sipcore.__version__)


def test_the_default_values_fit_the_schema(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(loaded(chart / "values.yaml"), schema)


def test_every_default_value_is_known_to_the_schema_by_name(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    assert set(loaded(chart / "values.yaml")) == set(schema["properties"]) - {"global"}


def test_the_chart_installs_the_generated_definitions(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd_main(["--check", str(ROOT / "charts/sipfleet-crds/files")]) == 0, capsys.readouterr()


def test_the_fleet_s_priority_class_is_the_one_that_the_other_chart_makes() -> None:
    made = loaded(ROOT / "charts/sipfleet-crds/values.yaml")["priorityClass"]
    assert made["create"]
    assert loaded(ROOT / "charts/sipfleet/values.yaml")["fleet"]["priorityClassName"] == made["name"]


def test_without_a_registry_no_image_is_looked_for_at_somebody_else_s() -> None:
    assert loaded(ROOT / "charts/sipfleet/values.yaml")["images"]["registry"] == "localhost"


def test_every_variable_that_the_operator_reads_is_set_by_the_chart() -> None:
    text = (ROOT / "charts/sipfleet/templates/deployment.yaml").read_text()
    read: set[str] = set()

    class Environment(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return default

    Settings.read(Environment())
    assert read
    assert not [name for name in sorted(read) if f"- name: {name}\n" not in text]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("registry.example:5000/sipfleet/store:7.0", "registry.example:5000/sipfleet/store:7.0"),
        ("registry.example:5000/sipfleet/store", "registry.example:5000/sipfleet/store:1.2.3"),
        ("", Settings().store_image),
    ],
)
def test_a_store_keeps_the_tag_that_it_is_given(given: str, used: str) -> None:
    settings = Settings.read({"SIPFLEET_STORE_IMAGE": given, "SIPFLEET_IMAGE_TAG": "1.2.3"})
    assert settings.store_reference == used
