"""Anchors and counterfactuals over the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inferwatch_explainers.served import ExplainerSpec
from tests.explainers.explaining import INSTANCES, Service, score, starting


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with starting() as start:
        yield start(
            lambda rows: np.where(score(rows) > 9, "rich", "poor"),
            spec=ExplainerSpec("counterfactual", "", deadline_s=20.0, immutable=("age",)),
        )


def test_anchors_have_the_agreed_fields(service: Service) -> None:
    status, reply = service.explain(method="anchors_tabular")
    assert status == 200, reply
    assert [entry["target"] for entry in reply["explanations"]] == ["rich", "poor"]
    for entry in reply["explanations"]:
        assert set(entry) == {
            "method", "features", "anchor", "precision", "precision_low", "coverage", "prediction", "target",
            "predictor_calls", "predictor_rows", "elapsed_s", "deadline_reached",
        }  # fmt: skip
        assert 0 <= entry["precision_low"] <= entry["precision"] <= 1
        assert entry["predictor_calls"] <= 11


def test_counterfactuals_have_the_agreed_fields_and_keep_what_is_configured(service: Service) -> None:
    status, reply = service.explain()
    assert status == 200, reply
    for entry, instance in zip(reply["explanations"], INSTANCES, strict=True):
        assert set(entry) == {
            "method", "features", "counterfactual", "changed", "distance", "prediction", "target",
            "predictor_calls", "predictor_rows", "elapsed_s", "deadline_reached",
        }  # fmt: skip
        assert entry["counterfactual"]
        assert all(near[0] == instance[0] for near in entry["counterfactual"])
        assert entry["distance"] > 0


def test_a_request_says_what_is_immutable(service: Service) -> None:
    _, reply = service.explain(immutable=["hours", "work"])
    assert {tuple(entry["changed"]) for entry in reply["explanations"]} <= {("age",), ()}


def test_a_request_says_how_far_and_which_way_numbers_may_change(service: Service) -> None:
    limits = {"ranges": {"hours": [None, 41]}, "directions": {"hours": "up"}}
    _, reply = service.explain(immutable=["age", "work"], options=limits)
    assert all(40 <= near[1] <= 41 for near in reply["explanations"][0]["counterfactual"])
    assert service.explain(immutable=["age", "work"])[1]["explanations"][0]["counterfactual"][0][1] < 40


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"options": {"directions": {"hours": "left"}}}, "directions.hours of counterfactual is 'left'"),
        ({"options": {"ranges": {"hours": [1]}}}, "ranges.hours.1"),
        ({"options": {"ranges": {"height": [1, 2]}}}, "ranges name 'height'"),
        ({"immutable": "age"}, "list of features"),
        ({"immutable": ["height"]}, "'height'"),
        ({"immutable": ["age"], "method": "kernel_shap"}, "is for counterfactual"),
        ({"target": 3}, "of type str"),
        ({"target": "poor", "method": "anchors_tabular"}, "the predicted class"),
    ],
)
def test_wrong_options_are_400(service: Service, parameters: dict[str, Any], says: str) -> None:
    status, reply = service.explain(**parameters)
    assert status == 400
    assert says in reply["error"]
