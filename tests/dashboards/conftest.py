from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "dashboards" / "inferwatch-fleet-and-model.json"

Json = dict[str, Any]


@pytest.fixture(scope="session")
def board() -> Json:
    loaded: Json = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="session")
def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="session")
def expressions(panels: list[Json]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.fixture(scope="session")
def queries(board: Json) -> list[Json]:
    """The variables that ask Prometheus for their values."""
    return [variable for variable in board["templating"]["list"] if variable["type"] == "query"]
