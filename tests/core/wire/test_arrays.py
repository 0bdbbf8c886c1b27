"""Tensors in every encoding: as columns, whole on request, and never as Python's lists of numbers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.rows import Block, Feature, Grid, Rows, Schema
from inferwatch.wire import v1
from inferwatch.wire.decode import decode
from inferwatch.wire.numeric import numeric
from tests.core.wire.bodies import binary, frame, tensor
from tests.core.wire.properties import as_columns
from tests.memory import most_traced

REQUEST, RESPONSE = Role.REQUEST, Role.RESPONSE
SMALL = np.arange(2 * 28 * 28, dtype=np.float32).reshape(2, 28, 28) / 4
LARGE = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)


def text(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14]) + data


def grpc(values: Any, datatype: str) -> bytes:
    sizes = b"".join(bytes([size & 127 | 128, size >> 7]) for size in values.shape)
    return frame(text(5, text(1, b"x") + text(2, datatype.encode()) + text(3, sizes)) + text(7, values.tobytes()))


def bodies(values: Any, datatype: str) -> dict[str, bytes]:
    flat = tensor("x", datatype, values.shape, values.ravel().tolist())
    nested = tensor("x", datatype, values.shape, values.tolist())
    return {
        "v1": orjson.dumps({"instances": values.tolist()}),
        "v1 with a signature": orjson.dumps({"signature_name": "s", "instances": values.tolist()}),
        "v1 by column": orjson.dumps({"inputs": {"x": values.tolist()}}),
        "v2": orjson.dumps({"inputs": [flat]}),
        "v2 nested": orjson.dumps({"inputs": [nested]}),
        "v2_binary": binary("inputs", ("x", datatype, values)),
        "grpc": grpc(values, datatype),
    }


def rows_of(data: bytes, role: Role = REQUEST) -> Rows:
    decoded = decode(data, role)
    assert decoded.rows is not None, decoded.fault
    return decoded.rows


@pytest.mark.parametrize("encoding", bodies(SMALL, "FP32"))
def test_a_small_image_is_columns_and_whole_on_request(encoding: str) -> None:
    rows = rows_of(bodies(SMALL, "FP32")[encoding])
    (block,) = rows.blocks
    name = "instances" if encoding.startswith("v1") and "column" not in encoding else "x"
    assert block == Block(name, 0, (28, 28))
    assert rows.names == tuple(f"{name}[{index}]" for index in range(784))
    np.testing.assert_array_equal(np.column_stack([column.values for column in rows.columns]), SMALL.reshape(2, -1))
    whole = rows.whole()
    assert (whole.names, whole.blocks, whole.count) == ((name,), (), 2)
    np.testing.assert_array_equal(np.stack(list(whole.columns[0].values)), SMALL)
    features = [f"{name}.{what}" for what in ("mean", "size", "shape[0]", "shape[1]", "shape[2]")]
    encoded = Schema(tuple(Feature(feature, "numeric") for feature in features)).encode(rows)
    expected = [[item.mean(dtype=float), 784, 28, 28, np.nan] for item in SMALL]
    np.testing.assert_allclose(encoded.values, expected)
    assert encoded.extra == ()


@pytest.mark.parametrize("encoding", bodies(LARGE, "UINT8"))
def test_a_large_image_is_one_column_of_arrays(encoding: str) -> None:
    rows = rows_of(bodies(LARGE, "UINT8")[encoding])
    (column,) = rows.columns
    assert column.name == ("instances[0]" if encoding in ("v1", "v1 with a signature") else "x")
    assert {cell.dtype.kind for cell in column.values} <= {"i", "u"}
    np.testing.assert_array_equal(np.stack(list(column.values)), LARGE)
    assert rows.whole().names == rows.names


def test_predictions_of_arrays() -> None:
    rows = rows_of(b'{"predictions": [[[1, 2.5], [3, 4]], [[5, 6], [7, 8]]]}', RESPONSE)
    assert rows.names == ("prediction_0", "prediction_1", "prediction_2", "prediction_3")
    assert rows.whole().columns[0].values[1].tolist() == [[5, 6], [7, 8]]


def test_several_tensors_keep_their_shapes() -> None:
    first, second = np.arange(8.0).reshape(2, 2, 2), np.arange(2)
    inputs = [tensor("a", "FP64", (2, 2, 2), first.ravel().tolist()), tensor("n", "INT64", (2,), second.tolist())]
    for body in (
        orjson.dumps({"inputs": [*reversed(inputs), inputs[0] | {"name": "b"}]}),
        binary("inputs", ("n", "INT64", second), ("a", "FP64", first), ("b", "FP64", first)),
    ):
        rows = rows_of(body)
        assert rows.blocks == (Block("a", 1, (2, 2)), Block("b", 5, (2, 2)))
        assert rows.whole().names == ("n", "a", "b")
        assert rows.whole().columns[2].values[1].tolist() == first[1].tolist()
        assert Rows.concat([rows, rows]).whole().columns[1].values[3].tolist() == first[1].tolist()


def test_what_is_derived_of_images_of_several_shapes() -> None:
    schema = Schema((Feature("instances.shape[0]", "numeric"), Feature("instances.mean", "numeric")))
    parts = [rows_of(orjson.dumps({"instances": np.ones((1, *shape)).tolist()})) for shape in ((2, 3), (3, 2))]
    assert schema.encode_all(parts).values.tolist() == [[2, 1], [3, 1]]
    assert schema.encode_all([parts[0]] * 2).values.tolist() == [[2, 1], [2, 1]]
    mixed = [Rows(part.columns[:], part.count, part.named, part.blocks) for part in parts]
    assert schema.encode_all([mixed[0]] * 2).values.tolist() == [[2, 1], [2, 1]]


@settings(max_examples=200)
@given(st.data(), st.sampled_from(["instances", "predictions"]))
def test_nested_numbers_are_read_as_cell_by_cell(data: st.DataObject, name: str) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    values = np.arange(float(np.prod(shape))).reshape(shape)
    body = orjson.dumps({name: (values if data.draw(st.booleans()) else values.astype(int)).tolist()})
    places = st.sampled_from([place for place, byte in enumerate(body) if byte in b"[],0123."])
    for place in data.draw(st.lists(places, max_size=3)):
        body = body[:place] + data.draw(st.sampled_from([b"[", b"]", b",", b"", b"[]", b"1"])) + body[place + 1 :]
    role = REQUEST if name == "instances" else RESPONSE
    found = numeric(body, role)
    if found is not None:
        assert as_columns(found[1]) == as_columns(v1.rows(orjson.loads(body), name, role))


@pytest.mark.parametrize("name", ["]", "[", "[,]", "],[", ",", '"'])
def test_texts_that_look_like_lists(name: str) -> None:
    for body in ({"signature_name": name, "instances": [[[1, 2]]]}, {"instances": [[[1, 2]]], "signature_name": name}):
        data = orjson.dumps(body)
        assert as_columns(rows_of(data)) == as_columns(v1.rows(body, "instances", REQUEST))


@pytest.mark.parametrize("encoding", ["v2_binary", "grpc"])
def test_raw_tensors_are_not_copied(encoding: str) -> None:
    data = bodies(np.zeros((4, 256, 127), np.float32), "FP32")[encoding]
    decode(data, REQUEST)
    with most_traced(64_000):
        rows = rows_of(data)
    assert np.shares_memory(rows.columns[0].values[0], np.frombuffer(data, np.uint8))


@pytest.mark.skipif(find_spec("simdjson") is None, reason="there is no simdjson for this interpreter")
@pytest.mark.parametrize("encoding", ["v1", "v1 with a signature", "v2", "rows"])
def test_numbers_of_json_become_no_objects(encoding: str) -> None:
    """Lists would take 32 bytes a number, 8 for its place and 24 for itself, and the array that follows them 8."""
    values = np.random.default_rng(1).normal(size=(2, 40, 500) if encoding != "rows" else (2000, 20))
    data = orjson.dumps({"instances": values.tolist()}) if encoding == "rows" else bodies(values, "FP64")[encoding]
    decode(data, REQUEST)
    with most_traced(4 * values.nbytes):
        rows = rows_of(data)
    found = rows.columns.values if isinstance(rows.columns, Grid) else np.stack(list(rows.columns[0].values))
    assert np.array_equal(found, values)
