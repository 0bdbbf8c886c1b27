"""Explanations of models that KServe's own server serves, over V1, V2, V2 with binary tensors and gRPC."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from inferwatch.errors import PredictorError
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_cli.demo.processes import answering, free_port, running
from inferwatch_explainers import ExactShapley, background_rows
from inferwatch_explainers.predictor import RemotePredictor
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.components import demo_python
from tests.explainers.servers import serving

pytestmark = pytest.mark.integration

SCHEMA = Schema(tuple(Feature(name, "numeric") for name in ("rooms", "noise", "garden", "colour")))
PRICES = {0: "price", 5: "price-5ms", 20: "price-20ms"}
"""The served models of the same function, by the milliseconds that each call takes."""

WEIGHTS = np.array([3.0, -2.0, 0.5, 0.0])
ROWS = [[1.0, 0.5, -1.0, 2.0], [-0.7, 1.5, 0.0, -1.0]]


@dataclass(frozen=True)
class Sample:
    rows: Matrix
    schema: Schema = SCHEMA


SAMPLE = Sample(np.random.default_rng(5).normal(size=(150, 4)))


@dataclass(frozen=True)
class Addresses:
    http: str
    grpc: str

    def of(self, protocol: str) -> str:
        return self.grpc if protocol == "grpc" else self.http


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """Start KServe's model server and give its addresses."""
    python, port, grpc_port = demo_python(), free_port(), free_port()
    log = tmp_path_factory.mktemp("kserve") / "server.log"
    server = Path(__file__).with_name("kserve_linear_server.py")
    with running([python, server, str(port), str(grpc_port)], log) as process:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(answering(f"{url}/v2/health/ready", process, log))
        yield Addresses(url, f"http://127.0.0.1:{grpc_port}")


@pytest.fixture(scope="module")
def service(kserve: Addresses) -> Iterator[str]:
    """Serve explanations of both models and give the address."""
    app = FastAPI()
    methods = [ExplainerSpec(method, kserve.http, deadline_s=20.0) for method in ("kernel_shap", "exact_shapley")]
    models = [ExplainedModel("default", name, SAMPLE, methods) for name in (*PRICES.values(), "sign", "gone")]
    app.include_router(explain_router(models, registry=CollectorRegistry()))
    with serving(app) as url:
        yield url


def post(url: str, body: object) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())["explanations"]


@pytest.mark.parametrize("method", ["kernel_shap", "exact_shapley"])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_linear_model_has_its_closed_form(service: str, method: str, protocol: str) -> None:
    parameters = {"method": method}
    if protocol == "v1":
        entries = post(f"{service}/v1/models/price:explain", {"instances": ROWS, "parameters": parameters})
    else:
        tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
        entries = post(f"{service}/v2/models/price/explain", {"inputs": [tensor], "parameters": parameters})
    background = background_rows(SAMPLE)
    assert len(background) == 100
    for entry, row in zip(entries, ROWS, strict=True):
        np.testing.assert_allclose(entry["values"], WEIGHTS * (row - background.mean(axis=0)), atol=1e-9)
        assert entry["prediction"] == pytest.approx(np.array(row) @ WEIGHTS + 1.0)
        assert entry["target"] is None
        assert abs(entry["gap"]) < 1e-9
        assert entry["exact"] is True


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_classifier_that_answers_labels_is_explained_by_its_label(service: str, protocol: str) -> None:
    if protocol == "v1":
        entries = post(f"{service}/v1/models/sign:explain", {"instances": ROWS})
    else:
        tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
        entries = post(f"{service}/v2/models/sign/explain", {"inputs": [tensor]})
    positive = (background_rows(SAMPLE)[:, 0] > 0).mean()
    for entry, label, share in zip(entries, (1, 0), (positive, 1 - positive), strict=True):
        assert entry["target"] == label
        assert entry["prediction"] == 1.0
        assert entry["base_value"] == pytest.approx(share, abs=0.05)  # the tree's own threshold is near 0
        np.testing.assert_allclose(entry["values"], [1 - entry["base_value"], 0, 0, 0], atol=1e-9)


def test_decisions_of_the_served_classifier_are_explained(service: str) -> None:
    def entries(method: str) -> Any:
        body = {"instances": ROWS, "parameters": {"method": method}}
        return post(f"{service}/v1/models/sign:explain", body)

    for entry, label in zip(entries("anchors_tabular"), (1, 0), strict=True):
        assert [text.split()[0] for text in entry["anchor"]] == ["rooms"]
        assert entry["target"] == label
        assert entry["precision"] >= 0.95
        assert entry["predictor_calls"] <= 8
    for entry, label in zip(entries("counterfactual"), (0, 1), strict=True):
        assert (entry["changed"], entry["target"]) == (["rooms"], label)
        assert entry["counterfactual"][0][0] == pytest.approx(0, abs=0.1)  # the tree's own threshold is near 0


def test_a_model_that_the_server_lacks_is_502(service: str) -> None:
    request = urllib.request.Request(f"{service}/v1/models/gone:explain", json.dumps({"instances": ROWS}).encode())
    with pytest.raises(urllib.error.HTTPError) as fault, urllib.request.urlopen(request, timeout=60):
        pass
    with fault.value as reply:
        assert reply.code == 502
        assert "404" in json.loads(reply.read())["error"]


@pytest.mark.parametrize("delay_ms", PRICES)
@pytest.mark.parametrize("protocol", ["v1", "v2", "v2_binary", "grpc"])
def test_a_model_that_takes_its_time_is_explained_alike_in_few_calls(
    kserve: Addresses, protocol: Any, delay_ms: int
) -> None:
    """A call is waited for, so what an explanation takes beside it is bounded by the number of calls."""
    app, spec = FastAPI(), ExplainerSpec("kernel_shap", kserve.of(protocol), protocol=protocol, deadline_s=60.0)
    model = ExplainedModel("default", PRICES[delay_ms], SAMPLE, [spec])
    app.include_router(explain_router([model], registry=CollectorRegistry()))
    with serving(app) as url:
        entries = post(f"{url}/v1/models/{PRICES[delay_ms]}:explain", {"instances": ROWS})
    expected = WEIGHTS * (np.array(ROWS) - background_rows(SAMPLE).mean(axis=0))
    np.testing.assert_allclose([entry["values"] for entry in entries], expected, atol=1e-9)
    assert entries[0]["predictor_calls"] <= 4
    assert entries[0]["elapsed_s"] >= entries[0]["predictor_calls"] * delay_ms / 1000


@pytest.mark.parametrize("protocol", ["v1", "v2"])
@pytest.mark.parametrize(
    ("row", "status", "says"),
    [
        ([1.0, 2.0, 3.0], 400, "3 columns"),
        ([1.0, None, 3.0, 4.0], 400, "noise of instance 0 is missing"),
        (["a", 2.0, 3.0, 4.0], 400, "rooms of instance 0 is 'a'; a finite number is needed"),
    ],
)
def test_bad_rows_never_reach_the_server(service: str, protocol: str, row: list[Any], status: int, says: str) -> None:
    body: dict[str, Any] = {"instances": [row]}
    path = "/v1/models/price:explain"
    if protocol == "v2":
        datatype = "BYTES" if "a" in row else "FP64"
        body = {"inputs": [{"name": "input-0", "shape": [1, len(row)], "datatype": datatype, "data": row}]}
        path = "/v2/models/price/explain"
    request = urllib.request.Request(service + path, json.dumps(body).encode())
    with pytest.raises(urllib.error.HTTPError) as fault, urllib.request.urlopen(request, timeout=60):
        pass
    with fault.value as reply:
        assert reply.code == status
        assert says in json.loads(reply.read())["error"]


def test_a_slow_server_is_504_only_where_nothing_came_back(service: str) -> None:
    body = {"instances": ROWS, "parameters": {"deadline_s": 0.004}}
    request = urllib.request.Request(f"{service}/v1/models/{PRICES[20]}:explain", json.dumps(body).encode())
    with pytest.raises(urllib.error.HTTPError) as fault, urllib.request.urlopen(request, timeout=60):
        pass
    with fault.value as reply:
        assert reply.code == 504
        assert PRICES[20] in json.loads(reply.read())["error"]


@pytest.mark.parametrize("name", ["price", "sign"])
def test_every_way_is_found_and_the_one_that_is_taken_answers_alike(kserve: Addresses, name: str) -> None:
    rows = np.random.default_rng(1).normal(size=(10_000, 4))
    with (
        RemotePredictor(kserve.http, name, SCHEMA, protocol="v1") as plain,
        RemotePredictor(kserve.http, name, SCHEMA, grpc_port=urlsplit(kserve.grpc).port) as predict,
    ):
        np.testing.assert_allclose(predict(rows), plain(rows), rtol=1e-12)
        calls = predict.calls
        np.testing.assert_allclose(predict(rows), plain(rows), rtol=1e-12)
        assert predict.calls == calls + 1
    [way] = predict._remote.ways.values()
    assert "v2 took" in way.why
    assert "v2_binary took" in way.why
    assert "grpc took" in way.why or f"grpc: the predictor of {name} did not answer within" in way.why


@pytest.mark.parametrize("protocol", ["v1", "v2", "v2_binary", "grpc"])
def test_in_a_notebook_the_served_model_is_a_function(kserve: Addresses, protocol: Any) -> None:
    with RemotePredictor(kserve.of(protocol), "price", SCHEMA, protocol=protocol, max_rows=1000) as predict:
        attribution = ExactShapley(predict, SAMPLE.rows, schema=SCHEMA).explain(np.array(ROWS))
    assert predict.calls > 1
    np.testing.assert_allclose(attribution.values, WEIGHTS * (ROWS - SAMPLE.rows.mean(axis=0)), atol=1e-9)


def test_over_grpc_labels_are_labels_and_a_model_that_is_not_there_is_named(kserve: Addresses) -> None:
    rows = np.random.default_rng(1).normal(size=(9, 4))
    with (
        RemotePredictor(kserve.grpc, "sign", SCHEMA, protocol="grpc") as predict,
        RemotePredictor(kserve.http, "sign", SCHEMA, protocol="v1") as plain,
    ):
        assert predict(rows).tolist() == plain(rows).tolist()
        assert set(predict(rows).tolist()) == {0, 1}
    with (
        RemotePredictor(kserve.grpc, "gone", SCHEMA, protocol="grpc") as predict,
        pytest.raises(PredictorError, match="the predictor of gone answered 404: NOT_FOUND"),
    ):
        predict(rows)
