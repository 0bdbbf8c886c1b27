"""What the `:explain` service answers."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from inferwatch.events import EXPLAIN_ID_PREFIX, CloudEvent
from inferwatch.explanation_event import ExplanationEvent
from inferwatch_explainers import ExactShapley, background_rows
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.explainers.explaining import ENCODED, INSTANCES, SCHEMA, Service, Setup, sample, score
from tests.explainers.servers import ModelServer, serving


def exact() -> Any:
    return ExactShapley(score, background_rows(sample())).explain(ENCODED)


def test_v1_instances_get_one_explanation_each(setup: Setup) -> None:
    service = setup()
    status, reply = service.explain()
    assert status == 200
    assert reply["model_name"] == "m"
    assert len(reply["explanations"]) == 2
    for row, entry in enumerate(reply["explanations"]):
        assert entry["method"] == "kernel_shap"
        assert entry["features"] == ["age", "hours", "work"]
        np.testing.assert_allclose(entry["values"], exact().values[row], atol=1e-9)
        assert entry["prediction"] == pytest.approx(score(ENCODED)[row])
        assert entry["base_value"] == pytest.approx(score(sample().rows).mean())
        assert abs(entry["gap"]) < 1e-9
        assert entry["exact"] is True
        assert entry["predictor_calls"] == len(service.server.calls)
        assert entry["predictor_rows"] == service.server.asked_rows


def v2_body(**parameters: object) -> dict[str, Any]:
    inputs = [
        {"name": "age", "shape": [2], "datatype": "FP64", "data": [39.0, 61.5]},
        {"name": "hours", "shape": [2], "datatype": "FP64", "data": [40.0, 20.0]},
        {"name": "work", "shape": [2], "datatype": "BYTES", "data": ["Private", "Other"]},
    ]
    return {"inputs": inputs, "parameters": parameters} if parameters else {"inputs": inputs}


def test_v2_asks_the_predictor_in_v2_and_answers_the_same(setup: Setup) -> None:
    service = setup()
    status, reply, _ = service.post("/v2/models/m/explain", v2_body(method="exact_shapley"))
    assert status == 200
    assert {call.path for call in service.server.calls} == {"/v2/models/m/infer"}
    assert reply["explanations"][0]["method"] == "exact_shapley"
    np.testing.assert_allclose([entry["values"] for entry in reply["explanations"]], exact().values, atol=1e-9)


@pytest.mark.parametrize("spoken", ["v1", "v2"])
def test_a_server_of_one_protocol_is_found_out(setup: Setup, spoken: str) -> None:
    service = setup(spoken=(spoken,))
    for path, body in (("/v1/models/m:explain", {"instances": INSTANCES}), ("/v2/models/m/explain", v2_body())):
        status, reply, _ = service.post(path, body)
        assert status == 200
        np.testing.assert_allclose(reply["explanations"][0]["values"], exact().values[0], atol=1e-9)


def test_a_configured_protocol_is_kept_to(setup: Setup) -> None:
    service = setup(spec=ExplainerSpec("kernel_shap", "", protocol="v2"))
    assert service.explain()[0] == 200
    assert {call.path for call in service.server.calls} == {"/v2/models/m/infer"}
    only_v1 = setup(spec=ExplainerSpec("kernel_shap", "", protocol="v2"), spoken=("v1",))
    assert only_v1.explain()[0] == 502


def test_every_call_is_marked_and_carries_what_belongs_to_the_caller(setup: Setup) -> None:
    service = setup()
    sent = {
        "Authorization": "Bearer of-the-predictor",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Tracestate": "vendor=1",
        "X-Request-Id": "r-1",
        "X-B3-TraceId": "b3",
        "Cookie": "not=yours",
        "Content-Type": "application/json; charset=utf-8",
    }
    status, reply, headers = service.post("/v1/models/m:explain", {"instances": INSTANCES}, sent)
    assert status == 200
    ids = [call.headers["ce-id"] for call in service.server.calls]
    assert len(ids) >= 2
    assert len(set(ids)) == len(ids)
    for call in service.server.calls:
        assert call.headers["ce-id"].startswith(EXPLAIN_ID_PREFIX)
        assert call.headers["x-inferwatch-origin"] == "explain"
        assert call.headers["authorization"] == "Bearer of-the-predictor"
        assert call.headers["traceparent"] == sent["Traceparent"]
        assert call.headers["tracestate"] == "vendor=1"
        assert call.headers["x-request-id"] == "r-1"
        assert call.headers["x-b3-traceid"] == "b3"
        assert call.headers["content-type"] == "application/json"
        assert "cookie" not in call.headers
    echoed = set(headers) & {name.lower() for name in sent} - {"content-type"}
    assert not echoed
    assert "of-the-predictor" not in json.dumps(reply)


def test_labels_are_explained_as_the_predicted_one(setup: Setup) -> None:
    service = setup(lambda rows: np.where(score(rows) > 9, "rich", "poor"))
    _, reply = service.explain()
    assert [entry["target"] for entry in reply["explanations"]] == ["rich", "poor"]
    assert [entry["prediction"] for entry in reply["explanations"]] == [1.0, 1.0]
    _, reply = service.explain(target="rich")
    assert [entry["prediction"] for entry in reply["explanations"]] == [1.0, 0.0]


def test_probabilities_are_explained_for_the_target(setup: Setup) -> None:
    service = setup(lambda rows: np.stack([score(rows) / 100, 1 - score(rows) / 100], axis=1))
    _, reply = service.explain()
    assert [entry["target"] for entry in reply["explanations"]] == [1, 1]
    _, reply = service.explain(target=0)
    assert reply["explanations"][0]["prediction"] == pytest.approx(score(ENCODED)[0] / 100)
    status, reply = service.explain(target=2)
    assert (status, list(reply)) == (400, ["error"])


def test_samples_bound_the_rows(setup: Setup) -> None:
    service = setup()
    _, reply = service.explain(samples=4)
    entry = reply["explanations"][0]
    assert entry["exact"] is False
    assert entry["predictor_rows"] <= 2 * 4 * 40


def test_each_answer_is_an_event_and_a_refusal_is_none(setup: Setup) -> None:
    told: list[CloudEvent] = []
    service = setup(record=told.append)
    service.explain([[39, 40, "Navy"]])
    assert told == []
    sent = {"Ce-Id": "p-1", "X-Request-Id": "r-1", "Authorization": "Bearer of-the-predictor"}
    _, reply, _ = service.post("/v1/models/m:explain", {"instances": INSTANCES}, sent)
    service.post("/v2/models/m/explain", v2_body())
    first, second = (ExplanationEvent.of(event) for event in told)
    assert first is not None
    assert second is not None
    assert (first.payload_id, first.request_id, str(first.service)) == ("p-1", "r-1", "default/m")
    assert (second.payload_id, second.request_id) == (None, None)
    assert list(first.entries) == reply["explanations"]
    assert first.marks == second.marks
    assert len(set(first.marks)) == 2
    assert b"of-the-predictor" not in told[0].data


def test_a_busy_predictor_is_asked_again(setup: Setup) -> None:
    service = setup()
    service.server.refusals = [Response(b"", 503, {"Retry-After": "0"}), Response(b"", 429)]
    status, reply = service.explain()
    assert status == 200
    assert reply["explanations"][0]["predictor_calls"] == len(service.server.calls)


def test_a_predictor_that_falls_silent_leaves_a_coarse_answer(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    service = setup(spec=ExplainerSpec("kernel_shap", "", deadline_s=60.0))
    original, begun, ahead = service.server._reply, time.monotonic(), [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0])
    monkeypatch.setattr("inferwatch_explainers.predictor.time", clock)

    def then_hold(version: str, body: bytes) -> Response:
        reply = original(version, body)
        service.server.hold = threading.Event()
        ahead[0] = 59.8 - (time.monotonic() - begun)  # which leaves 0.2 s, however long it took so far
        return reply

    service.server._reply = then_hold  # type: ignore[method-assign]  # silent from the second call on
    try:
        status, reply = service.explain()
    finally:
        assert service.server.hold is not None
        service.server.hold.set()
    assert status == 200
    entry = reply["explanations"][0]
    assert entry["deadline_reached"] is True
    assert abs(entry["gap"]) < 1e-9
    labels = {"model_namespace": "default", "model_name": "m", "method": "kernel_shap", "outcome": "deadline"}
    assert service.metric("inferwatch_explanations_total", **labels) == 1


def test_metadata_says_in_which_ways_each_explainer_asks(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferwatch_explainers.predictor.WORTH_ROWS", 2)
    service = setup(spoken=("v1", "v2", "v2_binary"))

    def metadata() -> Any:
        with urllib.request.urlopen(service.url + "/v2/models/m") as reply:
            return json.loads(reply.read())

    of_kserve: dict[str, Any] = {"name": "m", "versions": None, "platform": "", "inputs": [], "outputs": []}
    explainer = {"method": "kernel_shap", "protocol": "auto"}
    assert metadata() == of_kserve | {"explainers": [explainer | {"ways": []}]}
    assert service.explain()[0] == 200
    [way] = metadata()["explainers"][0]["ways"]
    assert way["dialect"] in ("v1", "v2", "v2_binary")
    assert "v1 took" in way["why"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(service.url + "/v2/models/nope")


def test_metrics_have_kserves_name_and_ours(setup: Setup) -> None:
    service = setup()
    service.explain()
    for part in ("preprocess", "explain", "postprocess"):
        assert service.metric(f"request_{part}_seconds_count", model_name="m") == 1
    assert service.metric("inferwatch_explain_predictor_calls_count", method="kernel_shap") == 1
    assert service.metric("inferwatch_explain_predictor_calls_sum", method="kernel_shap") == len(service.server.calls)
    assert service.metric("inferwatch_explain_inflight") == 0
    assert service.metric("inferwatch_explain_queue_depth") == 0


def test_both_routes_are_in_the_openapi_document(shared: Service) -> None:
    with urllib.request.urlopen(shared.url + "/openapi.json") as reply:
        paths = json.loads(reply.read())["paths"]
    for path in ("/v1/models/{name}:explain", "/v2/models/{name}/explain"):
        assert {"200", "400", "404", "409", "413", "429", "502", "504"} <= paths[path]["post"]["responses"].keys()


def test_connections_open_and_close_with_an_application_that_has_a_life_of_its_own() -> None:
    lived = []

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        lived.append("began")
        yield
        lived.append("ended")

    server = ModelServer(SCHEMA, score)
    with serving(server.application()) as url:
        app = FastAPI(lifespan=life)
        registry = CollectorRegistry()
        model = ExplainedModel("default", "m", sample(), [ExplainerSpec("kernel_shap", url)])
        app.include_router(explain_router([model], registry=registry))
        with serving(app) as address:
            assert Service(address, server, registry).explain()[0] == 200
    assert lived == ["began", "ended"]
