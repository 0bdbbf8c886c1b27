"""Every query of the dashboard, asked of a real Prometheus that scrapes a running `up`: each one must return data."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from inferwatch_cli.demo.processes import free_port
from tests.components import program
from tests.dashboards.conftest import COMMITTED
from tests.waiting import eventually
from tests.watched import Watched, get, judged, process, running_up, send_everything

BOARD = json.loads(COMMITTED.read_text(encoding="utf-8"))
TARGETS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in BOARD["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = [
    pytest.param(variable["query"], id=variable["name"])
    for variable in BOARD["templating"]["list"]
    if variable["type"] == "query"
]
CHOSEN = {
    "$__rate_interval": "1m",
    "$__range": "1h",
    "$job": "inferwatch",
    "$model_namespace": ".*",
    "$model_name": ".*",
}

pytestmark = pytest.mark.integration


class Scraped(NamedTuple):
    """A Prometheus, and what it scrapes."""

    url: str
    up: Watched

    def query(self, expression: str) -> list[float]:
        found = get(f"{self.url}/api/v1/query?{urlencode({'query': expression})}")["data"]["result"]
        return [float(series["value"][1]) for series in found]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("scraped")
    tool = program("prometheus")
    with running_up(folder) as up:
        configuration = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {"job_name": "inferwatch", "static_configs": [{"targets": [up.url.removeprefix("http://")]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        command: list[str | Path] = [
            tool,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
        ]
        with process(command, folder / "prometheus.log"):
            prometheus = Scraped(f"http://{address}", up)
            # Twice, each time until a scrape has seen it: a rate needs a counter that rises between two scrapes.
            for number, part in enumerate(("first", "second"), start=1):
                send_everything(up.url, part)
                eventually("up has judged", lambda: judged(up.url))
                explained = f"sum(inferwatch_explanations_total) >= {number}"
                eventually("Prometheus has scraped", lambda asked=explained: prometheus.query(asked))
            yield prometheus


def chosen(text: str) -> str:
    for name, value in CHOSEN.items():
        text = re.sub(rf"{re.escape(name)}\b", value, text)
    assert "$" not in text, text
    return text


@pytest.mark.parametrize("expression", TARGETS)
def test_every_query_returns_numbers(scraped: Scraped, expression: str) -> None:
    def numbers() -> list[float]:
        return [value for value in scraped.query(chosen(expression)) if math.isfinite(value)]

    assert eventually(expression, numbers)


@pytest.mark.parametrize("query", VARIABLES)
def test_every_variable_has_values(scraped: Scraped, query: str) -> None:
    parsed = re.fullmatch(r"label_values\((.+), (\w+)\)", chosen(query))
    assert parsed is not None
    answer = get(f"{scraped.url}/api/v1/label/{parsed[2]}/values?{urlencode({'match[]': parsed[1]})}")
    assert answer["data"] in (["inferwatch"], ["default"], ["sklearn-iris"])


def test_the_drift_is_seen_on_the_dashboard(scraped: Scraped) -> None:
    assert scraped.query('max_over_time(inferwatch_drift_detected{model_name="sklearn-iris"}[10m])') == [1]


def test_prometheus_takes_the_page_without_a_fault(scraped: Scraped) -> None:
    [target] = get(f"{scraped.url}/api/v1/targets")["data"]["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_the_page_follows_the_conventions_of_prometheus(scraped: Scraped) -> None:
    with urllib.request.urlopen(f"{scraped.up.url}/metrics", timeout=60) as response:
        page = response.read()
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_no_series_of_the_platform_escapes_its_prefix(scraped: Scraped) -> None:
    names: Any = get(f"{scraped.url}/api/v1/label/__name__/values")["data"]
    ours = [
        name
        for name in names
        if not re.match(r"inferwatch_|request_(?:explain|preprocess|postprocess)_|process_|python_|scrape_|up$", name)
    ]
    assert ours == []
