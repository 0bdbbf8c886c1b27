"""The `:explain` service over real sockets, in front of a model server that behaves as each test says."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from inferwatch.errors import InvalidOption
from inferwatch.events import EXPLAIN_ID_PREFIX, CloudEvent
from inferwatch.explanation_event import ExplanationEvent
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers import ExactShapley, background_rows
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.explainers.servers import ModelServer, serving

SCHEMA = Schema(
    (
        Feature("age", "numeric"),
        Feature("hours", "numeric"),
        Feature("work", "categorical", ("Private", "State", "Other")),
    )
)
INSTANCES = [[39.0, 40.0, "Private"], [61.5, 20.0, "Other"]]
ENCODED = np.array([[39.0, 40.0, 0.0], [61.5, 20.0, 2.0]])


@dataclass(frozen=True)
class Sample:
    rows: Matrix
    schema: Schema = SCHEMA


def sample() -> Sample:
    generator = np.random.default_rng(0)
    columns = generator.uniform(18, 80, 40), generator.uniform(1, 60, 40), generator.integers(0, 3, 40)
    return Sample(np.stack(columns, axis=1).astype(float))


def score(rows: Matrix) -> Matrix:
    return np.asarray(rows[:, 0] / 10 + rows[:, 1] * (rows[:, 2] == 0) / 5)


@dataclass
class Service:
    """The service under test, and what stands behind it."""

    url: str
    server: ModelServer
    registry: CollectorRegistry

    def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.loads(reply.read()), _lower(reply.headers)
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, json.loads(fault.read()), _lower(fault.headers)

    def explain(self, instances: object = INSTANCES, name: str = "m", **parameters: object) -> tuple[int, Any]:
        body = {"instances": instances} | ({"parameters": parameters} if parameters else {})
        status, reply, _ = self.post(f"/v1/models/{name}:explain", body)
        return status, reply

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


Setup = Callable[..., Service]


@pytest.fixture
def setup() -> Iterator[Setup]:
    """Return a function that starts a model server and a service in front of it."""
    with starting() as start:
        yield start


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    """Start a service for tests that leave nothing behind."""
    with starting() as start:
        yield start()


@contextmanager
def starting() -> Iterator[Setup]:
    with ExitStack() as stack:

        def start(
            predict: Callable[[Matrix], Any] = score,
            spoken: tuple[str, ...] = ("v1", "v2"),
            spec: ExplainerSpec | None = None,
            namespaces: tuple[str, ...] = ("default",),
            **limits: Any,
        ) -> Service:
            server = ModelServer(SCHEMA, predict, spoken)
            url = stack.enter_context(serving(server.application()))
            registry = CollectorRegistry()
            chosen = replace(spec or ExplainerSpec("kernel_shap", "", deadline_s=20.0), predictor_url=url)
            models = [ExplainedModel(namespace, "m", sample(), [chosen]) for namespace in namespaces]
            app = FastAPI()
            app.include_router(explain_router(models, registry=registry, **limits))
            return Service(stack.enter_context(serving(app)), server, registry)

        yield start


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


def test_a_predictor_that_is_down_is_502() -> None:
    app = FastAPI()
    spec = ExplainerSpec("kernel_shap", "http://127.0.0.1:1")
    registry = CollectorRegistry()
    app.include_router(explain_router([ExplainedModel("default", "m", sample(), [spec])], registry=registry))
    with serving(app) as url:
        status, reply = Service(url, ModelServer(SCHEMA, score), registry).explain()
    assert status == 502
    assert "cannot be reached" in reply["error"]


def test_a_busy_predictor_is_asked_again(setup: Setup) -> None:
    service = setup()
    service.server.refusals = [Response(b"", 503, {"Retry-After": "0"}), Response(b"", 429)]
    status, reply = service.explain()
    assert status == 200
    assert reply["explanations"][0]["predictor_calls"] == len(service.server.calls)


@contextmanager
def held(service: Service) -> Iterator[threading.Event]:
    """Make the model server wait until the block ends or the event is set."""
    service.server.hold = threading.Event()
    try:
        yield service.server.hold
    finally:
        service.server.hold.set()


def test_a_predictor_that_never_answers_is_504(setup: Setup) -> None:
    service = setup()
    with held(service):
        body = {"instances": INSTANCES, "parameters": {"deadline_s": 60}}
        status, reply, _ = service.post("/v1/models/m:explain", body, {"X-Inferwatch-Deadline": "0.2"})
    assert status == 504
    assert "did not answer" in reply["error"]


def test_a_predictor_that_falls_silent_leaves_a_coarse_answer(setup: Setup) -> None:
    service = setup(spec=ExplainerSpec("kernel_shap", "", deadline_s=1.0))
    original = service.server._reply

    def then_hold(version: str, body: bytes) -> Response:
        reply = original(version, body)
        service.server.hold = threading.Event()
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
    from concurrent.futures import as_completed

    for each in as_completed(asked, timeout=30):
        yield each.result()


def test_a_wait_longer_than_the_deadline_is_429(setup: Setup) -> None:
    service = setup()
    body = {"instances": INSTANCES}
    with held(service) as hold, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(service.post, "/v1/models/m:explain", body) for _ in range(2)]
        wait_for(lambda: len(service.server.calls) == 2)
        status, _, headers = service.post("/v1/models/m:explain", body, {"X-Inferwatch-Deadline": "0.1"})
        hold.set()
        assert [each.result()[0] for each in asked] == [200, 200]
    assert status == 429
    assert headers["retry-after"] == "1"


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until another thread has made the condition true, at most 20 s."""
    changed = threading.Event()
    for _ in range(2000):
        if condition():
            return
        changed.wait(0.01)
    raise AssertionError("the condition did not come true")


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
    wait_for(lambda: service.metric("inferwatch_explanations_total", **labels) == 1)


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
