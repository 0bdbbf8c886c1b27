"""The shapes of other explainers, as their clients read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inferwatch.clock import parse_time
from tests.explainers.explaining import INSTANCES, Service, score, starting


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with starting() as start:
        yield start(lambda rows: np.where(score(rows) > 9, "rich", "poor"))


def test_alibis_shape_of_an_anchor(service: Service) -> None:
    _, native = service.explain(INSTANCES[:1], method="anchors_tabular")
    [entry] = native["explanations"]
    status, reply = service.explain(INSTANCES[:1], method="anchors_tabular", reply="alibi")
    assert status == 200
    assert set(reply) == {"meta", "data"}
    assert set(reply["meta"]) == {"name", "type", "explanations", "params", "version"}
    assert reply["meta"]["name"] == "AnchorTabular"
    data = reply["data"]
    assert (data["anchor"], data["precision"], data["coverage"]) == (
        entry["anchor"],
        entry["precision"],
        entry["coverage"],
    )
    assert data["raw"]["instance"] == INSTANCES[0]
    names = ["age", "hours", "work"]
    assert {names[place] for place in data["raw"]["feature"]} == {
        name for name in names if any(name in text for text in data["anchor"])
    }


def test_alibis_shape_of_shapley_values_holds_all_instances(service: Service) -> None:
    _, native = service.explain()
    _, reply = service.explain(reply="alibi")
    assert reply["data"]["shap_values"] == [[entry["values"] for entry in native["explanations"]]]
    assert reply["data"]["raw"]["prediction"] == ["rich", "poor"]
    assert reply["data"]["feature_names"] == ["age", "hours", "work"]


def test_several_instances_are_all_listed(service: Service) -> None:
    _, reply = service.explain(method="counterfactual", reply="alibi")
    assert reply["data"] == reply["explanations"][0]["data"]
    assert [each["data"]["cf"]["class"] for each in reply["explanations"]] == ["poor", "rich"]
    assert [each["data"]["instance"] for each in reply["explanations"]] == INSTANCES


def test_trustyais_saliencies(service: Service) -> None:
    _, native = service.explain(INSTANCES[:1])
    _, reply = service.explain(INSTANCES[:1], reply="trustyai")
    assert set(reply) == {"timestamp", "type", "saliencies"}
    assert reply["type"] == "explanation"
    assert parse_time(reply["timestamp"]) > 0
    scores = reply["saliencies"]["SHAP"]["outputs-0"]
    assert [each["name"] for each in scores] == ["age", "hours", "work"]
    assert [each["score"] for each in scores] == native["explanations"][0]["values"]
    assert [each["confidence"] for each in scores] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"reply": "xml"}, "known are native, alibi, trustyai, art, aif"),
        ({"reply": ["alibi"]}, "known are native"),
        ({"reply": "trustyai", "method": "anchors_tabular"}, "for attributions"),
    ],
)
def test_other_shapes_are_400(service: Service, parameters: dict[str, Any], says: str) -> None:
    status, reply = service.explain(**parameters)
    assert status == 400
    assert says in reply["error"]
