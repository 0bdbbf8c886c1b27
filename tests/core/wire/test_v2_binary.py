"""V2 bodies whose tensors lie behind the JSON as raw bytes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inferwatch.events import Role
from inferwatch.rows import Feature, Rows, Schema
from inferwatch.wire.columns import MAX_COLUMNS
from inferwatch.wire.decode import decode
from inferwatch.wire.json_text import split
from tests.memory import most_traced

NUMBERS = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}


def tensor(name: str, datatype: str, shape: list[int], size: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}} | more


def body(tensors: list[dict[str, Any]], *tails: bytes, field: str = "inputs", **more: Any) -> bytes:
    return orjson.dumps(more | {field: tensors}) + b"".join(tails)


def rows_of(data: bytes, role: Role = Role.REQUEST) -> Rows:
    decoded = decode(data, role)
    assert (decoded.protocol, decoded.fault) == ("v2_binary", None)
    assert decoded.rows is not None
    return decoded.rows


def reason(data: bytes) -> str:
    decoded = decode(data, Role.REQUEST)
    assert (decoded.protocol, decoded.rows) == ("unknown", None)
    return decoded.fault or ""


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@given(st.data(), st.sampled_from(sorted(NUMBERS)))
def test_numbers_are_exact_to_the_bit(data: st.DataObject, datatype: str) -> None:
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=4))
    values = data.draw(arrays.arrays(NUMBERS[datatype], shape))
    rows = rows_of(body([tensor("x", datatype, list(shape), values.nbytes)], values.tobytes()))
    assert rows.count == shape[0]
    assert {column.values.dtype for column in rows.columns} == {values.dtype}
    assert np.column_stack([column.values for column in rows.columns]).tobytes() == values.tobytes()


def test_numbers_are_views_of_the_body() -> None:
    data = body([tensor("x", "FP64", [2, 3], 48)], np.arange(6.0).tobytes())
    whole = np.frombuffer(data, np.uint8)
    assert all(np.shares_memory(column.values, whole) for column in rows_of(data).columns)


def test_every_byte_but_zero_is_true() -> None:
    (column,) = rows_of(body([tensor("x", "BOOL", [3], 3)], b"\x00\x01\x02")).columns
    assert column.values.tolist() == [False, True, True]


def test_bf16_is_the_upper_half_of_fp32() -> None:
    exact = np.array([1.0, -0.5, 3.140625, np.inf, np.nan, 1e-40], np.float32)
    upper = (exact.view(np.uint32) >> 16).astype("<u2")
    (column,) = rows_of(body([tensor("x", "BF16", [6], 12)], upper.tobytes())).columns
    expected = (exact.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert column.values.dtype == np.float32
    np.testing.assert_array_equal(column.values, expected)


def test_elements_of_bytes_are_text_where_all_are() -> None:
    texts = packed("é".encode(), b"", b'"]}')
    assert rows_of(body([tensor("x", "BYTES", [3, 1], len(texts))], texts)).columns[0].values.tolist() == [
        "é",
        "",
        '"]}',
    ]
    mixed = packed(b"a", b"\xff")
    (column,) = rows_of(body([tensor("x", "BYTES", [2], len(mixed))], mixed)).columns
    assert column.values.tolist() == [b"a", b"\xff"]


def test_elements_of_bytes_that_are_base64() -> None:
    data = packed(b"AP8=", b"?")
    item = tensor("x", "BYTES", [2], len(data))
    item["parameters"]["content_type"] = "base64"
    assert rows_of(body([item], data)).columns[0].values.tolist() == [b"\x00\xff", b"?"]


def test_tensors_in_json_and_in_bytes_stand_side_by_side() -> None:
    plain = {"name": "b", "shape": [2], "datatype": "BYTES", "data": ["{", "}"]}
    data = body([tensor("a", "INT16", [2], 4), plain, tensor("c", "UINT8", [2], 2)], b"\x20\x0a\x20\x00", b"\x09\x0d")
    rows = rows_of(data)
    assert {column.name: column.values.tolist() for column in rows.columns} == {
        "a": [2592, 32],
        "b": ["{", "}"],
        "c": [9, 13],
    }


def test_a_reply_of_kserve() -> None:
    output = tensor("output-0", "INT32", [1], 4, data=None)
    del output["data"]
    reply = body([output], b"\x07\0\0\0", field="outputs", model_name="m", model_version=None, id="1", parameters=None)
    (column,) = rows_of(reply, Role.RESPONSE).columns
    assert (column.name, column.values.tolist()) == ("output-0", [7])


def test_json_that_is_longer_than_the_first_look() -> None:
    plain = {"name": "b", "shape": [1, 4], "datatype": "BYTES", "data": ["é" * 40_000, "\\", '"', "{["]}
    rows = rows_of(b" \n" + body([plain, tensor("a", "INT8", [1], 1)], b"}"))
    assert [column.values.tolist() for column in rows.columns] == [["é" * 40_000], ["\\"], ['"'], ["{["], [125]]


def test_rows_too_wide_for_a_table_are_arrays() -> None:
    image = np.arange(2 * 3 * MAX_COLUMNS, dtype=np.uint8).reshape(2, 3, -1)
    data = body([tensor("x", "UINT8", list(image.shape), image.size)], image.tobytes())
    (column,) = rows_of(data).columns
    assert [cell.tolist() for cell in column.values] == image.tolist()
    assert np.shares_memory(column.values[1], np.frombuffer(data, np.uint8))
    schema = Schema((Feature("x", "numeric"), Feature("y", "categorical", ("a",))))
    assert np.isnan(schema.encode(Rows((column,), 2)).values).all()
    categorical = Schema((Feature("x", "categorical", ("a",)),))
    assert np.isnan(categorical.encode(Rows((column,), 2)).values).all()


def test_tensors_without_elements() -> None:
    assert rows_of(body([tensor("x", "FP32", [0, 2], 0)])).names == ("x[0]", "x[1]")
    assert rows_of(body([tensor("x", "FP32", [0, 10**15], 0)]) + b"\n").count == 0
    assert rows_of(body([tensor("x", "BYTES", [0], 0)])).columns[0].values.tolist() == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (body([tensor("x", "FP32", [2], 8)], b"\0" * 7), "state 8 bytes behind the JSON, and 7 are there"),
        (body([tensor("x", "FP32", [2], 8)], b"\0" * 9), "state 8 bytes behind the JSON, and 9 are there"),
        (body([tensor("x", "FP32", [2], 8)]), "and 0 are there"),
        (body([tensor("x", "FP32", [2], 7)], b"\0" * 7), "no whole number of FP32"),
        (body([tensor("x", "FP32", [3], 8)], b"\0" * 8), "the shape [3] and 2 values"),
        (body([tensor("x", "FP32", [2**62, 2**62], 8)], b"\0" * 8), "and 2 values"),
        (body([tensor("x", "FP32", [2] * 65, 8)], b"\0" * 8), "65 dimensions"),
        (body([tensor("x", "FP32", [2**62] * 100_000, 8)], b"\0" * 8), "100000 dimensions"),
        (body([tensor("x", "FP32", [2], -8)], b"\0" * 8), "no size"),
        (body([tensor("x", "FP32", [2], True)], b"\0"), "no size"),
        (body([tensor("x", "FP32", [2], "8")], b"\0" * 8), "no size"),
        (body([tensor("x", "FP99", [2], 8)], b"\0" * 8), "unknown datatype"),
        (body([tensor("x", "BYTES", [1], 5)], b"\xff\xff\xff\xffa"), "longer than the bytes"),
        (body([tensor("x", "BYTES", [2], 4)], b"\0" * 4), "and 1 values"),
        (body([tensor("x", "BYTES", [1], 2)], b"\0" * 2), "longer than the bytes"),
        (body([tensor("x", "INT8", [1], 1), tensor("x", "INT8", [1], 1)], b"\0\0"), "same name"),
        (body([tensor("x", "INT8", [1], 1), tensor("y", "INT8", [2], 2)], b"\0\0\0"), "different numbers of rows"),
        (body([tensor("x", "INT8", [1], 1)], b"\0")[4:], "is broken"),
        (b'{"a": "binary_data_size", "instances": [1]}{}', "other bytes behind it"),
        (b'{"a": "\\"binary_data_size\\"", "binary_data_size": 1, "instances": [1]}{}', "other bytes behind it"),
        (b'{"binary_data_size": ' + b"[" * 100_000, "is broken"),
    ],
)
def test_what_is_unknown_says_why(data: bytes, says: str) -> None:
    assert says in reason(data)


def test_a_body_cut_anywhere_is_unknown() -> None:
    values = np.arange(3.0)
    whole = body([tensor("x", "FP64", [3], 24)], values.tobytes(), id="é")
    for end in range(1, len(whole)):
        assert reason(whole[:end])


def test_columns_that_would_fill_memory() -> None:
    empty = [tensor(str(index), "INT8", [0, MAX_COLUMNS], 0) for index in range(1000)]
    with most_traced(100e6):
        assert "more than 65536 columns" in reason(body(empty))


def test_whole_numbers_beyond_what_a_fraction_holds() -> None:
    exact = [2**53 + 1, -(2**63), 2**63 - 1]
    (column,) = rows_of(body([tensor("x", "INT64", [3], 24)], np.array(exact).tobytes())).columns
    assert column.values.tolist() == exact


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_no_tail_raises(start: bytes, tail: bytes) -> None:
    head = b'{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}'
    for data in (head + tail, start + head + tail, b'{"binary_data_size"' + start):
        assert decode(data, Role.REQUEST).protocol in {"v2_binary", "unknown", "health"}


@settings(max_examples=50)
@given(st.recursive(st.text() | st.booleans(), lambda it: st.lists(it) | st.dictionaries(st.text(), it), max_leaves=8))
def test_the_json_ends_where_it_ends(value: Any) -> None:
    data = orjson.dumps({"a": value})
    assert split(data + b"}]\xff\x00") == (data, memoryview(b"}]\xff\x00"))
