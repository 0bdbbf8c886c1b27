"""The `:explain` service over real sockets, in front of a model server that behaves as each test says."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any

import numpy as np
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from inferwatch.rows import Feature, Matrix, Schema
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


@contextmanager
def held(service: Service) -> Iterator[threading.Event]:
    """Make the model server wait until the block ends or the event is set."""
    service.server.hold = threading.Event()
    try:
        yield service.server.hold
    finally:
        service.server.hold.set()
