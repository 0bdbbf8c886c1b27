"""The service answers pictures where `Accept` asks for them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from tests.explainers.explaining import INSTANCES, Service, score, starting


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with starting() as start:
        yield start(lambda rows: np.where(score(rows) > 9, "rich", "poor"))


def ask(
    service: Service, accept: str, query: str = "", *, instances: object = INSTANCES, **parameters: Any
) -> tuple[int, str, bytes]:
    body = orjson.dumps({"instances": instances, "parameters": parameters})
    request = urllib.request.Request(f"{service.url}/v1/models/m:explain{query}", body, {"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers["content-type"], reply.read()
    except urllib.error.HTTPError as fault:
        with fault:
            return fault.code, fault.headers["content-type"], fault.read()


@pytest.mark.parametrize(
    ("method", "says"),
    [("kernel_shap", b"work = Private"), ("anchors_tabular", b"precision"), ("counterfactual", b"decided as")],
)
def test_each_kind_is_drawn_with_the_values_of_the_row(service: Service, method: str, says: bytes) -> None:
    status, kind, drawn = ask(service, "text/html, image/svg+xml", method=method)
    assert (status, kind) == (200, "image/svg+xml")
    assert drawn.startswith(b"<?xml")
    assert says in drawn


def test_accept_and_plot_choose(service: Service) -> None:
    assert ask(service, "*/*")[1] == "application/json"
    assert ask(service, "image/png, image/svg+xml")[1] == "image/png"
    drawn = [ask(service, "image/svg+xml", query, plot="force")[2] for query in ("", "?plot=bars")]
    assert [b"average" in picture for picture in drawn] == [True, True]
    assert [b"contribution to the prediction" in picture for picture in drawn] == [False, True]


@pytest.mark.parametrize(
    ("accept", "query", "says"),
    [
        ("image/png", "?plot=pie", "plot is 'pie'; known are heatmap, text, waterfall,"),
        ("image/png", "?plot=", "plot is ''; known are"),
        ("image/png", "?plot=rule", "plot rule does not fit what kernel_shap says of this row; waterfall, force, bars"),
        ("application/json", "?plot=force", "plot is for a picture, which is asked for by `Accept: image/png"),
    ],
)
def test_a_plot_that_cannot_be_is_refused_as_json(service: Service, accept: str, query: str, says: str) -> None:
    status, kind, body = ask(service, accept, query)
    assert (status, kind) == (400, "application/json")
    assert says in orjson.loads(body)["error"]
    assert ask(service, accept, plot=3)[0] == 400
