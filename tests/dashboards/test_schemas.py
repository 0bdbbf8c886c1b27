"""The dashboard against Grafana's own JSON Schemas, closed so that an unknown field is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.dashboards.conftest import ROOT, Json

SCHEMAS = ROOT.parent / "shared" / "schemas" / "grafana"

pytestmark = pytest.mark.skipif(not SCHEMAS.is_dir(), reason="Grafana's JSON Schemas are not beside the repository")


def faults(value: Any, file: str, definition: str | None = None) -> list[str]:
    schema = json.loads(Path(SCHEMAS / f"{file}.jsonschema.json").read_text(encoding="utf-8"))
    for name, field in (("MatcherConfig", "options"), ("DynamicConfigValue", "value")):
        # Grafana declares both as "any", of which the schema's generator made an object.
        if name in schema["definitions"]:
            del schema["definitions"][name]["properties"][field]["type"]
    if definition is not None:
        schema = {
            "$schema": schema["$schema"],
            "$ref": f"#/definitions/{definition}",
            "definitions": schema["definitions"],
        }
    return [f"{fault.json_path}: {fault.message}" for fault in Draft7Validator(schema).iter_errors(value)]


def test_the_dashboard_is_valid(board: Json) -> None:
    assert faults(board, "dashboard") == []


def test_every_query_is_valid(panels: list[Json]) -> None:
    assert [fault for panel in panels for target in panel["targets"] for fault in faults(target, "prometheus")] == []


def test_the_options_of_every_panel_are_valid(panels: list[Json]) -> None:
    for panel in panels:
        assert faults(panel["options"], panel["type"].replace("-", ""), "Options") == [], panel["title"]


def test_the_drawing_of_every_series_is_valid(panels: list[Json]) -> None:
    drawn = [panel for panel in panels if panel["type"] in ("timeseries", "table", "state-timeline")]
    assert drawn
    for panel in drawn:
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        assert faults(custom, panel["type"].replace("-", ""), "FieldConfig") == [], panel["title"]


def test_an_unknown_field_would_be_found(board: Json) -> None:
    assert faults(board | {"colour": "red"}, "dashboard") != []


def test_units_are_those_that_grafana_lists(panels: list[Json]) -> None:
    listed = json.loads((SCHEMAS / "units.jsonschema.json").read_text(encoding="utf-8"))["definitions"].values()
    known = {unit["const"] for unit in listed if "const" in unit}
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels} <= known
