"""Texts through the `:explain` service, in front of a model server that takes texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from inferwatch.errors import InvalidOption
from inferwatch_explainers.registry import options_of
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.explainers.explaining import SCHEMA, Service, sample
from tests.explainers.servers import TextServer, serving
from tests.explainers.test_anchors_text import sentiment
from tests.explainers.test_pictures import ask

TEXTS = ["A good film, all in all", 'good, but not "great" – é']
NAMED = {"instances": [{"review": text} for text in TEXTS]}
BARE = {"instances": TEXTS}
LISTS = {"instances": [[text] for text in TEXTS]}


def v2(*shape: int) -> dict[str, Any]:
    return {"inputs": [{"name": "review", "shape": [*shape], "datatype": "BYTES", "data": TEXTS}]}


class Texts:
    """Services of one reference, of rows that have nothing to do with texts."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def service(self, protocol: Literal["auto", "v1", "v2_binary"] = "auto", method: str = "anchors_text") -> Service:
        server = TextServer(SCHEMA, sentiment)  # type: ignore[arg-type]  # a function of texts
        url = self._stack.enter_context(serving(server.application()))
        spec = ExplainerSpec(method, url, protocol=protocol, deadline_s=20.0)
        registry, app = CollectorRegistry(), FastAPI()
        app.include_router(explain_router([ExplainedModel("default", "m", sample(), [spec])], registry=registry))
        return Service(self._stack.enter_context(serving(app)), server, registry)


@pytest.fixture(scope="module")
def texts() -> Iterator[Texts]:
    with ExitStack() as stack:
        yield Texts(stack)


@pytest.fixture(scope="module")
def shared(texts: Texts) -> Service:
    return texts.service()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/m:explain", BARE),
        ("/v1/models/m:explain", LISTS),
        ("/v1/models/m:explain", NAMED),
        ("/v2/models/m/explain", v2(2)),
        ("/v2/models/m/explain", v2(2, 1)),
    ],
    ids=["bare", "lists", "objects", "v2", "v2-column"],
)
def test_every_form_of_texts_is_explained_and_asked_in(shared: Service, path: str, body: dict[str, Any]) -> None:
    before = len(shared.server.calls)
    status, reply, _ = shared.post(path, body)
    assert status == 200, reply
    first, second = reply["explanations"]
    assert (first["anchor"], first["positions"], first["target"]) == (["good"], [[2, 6]], "good")
    assert (second["anchor"], second["positions"], second["target"]) == (["not"], [[10, 13]], "bad")
    calls = shared.server.calls[before:]
    assert len(calls) == first["predictor_calls"] <= 8
    assert sum(call.rows for call in calls) == first["predictor_rows"]
    [(member, asked)] = [(name, value) for name, value in calls[0].body.items() if name != "parameters"]
    assert member in body
    assert type(asked[0]) is type(body[member][0])


def test_binary_tensors_carry_texts(texts: Texts) -> None:
    service = texts.service("v2_binary")
    status, reply, _ = service.post("/v1/models/m:explain", BARE)
    assert status == 502  # it does not speak it
    service.server.spoken = ("v2", "v2_binary")
    status, reply, _ = service.post("/v1/models/m:explain", BARE)
    assert [entry["anchor"] for entry in reply["explanations"]] == [["good"], ["not"]]


def test_options_are_the_methods_own(shared: Service) -> None:
    before = len(shared.server.calls)
    status, reply = shared.explain(TEXTS[:1], options={"mask": None, "replaced": 0.25}, samples=500)
    assert status == 200
    assert reply["explanations"][0]["coverage"] == 0.75
    asked = [text for call in shared.server.calls[before:] for text in call.body["instances"]]
    assert len(asked) <= 500 + 8
    assert not any("UNK" in text for text in asked)


def test_a_text_explainer_can_be_asked_for_beside_others(texts: Texts) -> None:
    status, reply = texts.service(method="kernel_shap").explain(TEXTS, method="anchors_text")
    assert status == 200
    assert reply["explanations"][0]["method"] == "anchors_text"


def test_alibis_shape_names_the_words(shared: Service) -> None:
    _, reply = shared.explain(TEXTS[:1], reply="alibi")
    assert reply["meta"]["name"] == "AnchorText"
    assert reply["data"]["anchor"] == ["good"]
    raw = reply["data"]["raw"]
    assert (raw["names"], raw["positions"], raw["instance"]) == (["good"], [2], TEXTS[0])


def test_words_are_weighed_and_drawn(shared: Service) -> None:
    status, reply = shared.explain(TEXTS, method="text_shap", options={"mask": "-"})
    assert status == 200
    first, second = reply["explanations"]
    assert (first["method"], first["features"][1], first["positions"][1]) == ("text_shap", "good", [2, 6])
    np.testing.assert_allclose(first["values"], [0, 1, 0, 0, 0, 0], atol=1e-9)
    assert second["target"] == "bad"
    _, alibi = shared.explain(TEXTS, method="text_shap", reply="alibi")
    assert alibi["explanations"][1]["data"]["raw"]["instances"] == [[TEXTS[1]]]
    _, trustyai = shared.explain(TEXTS[:1], method="text_shap", reply="trustyai")
    assert trustyai["saliencies"]["SHAP"]["outputs-0"][1]["name"] == "good"
    for plot in ("text", "waterfall"):
        status, _, drawn = ask(shared, "image/svg+xml", f"?plot={plot}", instances=TEXTS, method="text_shap")
        assert (status, b"all words masked" in drawn) == (200, True)


@pytest.mark.parametrize(
    ("instances", "parameters", "says"),
    [
        ([[1.0, 2.0]], {}, "an instance has 2 columns"),
        ([3.5], {}, "instance 0 is 3.5; a text is needed"),
        (["fine", None], {}, "instance 1 is None; a text is needed"),
        (["fine", "?"], {}, "text 1 has no words"),
        ([], {}, "no instances"),
        (TEXTS, {"options": {"masks": "x"}}, "anchors_text has no option 'masks'; known are mask, replaced"),
        (TEXTS, {"options": {"replaced": 1.5}}, "replaced of anchors_text is 1.5"),
        (TEXTS, {"method": "text_shap", "options": {"replaced": 0.5}}, "text_shap has no option 'replaced'"),
        (["b " * 1001], {"method": "text_shap"}, "text 0 has 1001 words; at most 1000 are explained"),
        (TEXTS, {"immutable": ["text"]}, "immutable is for counterfactual"),
        (TEXTS, {"reply": "trustyai"}, "for attributions"),
        (TEXTS, {"target": "ugly"}, "is 'good' and not 'ugly'"),
    ],
)
def test_bad_requests_are_400(shared: Service, instances: Any, parameters: dict[str, Any], says: str) -> None:
    status, reply = shared.explain(instances, **parameters)
    assert (status, says in reply["error"]) == (400, True), reply


def test_other_methods_take_no_options() -> None:
    with pytest.raises(InvalidOption, match="for anchors_text, text_shap, counterfactual, not for kernel_shap"):
        options_of("kernel_shap", {"mask": "x"})
    assert options_of("kernel_shap", {}) == {}
    assert options_of("anchors_text", {}) == {"mask": "UNK", "replaced": 0.5}


def test_a_model_that_weighs_words_is_explained_within_one_call_a_round(texts: Texts) -> None:
    service = texts.service()
    service.server.predict = lambda asked: np.array([len(text.split("UNK")) / 40 for text in asked])
    status, reply = service.explain(["one two three four five six seven eight nine ten " * 3])
    assert status == 200
    assert reply["explanations"][0]["predictor_calls"] == len(service.server.calls) <= 8
