"""A payload of each protocol, from the log through the pipeline to the API's table."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import inferwatch
from inferwatch.events import Role
from tests.logger.watched_log import WatchedLog, event, watched_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    with watched_log(tmp_path_factory.mktemp("protocols")) as log:
        yield log


def shown(log: WatchedLog, number: int, request: object, response: object) -> dict[str, Any]:
    """Return what the API shows of a payload that was asked and answered with these bodies."""
    model = {"inferenceservicename": "other"}
    log.take(
        event(number, request, Role.REQUEST, at_s=number, **model),
        event(number, response, Role.RESPONSE, at_s=number + 0.1, **model),
    )
    (item,) = log.get(f"/api/payloads?id=id-{number}").json["items"]
    found: dict[str, Any] = log.get(f"/api/payloads/{item['key']}").json
    assert (found["outcome"], found["fault"]) == ("paired", None)
    return found


def binary(field: str, *tensors: tuple[str, str, Any]) -> bytes:
    heads = [
        {"name": name, "shape": list(values.shape), "datatype": kind, "parameters": {"binary_data_size": values.nbytes}}
        for name, kind, values in tensors
    ]
    return orjson.dumps({field: heads}) + b"".join(values.tobytes() for *_, values in tensors)


def grpc_bodies() -> dict[str, bytes]:
    corpus = json.loads((Path(__file__).parents[1] / "core" / "wire" / "grpc_corpus.json").read_text(encoding="utf-8"))
    return {case["case"]: b64decode(case["body"]) for case in corpus}


def test_the_frame_of_payloads_of_several_protocols(tmp_path: Path) -> None:
    with watched_log(tmp_path) as log:
        image = np.arange(3 * 40 * 40).reshape(1, 3, 40, 40).astype(np.uint8)
        shown(log, 1, binary("inputs", ("image", "UINT8", image)), {"predictions": [1]})
        shown(log, 2, grpc_bodies()["typed"], grpc_bodies()["raw reply, as the SDK writes it"])
        vectors = {"object": "list", "data": [{"index": n, "embedding": [n, 0.5]} for n in (0, 1)]}
        shown(log, 3, {"model": "m", "input": ["a", "b"]}, vectors)
        frame = inferwatch.payloads("default/other", data=tmp_path)
    assert frame["id"].tolist() == ["id-1", "id-2", "id-2", "id-3", "id-3"]
    np.testing.assert_array_equal(frame["image"][0], image[0])
    assert frame["n"].tolist()[1:3] == [2**53 + 1, -(2**63)]
    assert frame["x[1]"].tolist()[1:3] == [-1.5, 1e300]
    assert frame["input"].tolist()[3:] == ["a", "b"]
    assert frame["embedding[0]"].tolist()[3:] == [0, 1]


def test_tensors_are_whole_on_request(tmp_path: Path) -> None:
    with watched_log(tmp_path) as log:
        image = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)
        scores = np.arange(4, dtype=np.float64).reshape(2, 2)
        shown(log, 1, binary("inputs", ("image", "FP32", image)), binary("outputs", ("p", "FP64", scores)))
        shown(log, 2, {"instances": image.tolist()}, {"predictions": [1, 2]})
        flat = inferwatch.payloads("default/other", data=tmp_path)
        whole = inferwatch.payloads("default/other", data=tmp_path, tensors=True)
    assert flat["image[63]"].tolist()[:2] == [63, 127]
    assert "image" not in flat
    assert "image[0]" not in whole
    np.testing.assert_array_equal(np.stack(list(whole["image"][:2])), image)
    assert {cell.dtype for cell in whole["image"][:2]} == {image.dtype}
    np.testing.assert_array_equal(np.stack(list(whole["p"][:2])), scores)
    np.testing.assert_array_equal(np.stack(list(whole["instances"][2:])), image)
    assert whole["prediction"].tolist()[2:] == [1, 2]


def test_v2_binary(log: WatchedLog) -> None:
    ids = np.array([2**53 + 1, -1])
    fractions = np.array([[0.5, np.nan], [1.5, 2.5]], np.float32)
    found = shown(
        log,
        1,
        binary("inputs", ("id", "INT64", ids), ("x", "FP32", fractions)),
        binary("outputs", ("y", "UINT8", np.array([7, 8], np.uint8))),
    )
    assert (found["protocol"], found["rows"]) == ("v2_binary", 2)
    assert found["decoded"] == {
        "columns": ["id", "x[0]", "x[1]", "y"],
        "rows": [[2**53 + 1, 0.5, None, 7], [-1, 1.5, 2.5, 8]],
    }
    assert found["response"]["body"].keys() == {"base64"}


def test_an_image_in_a_binary_tensor(log: WatchedLog) -> None:
    image = np.arange(3 * 40 * 40).reshape(1, 3, 40, 40).astype(np.uint8)
    found = shown(log, 2, binary("inputs", ("image", "UINT8", image)), {"predictions": [1]})
    assert found["decoded"]["columns"] == ["image", "prediction"]
    assert found["decoded"]["rows"] == [[image[0].tolist(), 1]]


def test_grpc(log: WatchedLog) -> None:
    bodies = grpc_bodies()
    found = shown(log, 3, bodies["typed"], bodies["raw reply, as the SDK writes it"])
    assert (found["protocol"], found["rows"]) == ("grpc", 2)
    assert found["decoded"] == {
        "columns": ["x[0]", "x[1]", "n", "t", "y"],
        "rows": [[0.1, -1.5, 2**53 + 1, "é", 7], [2.5, 1e300, -(2**63), "", -7]],
    }
    health = shown(log, 4, bodies["live"], bodies["live reply"])
    assert (health["protocol"], health["excluded"]) == ("health", "health")


def test_a_grpc_call_that_failed_has_an_empty_reply(log: WatchedLog) -> None:
    found = shown(log, 5, grpc_bodies()["typed, no frame"], b"")
    assert (found["protocol"], found["excluded"], found["decoded"]["columns"][0]) == ("grpc", None, "x[0]")


def test_a_chat_that_is_answered_in_chunks(log: WatchedLog) -> None:
    chunks = [
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": part}}]} for part in "Hé"
    ]
    reply = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    found = shown(log, 6, {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}, reply)
    assert (found["protocol"], found["rows"]) == ("openai_chat", 1)
    row = dict(zip(found["decoded"]["columns"], found["decoded"]["rows"][0], strict=True))
    assert row == {
        "model": "m",
        "prompt": "Hi",
        "messages": 1,
        "images": 0,
        "completion": "Hé",
        **dict.fromkeys(["finish_reason", "prompt_tokens", "completion_tokens", "total_tokens", "refusal"]),
        "tool_calls": 0,
    }


def test_completions(log: WatchedLog) -> None:
    reply = {"object": "text_completion", "choices": [{"index": 0, "text": "b"}], "usage": {"total_tokens": 2}}
    found = shown(log, 7, {"model": "m", "prompt": "a"}, reply)
    assert found["protocol"] == "openai_completions"
    assert found["decoded"]["rows"] == [["m", "a", "b", None, None, None, 2]]


def test_embeddings(log: WatchedLog) -> None:
    reply = {"object": "list", "data": [{"index": n, "embedding": [n, 0.5]} for n in (0, 1)]}
    found = shown(log, 8, {"model": "m", "input": ["a", "b"]}, reply)
    assert (found["protocol"], found["rows"]) == ("openai_embeddings", 2)
    assert found["decoded"] == {
        "columns": ["model", "input", "embedding[0]", "embedding[1]"],
        "rows": [["m", "a", 0, 0.5], ["m", "b", 1, 0.5]],
    }
