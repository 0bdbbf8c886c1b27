"""What the `:explain` service refuses, and with what status and sentence."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from inferwatch.errors import InvalidOption
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.explainers.explaining import INSTANCES, SCHEMA, Service, Setup, held, sample, score
from tests.explainers.servers import ModelServer, serving
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        ({"instances": []}, "no instances"),
        ({"instances": [[39, 40]]}, "2 columns"),
        ({"instances": [[39, None, "Private"]]}, "hours of instance 0 is missing"),
        ({"instances": [[39, 40, "Navy"]]}, "'Navy'"),
        ({"instances": [["39", 40, "Private"]]}, "finite number"),
        ({"instances": INSTANCES, "parameters": {"method": "tea_leaves"}}, "known are exact_shapley, kernel_shap"),
        ({"instances": INSTANCES, "parameters": {"deadline_s": 0}}, "deadline"),
        ({"instances": INSTANCES, "parameters": {"target": 1}}, "one output"),
    ],
)
def test_wrong_requests_are_400_with_one_sentence(shared: Service, body: object, says: str) -> None:
    status, reply, _ = shared.post("/v1/models/m:explain", body)
    assert status == 400
    assert list(reply) == ["error"]
    assert says in reply["error"]


def test_a_wrong_deadline_header_is_400(shared: Service) -> None:
    headers = {"X-Inferwatch-Deadline": "soon"}
    status, reply, _ = shared.post("/v1/models/m:explain", {"instances": INSTANCES}, headers)
    assert status == 400
    assert "'soon'" in reply["error"]


def test_unknown_models_are_404_and_make_no_series(setup: Setup) -> None:
    service = setup()
    status, reply = service.explain(name="nobody")
    assert status == 404
    assert "nobody" in reply["error"]
    assert service.post("/v1/models/m:explain?namespace=elsewhere", {"instances": INSTANCES})[0] == 404
    labels = {"model_namespace": "unknown", "model_name": "unknown", "method": "unknown", "outcome": "unknown_model"}
    assert service.metric("inferwatch_explanations_total", **labels) == 2


def test_a_name_in_two_namespaces_needs_to_be_told_apart(setup: Setup) -> None:
    service = setup(namespaces=("blue", "green"))
    status, reply = service.explain()
    assert status == 409
    assert "?namespace=" in reply["error"]
    assert service.post("/v1/models/m:explain?namespace=green", {"instances": INSTANCES})[0] == 200
    labels = {"model_namespace": "green", "model_name": "m", "method": "kernel_shap", "outcome": "ok"}
    assert service.metric("inferwatch_explanations_total", **labels) == 1


def test_too_much_is_413(setup: Setup) -> None:
    service = setup(max_instances=1, max_body_bytes=1000)
    status, reply = service.explain()
    assert status == 413
    assert "at most 1" in reply["error"]
    assert service.post("/v1/models/m:explain", b" " * 1001)[0] == 413
    assert service.explain(INSTANCES[:1])[0] == 200


HTML = Response(b"<html>sorry</html>", media_type="text/html")


@pytest.mark.parametrize(
    "spoil",
    [
        Response(b'{"error":"ValueError : boom"}', 500),
        HTML,
        Response(b'{"predictions": [NaN, 1.0]}'),
        Response(b'{"predictions": [0.5]}'),
        Response(b'{"predictions": []}'),
        Response(b'{"error": "no"}'),
        Response(b"", 204),
        Response(b"", 302, {"Location": "http://127.0.0.1:1/"}),
        Response(b"", 503),
    ],
    ids=["500", "html", "nan", "short", "empty", "error", "204", "redirect", "503"],
)
def test_a_predictor_that_misbehaves_is_502(shared: Service, spoil: Response) -> None:
    labels = {"model_namespace": "default", "model_name": "m", "method": "kernel_shap", "outcome": "predictor_error"}
    before = shared.metric("inferwatch_explanations_total", **labels) or 0.0
    shared.server.spoil = spoil
    try:
        status, reply = shared.explain()
    finally:
        shared.server.spoil = None
    assert status == 502
    assert "the predictor of m" in reply["error"]
    assert shared.metric("inferwatch_explanations_total", **labels) == before + 1


def test_what_nobody_foresaw_is_500_with_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by none\nand none")

    service = setup()
    monkeypatch.setattr("inferwatch_explainers.service.explain_request", broken)
    assert service.explain() == (500, {"error": "kernel_shap failed with ZeroDivisionError: by none"})
    assert "Traceback" in caplog.text
    labels = {"model_namespace": "default", "model_name": "m", "method": "kernel_shap", "outcome": "failed"}
    assert service.metric("inferwatch_explanations_total", **labels) == 1


def test_a_predictor_that_is_down_is_502() -> None:
    app = FastAPI()
    spec = ExplainerSpec("kernel_shap", "http://127.0.0.1:1")
    registry = CollectorRegistry()
    app.include_router(explain_router([ExplainedModel("default", "m", sample(), [spec])], registry=registry))
    with serving(app) as url:
        status, reply = Service(url, ModelServer(SCHEMA, score), registry).explain()
    assert status == 502
    assert "cannot be reached" in reply["error"]


def test_a_predictor_that_never_answers_is_504(setup: Setup) -> None:
    service = setup()
    with held(service):
        body = {"instances": INSTANCES, "parameters": {"deadline_s": 60}}
        status, reply, _ = service.post("/v1/models/m:explain", body, {"X-Inferwatch-Deadline": "0.6"})
    assert status == 504
    assert "did not answer" in reply["error"]


def test_beyond_the_queue_is_429(setup: Setup) -> None:
    """Two explanations are at work and one may wait, so that of four held ones exactly one is turned away."""
    service = setup(max_queue=1)
    body = {"instances": INSTANCES}
    with held(service) as hold, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(service.post, "/v1/models/m:explain", body) for _ in range(4)]
        first = next(iter_done(asked))
        hold.set()
        replies = [each.result() for each in asked]
    status, reply, headers = first
    assert status == 429
    assert headers["retry-after"] == "1"
    assert "error" in reply
    assert sorted(each[0] for each in replies) == [200, 200, 200, 429]


def iter_done(asked: list[Any]) -> Iterator[Any]:
    for each in as_completed(asked, timeout=30):
        yield each.result()


def test_a_wait_longer_than_the_deadline_is_429(setup: Setup) -> None:
    service = setup()
    body = {"instances": INSTANCES}
    with held(service) as hold, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(service.post, "/v1/models/m:explain", body) for _ in range(2)]
        eventually("two are at work", lambda: len(service.server.calls) == 2)
        status, _, headers = service.post("/v1/models/m:explain", body, {"X-Inferwatch-Deadline": "0.1"})
        hold.set()
        assert [each.result()[0] for each in asked] == [200, 200]
    assert status == 429
    assert headers["retry-after"] == "1"


def test_a_configured_method_that_does_not_exist_is_refused_at_once() -> None:
    model = ExplainedModel("default", "m", sample(), [ExplainerSpec("tea_leaves", "http://127.0.0.1:1")])
    with pytest.raises(InvalidOption, match="tea_leaves"):
        explain_router([model], registry=CollectorRegistry())


def test_a_client_that_goes_away_in_its_body_is_counted(setup: Setup) -> None:
    service = setup()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/models/m:explain HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n{")
    labels = {"model_namespace": "default", "model_name": "m", "method": "unknown", "outcome": "disconnected"}
    eventually("it is counted", lambda: service.metric("inferwatch_explanations_total", **labels) == 1)
