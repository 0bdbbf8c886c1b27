"""The `decoded` of a payload: names, order, missing values, bytes, and integers, clause by clause of the contract."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import orjson
import pytest

from inferwatch.events import Role
from tests.core.wire.bodies import binary, frame, tensor
from tests.logger.test_payload_protocols import grpc_bodies
from tests.logger.watched_log import WatchedLog, event, watched_log

NUMBER = count()
PNG = b"\x89PNG\r\n\x1a\n"
WIDE = [2**53 + 1, -(2**63), 2**64 - 1]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    with watched_log(tmp_path_factory.mktemp("decoded")) as log:
        yield log


def shown(log: WatchedLog, *bodies: object, model: str = "other") -> tuple[str, Any]:
    """Return the protocol and the table of a payload: of a request, and a response where there is one."""
    number = next(NUMBER)
    halves = zip((Role.REQUEST, Role.RESPONSE), bodies, strict=False)
    log.take(*(event(number, body, role, at_s=number, inferenceservicename=model) for role, body in halves))
    (item,) = log.get(f"/api/payloads?id=id-{number}").json["items"]
    found = log.get(f"/api/payloads/{item['key']}").json
    return found["protocol"], found["decoded"]


def table(columns: list[str], *rows: list[Any]) -> dict[str, Any]:
    return {"columns": columns, "rows": list(rows)}


def test_names_are_the_features_where_the_payload_names_nothing(log: WatchedLog) -> None:
    expected = table(["age", "class", "prediction"], [39, "Private", 1])
    assert shown(log, {"instances": [[39, "Private"]]}, {"predictions": [1]}, model="income")[1] == expected
    named = {"instances": [{"class": "Private", "age": 39}]}
    assert shown(log, named, {"predictions": [1]}, model="income")[1]["columns"] == ["class", "age", "prediction"]


def test_names_are_else_the_protocols_own_the_request_before_the_response(log: WatchedLog) -> None:
    assert shown(log, {"instances": [[1, "a"]]}, {"predictions": [[0.5, 1]]}) == (
        "v1",
        table(["instances[0]", "instances[1]", "prediction_0", "prediction_1"], [1, "a", 0.5, 1]),
    )
    inputs = [tensor("b", "INT64", (1, 2), [1, 2]), tensor("a", "BYTES", (1,), ["x"])]
    outputs = {"model_name": "m", "outputs": [tensor("y", "FP32", (1,), [0.5])]}
    assert shown(log, {"inputs": inputs}, outputs) == ("v2", table(["b[0]", "b[1]", "a", "y"], [1, 2, "x", 0.5]))


def test_tensors_are_row_major_in_every_encoding(log: WatchedLog) -> None:
    values = np.arange(8, dtype=np.int64).reshape(2, 2, 2)
    expected = table([f"x[{place}]" for place in range(4)], [0, 1, 2, 3], [4, 5, 6, 7])
    assert shown(log, {"inputs": [tensor("x", "INT64", (2, 2, 2), values.ravel().tolist())]}) == ("v2", expected)
    assert shown(log, {"inputs": [tensor("x", "INT64", (2, 2, 2), values.tolist())]}) == ("v2", expected)
    assert shown(log, binary("inputs", ("x", "INT64", values))) == ("v2_binary", expected)


@pytest.mark.parametrize("cell", [b"null", b"NaN"])
def test_missing_is_null_and_so_is_nan(log: WatchedLog, cell: bytes) -> None:
    assert shown(log, b'{"instances": [[%s, 1.5], [2, %s]]}' % (cell, cell))[1]["rows"] == [[None, 1.5], [2, None]]
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [%s, 0.1]}]}' % cell
    assert shown(log, body)[1]["rows"] == [[None], [0.1]]
    assert shown(log, binary("inputs", ("x", "FP64", np.array([np.nan, 0.1]))))[1]["rows"] == [[None], [0.1]]
    assert shown(log, b'{"instances": [{"a": 1}, {"b": %s}]}' % cell)[1]["rows"] == [[1, None], [None, None]]


def test_bytes_are_text_where_utf8_and_else_base64(log: WatchedLog) -> None:
    encoded = {"base64": b64encode(PNG).decode()}
    instances = [{"b64": b64encode(data).decode()} for data in (PNG, "é".encode())]
    assert shown(log, {"instances": instances})[1]["rows"] == [[encoded], ["é"]]
    packed = b"".join(len(data).to_bytes(4, "little") + data for data in (PNG, "é".encode()))
    body = binary("inputs", ("t", "BYTES", np.frombuffer(packed, np.uint8))).replace(b"[%d]" % len(packed), b"[2]")
    assert shown(log, body)[1]["rows"] == [[encoded], ["é"]]


def test_integers_of_64_bits_are_exact_in_every_encoding(log: WatchedLog) -> None:
    assert shown(log, {"instances": [WIDE]})[1]["rows"] == [WIDE]
    rows = [[number] for number in WIDE]
    assert shown(log, {"instances": WIDE})[1]["rows"] == rows
    assert shown(log, {"instances": [{"a": number} for number in WIDE]})[1]["rows"] == rows
    signed = np.array(WIDE[:2], dtype=np.int64)
    assert shown(log, {"inputs": [tensor("x", "INT64", (2,), WIDE[:2])]})[1]["rows"] == rows[:2]
    assert shown(log, binary("inputs", ("x", "INT64", signed)))[1]["rows"] == rows[:2]
    assert shown(log, binary("inputs", ("x", "UINT64", np.array(WIDE[2:], np.uint64))))[1]["rows"] == rows[2:]
    assert shown(log, grpc_bodies()["typed"])[1]["rows"][0][2] == 2**53 + 1


def test_fractions_are_as_they_are_written(log: WatchedLog) -> None:
    written = [0.1, 1e-320, 1.7976931348623157e308, -0.0, 2.0]
    found = shown(log, {"instances": [written]})[1]["rows"][0]
    assert list(map(repr, found)) == list(map(repr, written))


def test_protocol_and_table_are_of_the_decompressed_body(log: WatchedLog) -> None:
    plain = orjson.dumps({"instances": [[1, 2]]})
    assert shown(log, gzip.compress(plain)) == shown(log, plain)
    body = binary("inputs", ("x", "FP64", np.array([0.5])))
    assert shown(log, gzip.compress(body)) == ("v2_binary", table(["x"], [0.5]))
    message = grpc_bodies()["typed"]
    for squeeze in (gzip.compress, zlib.compress):
        assert shown(log, frame(squeeze(message[5:]), 1)) == shown(log, message)


def test_the_shorter_half_ends_in_nulls(log: WatchedLog) -> None:
    assert shown(log, {"instances": [1, 2]}, {"predictions": [7]})[1]["rows"] == [[1, 7], [2, None]]


def test_what_nobody_can_decode_has_no_table(log: WatchedLog) -> None:
    assert shown(log, b"\x00\x01\x02") == ("unknown", None)
