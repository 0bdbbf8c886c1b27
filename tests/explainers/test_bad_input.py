"""Whatever is wrong, with the request or with the predictor, is answered with its status and one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastapi import Response

from inferwatch.rows import Matrix
from inferwatch_explainers.served import ExplainerSpec
from tests.explainers.explaining import SCHEMA, Service, held, score, starting


class Case(NamedTuple):
    """A row to explain, what the predictor does in place of answering the truth, and what the client is told."""

    row: list[Any]
    predictor: Response | Callable[[Matrix], Any] | None
    status: int
    says: str


GOOD = [39, 40, "Private"]
FEATURES = "age, hours, work"


def json_reply(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


CASES = {
    "wrong width in V1": Case(
        [39, 40], None, 400, f"rows have 2 columns without names, the reference has 3: {FEATURES}"
    ),
    "wrong width in V2": Case([39, 40], None, 400, f"an instance lacks work; the model's features are {FEATURES}"),
    "NaN": Case(
        [39, float("nan"), "Private"], None, 400, "the body holds NaN or infinity, which JSON has no words for"
    ),
    "null": Case([39, None, "Private"], None, 400, "hours of instance 0 is missing; explanations need every value"),
    "wrong type": Case(["old", 40, "Private"], None, 400, "age of instance 0 is 'old'; a finite number is needed"),
    "unknown category": Case(
        [39, 40, "Navy"],
        None,
        400,
        "work of instance 0 is 'Navy', a category that the reference does not have; it has Private, State, Other",
    ),
    "labels only": Case(GOOD, lambda rows: np.where(rows[:, 0] > 30, "old", "young"), 200, ""),
    "probabilities": Case(GOOD, lambda rows: np.stack([rows[:, 0] / 99, 1 - rows[:, 0] / 99], axis=1), 200, ""),
    "HTML": Case(
        GOOD,
        Response(b"<!doctype html><p>Please sign in", media_type="text/html"),
        502,
        "the predictor of m answered a page of HTML or XML in place of predictions",
    ),
    "HTML with a status": Case(
        GOOD,
        Response(b"<h1>502 Bad\nGateway</h1>", 502, media_type="text/html"),
        502,
        "the predictor of m answered 502: <h1>502 Bad Gateway</h1>",
    ),
    "an error of KServe's": Case(
        GOOD,
        json_reply('{"error": "ValueError : boom"}', 500),
        502,
        'the predictor of m answered 500: {"error": "ValueError : boom"}',
    ),
    "a redirect": Case(GOOD, Response(b"", 302, {"Location": "/"}), 502, "the predictor of m answered 302"),
    "nothing": Case(GOOD, json_reply(""), 502, "the predictor of m answered no predictions: the body is empty"),
    "too few rows": Case(
        GOOD, lambda rows: score(rows)[:-1], 502, "the predictor of m was asked for 63 rows and answered 62"
    ),
    "too many rows": Case(
        GOOD,
        lambda rows: np.append(score(rows), 1.0),
        502,
        "the predictor of m was asked for 63 rows and answered 64",
    ),
    "NaN as an output": Case(
        GOOD,
        lambda rows: score(rows) * np.nan,
        502,
        "the predictor answered null, NaN or infinity",
    ),
    "several outputs that are labels": Case(
        GOOD,
        lambda rows: np.full((len(rows), 2), "a"),
        502,
        "the predictor answered several outputs a row that are no numbers (object)",
    ),
    "outputs of two dimensions, flattened": Case(GOOD, lambda rows: np.zeros((len(rows), 2, 2)), 200, ""),
    "no outputs": Case(
        GOOD,
        json_reply('{"answer": 1}'),
        502,
        "the predictor of m answered no predictions: the body is a JSON object of no known protocol; its fields:"
        " 'answer'",
    ),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    with starting() as start:
        yield start(spec=ExplainerSpec("exact_shapley", "", deadline_s=20.0))


def ask(service: Service, protocol: str, row: list[Any], **headers: str) -> tuple[int, str]:
    """Explain a row and return the status, and the sentence where there is one."""
    path = "/v1/models/m:explain"
    body: dict[str, Any] = {"instances": [row]}
    if protocol == "v2":
        path = "/v2/models/m/explain"
        inputs = [
            {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(cell, str) else "FP64", "data": [cell]}
            for name, cell in zip(SCHEMA.names, row, strict=False)
        ]
        body = {"inputs": inputs}
    status, reply, _ = service.post(path, body, headers)
    return status, reply.get("error", "")


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        (name, protocol)
        for name in CASES
        for protocol in ("v1", "v2")
        if " in V" not in name or name[-2:].lower() == protocol
    ],
)
def test_every_fault_has_its_status_and_sentence(shared: Service, name: str, protocol: str) -> None:
    case = CASES[name]
    try:
        if isinstance(case.predictor, Response):
            shared.server.spoil = case.predictor
        elif case.predictor is not None:
            shared.server.predict = case.predictor
        assert ask(shared, protocol, case.row) == (case.status, case.says)
    finally:
        shared.server.spoil, shared.server.predict = None, score
    assert ask(shared, protocol, GOOD) == (200, "")


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_predictor_that_is_too_slow_is_named(shared: Service, protocol: str) -> None:
    with held(shared):
        status, sentence = ask(shared, protocol, GOOD, **{"X-Inferwatch-Deadline": "0.6"})
    assert status == 504
    assert re.fullmatch(r"the predictor of m did not answer within 0\.\d+ s", sentence)
