from __future__ import annotations

import html
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from inferwatch.errors import MissingExtra
from inferwatch.explanation import Anchors
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers import AnchorsTabular, Counterfactual, KernelShap
from inferwatch_explainers.pictures import picture
from tests.explainers.test_service import INSTANCES, Service, score, starting

REFERENCE = np.random.default_rng(0).normal(size=(300, 3))
SCHEMA = Schema((Feature("age", "numeric"), Feature("$wage$^{", "numeric"), Feature("<hours>", "numeric")))


def decide(rows: Matrix) -> Matrix:
    return np.asarray(rows[:, 0] > 0.2).astype(int)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (KernelShap, ["kernel_shap", "age = 1"]),
        (AnchorsTabular, ["anchors_tabular", "age &gt;", "precision"]),
        (Counterfactual, ["counterfactual", "age: 1  to"]),
    ],
)
def test_each_kind_has_a_picture_that_says_what_it_shows(make: Any, says: list[str]) -> None:
    import matplotlib as mpl

    rows = np.ones((2, 3))
    explanation = make(decide, REFERENCE, schema=SCHEMA).explain(rows)
    assert picture(explanation, rows, SCHEMA, "png").startswith(b"\x89PNG")
    with mpl.rc_context({"svg.fonttype": "none"}):
        drawn = picture(explanation, rows, SCHEMA, "svg").decode()
    assert drawn.lstrip().startswith("<?xml")
    for text in says:
        assert text in drawn


def test_many_rows_and_features_are_cut_and_that_is_said() -> None:
    import matplotlib as mpl

    generator = np.random.default_rng(0)
    schema = Schema(tuple(Feature(f"f{place}", "numeric") for place in range(20)))
    rows = generator.normal(size=(12, 20))
    explanation = KernelShap(lambda asked: asked.sum(axis=1), generator.normal(size=(5, 20)), schema=schema).explain(
        rows
    )
    with mpl.rc_context({"svg.fonttype": "none"}):
        drawn = picture(explanation, rows, schema, "svg").decode()
    assert "the first 10 of 12 rows" in drawn
    assert "5 smaller ones are not shown" in drawn


def test_a_long_rule_is_written_in_lines_that_fit() -> None:
    names = tuple(f"feature number {number}" for number in range(9))
    one = np.ones(1)
    rule = tuple(f"{name} <= 0.7977" for name in names)
    anchors = Anchors("anchors_tabular", names, (rule,), one, one, one, one, (1,), 1, 1, 0.1)
    schema = Schema(tuple(Feature(name, "numeric") for name in names))
    drawn = picture(anchors, np.ones((1, 9)), schema, "svg").decode()
    lines = [line for line in re.findall(r"<!-- (.*?) -->", drawn, re.DOTALL) if "<=" in html.unescape(line)]
    assert lines
    said = [part for line in lines for part in html.unescape(line).splitlines()]
    assert max(map(len, said)) <= 90
    assert " ".join(part.strip() for part in said) == "anchors_tabular: " + " and ".join(rule)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    explanation = KernelShap(decide, REFERENCE).explain(np.ones((1, 3)))
    with pytest.raises(MissingExtra, match=r"inferwatch\[plots\]"):
        picture(explanation, np.ones((1, 3)), SCHEMA, "png")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with starting() as start:
        yield start(lambda rows: np.where(score(rows) > 9, "rich", "poor"))


@pytest.mark.parametrize("method", ["kernel_shap", "anchors_tabular", "counterfactual"])
@pytest.mark.parametrize(
    ("accept", "answered", "begins"),
    [
        ("image/png", "image/png", b"\x89PNG"),
        ("text/html, image/svg+xml", "image/svg+xml", b"<?xml"),
        ("*/*", "application/json", b'{"explanations"'),
    ],
)
def test_the_service_answers_what_accept_asks_for(
    service: Service, method: str, accept: str, answered: str, begins: bytes
) -> None:
    body = orjson.dumps({"instances": INSTANCES, "parameters": {"method": method}})
    request = urllib.request.Request(f"{service.url}/v1/models/m:explain", body, {"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.headers["content-type"] == answered
        assert reply.read().startswith(begins)


def test_faults_stay_json(service: Service) -> None:
    request = urllib.request.Request(f"{service.url}/v1/models/m:explain", b"{}", {"Accept": "image/png"})
    with pytest.raises(urllib.error.HTTPError) as fault, urllib.request.urlopen(request, timeout=30):
        pass
    with fault.value as reply:
        assert (reply.code, list(orjson.loads(reply.read()))) == (400, ["error"])
