"""The predictor over sockets: what it speaks, how it cuts, and that nothing changes on the way."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import Response

from inferwatch.errors import PredictorError, PredictorTimeout
from inferwatch.events import Role
from inferwatch.origin import Origin
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch.wire.decode import decode
from inferwatch_explainers.predictor import RemotePredictor
from inferwatch_explainers.request_form import RequestForm
from inferwatch_explainers.ways import Way
from tests.explainers.servers import ModelServer, serving

SCHEMA = Schema(
    (Feature("age", "numeric"), Feature("work", "categorical", ("Private", "Sträte")), Feature("n", "numeric"))
)
GENERATOR = np.random.default_rng(0)
ROWS = np.stack(
    [GENERATOR.normal(size=10_000), GENERATOR.integers(0, 2, 10_000), GENERATOR.integers(0, 9, 10_000)], axis=1
)
EVERYTHING = ("v1", "v2", "v2_binary")


def score(rows: Matrix) -> Matrix:
    return np.asarray(rows[:, 0] / 3 + rows[:, 1] * rows[:, 2])


def paths(server: ModelServer) -> list[str]:
    def named(headers: dict[str, str]) -> str:
        return "binary" if "inference-header-content-length" in headers else "json"

    return [f"{call.path[1:3]} {named(call.headers)} {call.rows}" for call in server.calls]


@pytest.mark.parametrize("protocol", EVERYTHING)
def test_every_protocol_gives_the_model_the_same_rows(protocol: Any) -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    with (
        serving(server.application()) as url,
        RemotePredictor(url, "m", SCHEMA, protocol=protocol, max_rows=2600) as predict,
    ):
        np.testing.assert_array_equal(predict(ROWS), score(ROWS))
    assert predict.calls == len(server.calls) == 4
    assert predict.rows == server.asked_rows == 10_000
    binary = {"inference-header-content-length" in call.headers for call in server.calls}
    assert binary == {protocol == "v2_binary"}


def probed(predict: Any) -> Way:
    """Return the way that rows of the one kind of request go."""
    [way] = predict._remote.ways.values()
    assert isinstance(way, Way)
    return way


def test_many_rows_go_in_one_way_that_was_tried_and_answers_alike() -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        for size in (10_000, 10_000, 4):
            np.testing.assert_array_equal(predict(ROWS[:size]), score(ROWS[:size]))
        tried = paths(server)[:-3]
        said = {"v1": "v1 json", "v2": "v2 json", "v2_binary": "v2 binary"}[probed(predict).dialect]
    assert set(tried) == {"v1 json 2048", "v2 json 2048", "v2 binary 2048"}
    assert paths(server)[-3:] == [f"{said} 10000", f"{said} 10000", f"{said} 4"]
    assert predict.calls >= len(server.calls)  # gRPC is looked for too, where grpcio is installed
    assert predict.rows >= server.asked_rows


def test_a_way_that_fails_is_forgotten_and_the_requests_own_protocol_answers() -> None:
    server = ModelServer(SCHEMA, score, ("v1",))
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        predict._remote.remember(RequestForm.plain(SCHEMA).kind, Way("v2_binary", "as once was"))
        np.testing.assert_array_equal(predict(ROWS[:4]), score(ROWS[:4]))
        assert not predict._remote.ways


def test_calls_are_marked_with_a_signature_where_there_is_a_key() -> None:
    server, origin = ModelServer(SCHEMA, score), Origin(b"secret")
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA, origin=origin) as predict:
        predict(ROWS[:3])
    assert origin.is_ours(server.calls[0].headers["ce-id"])


def test_few_rows_are_not_worth_a_probe() -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        predict(ROWS[:9999])
    assert paths(server) == ["v1 json 9999"]


@pytest.mark.parametrize(
    "binary_outputs", [None, lambda rows: score(rows) + 1e-3, lambda rows: rows], ids=["none", "near", "wider"]
)
def test_a_server_without_binary_or_with_other_answers_is_asked_in_json(binary_outputs: Any) -> None:
    spoken = EVERYTHING if binary_outputs else ("v1", "v2")
    server = ModelServer(SCHEMA, score, spoken, binary_outputs=binary_outputs)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        for _ in range(2):
            np.testing.assert_array_equal(predict(ROWS), score(ROWS))
        assert probed(predict).dialect != "v2_binary"
        assert "v2_binary: " in probed(predict).why
    assert [path for path in paths(server) if path.endswith("binary 10000")] == []


def test_a_connection_that_one_way_broke_says_nothing_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    answer = server._reply
    monkeypatch.setattr(server, "_reply", lambda version, body: answer(version, body) if version == "v1" else 1 / 0)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        np.testing.assert_array_equal(predict(ROWS), score(ROWS))
        assert "v2: the predictor of m answered 500" in probed(predict).why
        assert "v2_binary took" in probed(predict).why


def test_a_server_that_fails_in_one_protocol_is_asked_in_the_other_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModelServer(SCHEMA, score, ("v1", "v2"))
    answer = server._reply
    monkeypatch.setattr(server, "_reply", lambda version, body: answer(version, body) if version == "v1" else 1 / 0)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        bound = predict._remote.bind(RequestForm.plain(SCHEMA, "v2"))
        for _ in range(2):
            np.testing.assert_array_equal(bound(ROWS[:3]), score(ROWS[:3]))
    assert paths(server) == ["v2 json 3", "v1 json 3"] * 2


def test_a_busy_probe_decides_nothing() -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    original, left = server._binary_reply, [Response(b"", 503, {"Retry-After": "0"})]

    def first_busy(body: dict[str, Any]) -> Response:
        return left.pop() if left else original(body)

    server._binary_reply = first_busy  # type: ignore[method-assign]  # busy for the first binary call
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        predict(ROWS)
        assert paths(server)[-1] == "v1 json 10000"
        assert not predict._remote.ways
        predict(ROWS)
        assert probed(predict)


def test_a_label_server_is_read_in_binary_too() -> None:
    server = ModelServer(SCHEMA, lambda rows: np.where(score(rows) > 1, "großes", "small"), EVERYTHING)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA, protocol="v2_binary") as predict:
        assert predict(ROWS).tolist() == np.where(score(ROWS) > 1, "großes", "small").tolist()


@pytest.mark.parametrize("protocol", ["v1", "v2_binary"])
def test_calls_shrink_to_what_the_server_takes(protocol: Any) -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING, most_rows=1300)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA, protocol=protocol) as predict:
        np.testing.assert_array_equal(predict(ROWS), score(ROWS))
        asked = len(server.calls)
        np.testing.assert_array_equal(predict(ROWS), score(ROWS))
    assert [call.rows for call in server.calls[:2]] == [10_000, 5000]
    assert max(call.rows for call in server.calls[asked:]) <= 1300


def test_a_server_that_takes_no_row_at_all_is_a_fault() -> None:
    server = ModelServer(SCHEMA, score, most_rows=0)
    with (
        serving(server.application()) as url,
        RemotePredictor(url, "m", SCHEMA) as predict,
        pytest.raises(PredictorError, match="413"),
    ):
        predict(ROWS[:5])


def test_the_requests_own_tensors_are_kept_in_binary() -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    inputs = [
        {"name": "n", "shape": [1, 1], "datatype": "INT64", "data": [3], "parameters": {"content_type": "np"}},
        {"name": "work", "shape": [1], "datatype": "BYTES", "data": ["Private"]},
        {"name": "age", "shape": [1], "datatype": "FP32", "data": [0.5]},
    ]
    document = {"inputs": inputs, "parameters": {"threshold": 0.5}}
    rows = decode(orjson.dumps(document), Role.REQUEST).rows
    assert rows is not None
    form = RequestForm.of(document, rows, SCHEMA)
    whole = np.array([[0.25, 1.0, 4.0]] * 600)
    fraction = np.array([[0.25, 1.0, 4.5]] * 600)
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA, protocol="v2_binary") as notebook:
        predict = notebook._remote.bind(form)
        np.testing.assert_array_equal(predict(whole), score(whole))
        np.testing.assert_array_equal(predict(fraction), score(fraction))
    first, second = (call.body["inputs"] for call in server.calls)
    assert [tensor["datatype"] for tensor in first] == ["INT64", "BYTES", "FP32"]
    assert [tensor["shape"] for tensor in first] == [[600, 1], [600], [600]]
    assert first[0]["parameters"] == {"content_type": "np"}
    assert [tensor["datatype"] for tensor in second] == ["FP64", "BYTES", "FP32"]  # 4.5 is no INT64


def head(shape: list[int], datatype: str, size: int) -> bytes:
    parameters = {"binary_data_size": size}
    output = {"name": "o", "shape": shape, "datatype": datatype, "parameters": parameters}
    return orjson.dumps({"outputs": [output]})


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (b"not json", b""),
        (head([2], "FP64", 8), b"12345678"),
        (head([2], "FP64", 16), b"1234"),
        (head([2], "?", 0), b""),
        (head([1], "BYTES", 2), b"ab"),
    ],
    ids=["head", "short", "cut", "datatype", "text"],
)
def test_a_broken_binary_reply_is_the_predictors_fault(head: bytes, tail: bytes) -> None:
    server = ModelServer(SCHEMA, score, EVERYTHING)
    server.spoil = Response(head + tail, headers={"inference-header-content-length": str(len(head))})
    with (
        serving(server.application()) as url,
        RemotePredictor(url, "m", SCHEMA, protocol="v2_binary") as predict,
        pytest.raises(PredictorError, match="answered no predictions"),
    ):
        predict(ROWS[:2])


def test_where_nothing_listens_the_other_address_is_asked_and_the_first_again_once_that_is_gone() -> None:
    server = ModelServer(SCHEMA, score, ("v1",))
    with (
        serving(server.application()) as url,
        RemotePredictor("http://127.0.0.1:1", "m", SCHEMA, other_url=url) as predict,
    ):
        np.testing.assert_array_equal(predict(ROWS[:3]), score(ROWS[:3]))
        predict(ROWS[:3])
        assert (predict.calls, len(server.calls)) == (3, 2)
    with RemotePredictor(url, "m", SCHEMA, other_url="http://127.0.0.1:1") as predict:
        with pytest.raises(PredictorError, match="cannot be reached"):
            predict(ROWS[:3])
        assert predict.calls == 3


@pytest.mark.parametrize(("status", "in_seconds"), [(429, True), (503, False)])
def test_a_busy_server_is_asked_again_when_it_says(status: int, in_seconds: bool) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    started = time.monotonic()
    said = "0.4" if in_seconds else format_datetime(moment, usegmt=True)
    server = ModelServer(SCHEMA, score, ("v1",), refusals=[Response(b"", status, {"Retry-After": said})])
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        np.testing.assert_array_equal(predict(ROWS[:3]), score(ROWS[:3]))
    assert (predict.calls, len(server.calls)) == (2, 2)
    assert time.monotonic() - started >= 0.4 if in_seconds else datetime.now(UTC) >= moment


def test_a_server_that_is_busy_beyond_the_deadline_is_not_waited_for() -> None:
    server = ModelServer(SCHEMA, score, ("v1",), refusals=[Response(b"", 503, {"Retry-After": "30"})])
    with serving(server.application()) as url, RemotePredictor(url, "m", SCHEMA) as predict:
        bound = predict._remote.bind(RequestForm.plain(SCHEMA), ends=time.monotonic() + 25)
        started = time.monotonic()
        with pytest.raises(PredictorTimeout, match="busy for longer than there is time"):
            bound(ROWS[:3])
        assert time.monotonic() - started < 20
    assert bound.calls == 1
