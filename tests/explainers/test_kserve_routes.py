"""What KServe and its clients ask of an explainer container, without a network."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from inferwatch import __version__
from inferwatch_cli.explaining import PredictorOptions, pointed
from inferwatch_cli.parts import serve_metrics
from inferwatch_explainers.kserve_routes import kserve_router
from inferwatch_explainers.metrics import ExplainMetrics
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from tests.explainers.explaining import sample
from tests.logger.test_access import ask

UNKNOWN = {"error": "Model with name nope does not exist."}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app, registry = FastAPI(), CollectorRegistry()
    ExplainMetrics(registry).seconds.labels("m").observe(0.1)
    app.include_router(kserve_router(["m", "a.b"]))
    serve_metrics(app, registry)
    return app


@pytest.mark.parametrize(
    ("path", "status", "reply"),
    [
        ("/", 200, {"status": "alive"}),
        ("/v1/models", 200, {"models": ["m", "a.b"]}),
        ("/v1/models/m", 200, {"name": "m", "ready": True}),
        ("/v1/models/nope", 404, UNKNOWN),
        ("/v2", 200, {"name": "inferwatch", "version": __version__, "extensions": []}),
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"ready": True}),
        ("/v2/models", 200, {"models": ["m", "a.b"]}),
        ("/v2/models/m/ready", 200, {"name": "m", "ready": True}),
        ("/v2/models/nope/ready", 404, UNKNOWN),
    ],
)
def test_each_route_answers_as_kserves_own_server(app: FastAPI, path: str, status: int, reply: Any) -> None:
    found, body, _ = ask(app, path)
    assert (found, orjson.loads(body)) == (status, reply)


def test_metrics_have_kserves_names_label_and_buckets(app: FastAPI) -> None:
    _, text, _ = ask(app, "/metrics")
    for bound in (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, "+Inf"):
        assert f'request_explain_seconds_bucket{{le="{bound}",model_name="m"}}' in text


@pytest.mark.parametrize(
    ("options", "urls"),
    [
        (PredictorOptions("m", "m-predictor.ns"), ("http://m-predictor.ns", "http://m-predictor.ns:8080")),
        (
            PredictorOptions("m", "m-predictor.ns", use_ssl=True),
            ("https://m-predictor.ns", "https://m-predictor.ns:8080"),
        ),
        (PredictorOptions("m", "m-predictor.ns:9000"), ("http://m-predictor.ns:9000", None)),
        (PredictorOptions("m", "m-predictor.ns", "grpc-v2"), ("http://m-predictor.ns", "http://m-predictor.ns:8081")),
        (PredictorOptions(None, "[::1]"), ("http://[::1]", "http://[::1]:8080")),
        (PredictorOptions("m", None), ("http://configured", None)),
    ],
)
def test_the_predictor_is_where_kserve_says(options: PredictorOptions, urls: tuple[str, str | None]) -> None:
    model = ExplainedModel("default", "m", sample(), [ExplainerSpec("kernel_shap", "http://configured")])
    ([spec],) = (found.explainers for found in pointed([model], options))
    assert (spec.predictor_url, spec.other_url) == urls
