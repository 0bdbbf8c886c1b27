"""Bodies of V1 and V2 servers, and of everything else that a model server answers, to rows."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.decode import Decoded, decode

REQUEST, RESPONSE = Role.REQUEST, Role.RESPONSE


def rows_of(body: Any, role: Role = REQUEST, protocol: str = "v1") -> Rows:
    decoded = decode(body if isinstance(body, bytes) else json.dumps(body).encode(), role)
    assert (decoded.protocol, decoded.fault) == (protocol, None)
    assert decoded.rows is not None
    return decoded.rows


def cells(rows: Rows) -> dict[str, list[Any]]:
    return {column.name: column.values.tolist() for column in rows.columns}


def dtypes(rows: Rows) -> list[str]:
    return [column.values.dtype.name for column in rows.columns]


@pytest.mark.parametrize(
    ("instances", "columns", "named"),
    [
        ([[5.1, 3.5], [4.9, 3.0]], {"instances[0]": [5.1, 4.9], "instances[1]": [3.5, 3.0]}, False),
        ([1, 2, 3], {"instances[0]": [1, 2, 3]}, False),
        (["a", "b"], {"instances[0]": ["a", "b"]}, False),
        ([[39, "Private", None]], {"instances[0]": [39], "instances[1]": ["Private"], "instances[2]": [None]}, False),
        ([{"age": 39, "work": "x"}, {"work": "y", "age": 4}], {"age": [39, 4], "work": ["x", "y"]}, True),
        ([{"a": 1}, {"b": True}], {"a": [1, None], "b": [None, True]}, True),
        ([[[1, 2], [3]], [[4], []]], {"instances[0]": [[1, 2], [4]], "instances[1]": [[3], []]}, False),
        ([[1, 2], [3]], {"instances[0]": [[1, 2], [3]]}, False),
        ([{"a": 1}, 5], {"instances[0]": [{"a": 1}, 5]}, False),
        ([{"b64": "AP8="}], {"instances[0]": [b"\x00\xff"]}, False),
        ([{"image": {"b64": "AP8="}, "k": [1]}], {"image": [b"\x00\xff"], "k": [[1]]}, True),
        ([{"b64": "?"}], {"instances[0]": [{"b64": "?"}]}, False),
        ([], {}, False),
    ],
)
def test_v1_instances(instances: list[Any], columns: dict[str, list[Any]], named: bool) -> None:
    rows = rows_of({"instances": instances})
    assert cells(rows) == columns
    assert (rows.count, rows.named) == (len(instances), named)


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ({"predictions": [0, 1]}, {"prediction": [0, 1]}),
        ({"predictions": [">50K"]}, {"prediction": [">50K"]}),
        ({"predictions": [[0.25, 0.75]]}, {"prediction_0": [0.25], "prediction_1": [0.75]}),
        ({"predictions": [[0.25], [0.5]]}, {"prediction": [0.25, 0.5]}),
        ({"predictions": [{"label": "a", "score": 0.5}]}, {"label": ["a"], "score": [0.5]}),
        (
            {"predictions": {"label": ["a", "b"], "p": [[1, 2], [3, 4]]}},
            {"label": ["a", "b"], "p[0]": [1, 3], "p[1]": [2, 4]},
        ),
        ({"predictions": 0.5}, {"prediction": [0.5]}),
        ({"predictions": {"label": "a"}}, {"label": ["a"]}),
        ({"outputs": [[1, 2]]}, {"prediction_0": [1], "prediction_1": [2]}),
        ({"message": "", "batchId": "x", "predictions": [1]}, {"prediction": [1]}),
    ],
)
def test_v1_predictions(body: dict[str, Any], columns: dict[str, list[Any]]) -> None:
    rows = rows_of(body, RESPONSE)
    assert cells(rows) == columns
    assert rows.named


def test_v1_inputs_by_column() -> None:
    assert cells(rows_of({"inputs": {"a": [1, 2], "b": [[1.5], [2.5]]}})) == {"a": [1, 2], "b": [1.5, 2.5]}
    assert cells(rows_of({"inputs": [[1, 2]]})) == {"inputs[0]": [1], "inputs[1]": [2]}
    assert cells(rows_of({"inputs": {"a": 1, "b": {"b64": "AP8="}}})) == {"a": [1], "b": [b"\x00\xff"]}
    assert cells(rows_of({"signature_name": "s", "inputs": {"b64": "AP8="}})) == {"inputs[0]": [b"\x00\xff"]}
    assert cells(rows_of({"inputs": {"a": [{"b64": "AP8="}, {"b64": ""}]}})) == {"a": [b"\x00\xff", b""]}
    assert cells(rows_of({"outputs": {"a": [[1, 2]], "b": ["x"]}}, RESPONSE)) == {"a[0]": [1], "a[1]": [2], "b": ["x"]}
    assert "different numbers of rows (a: 2, b: 1)" in unknown({"inputs": {"a": [1, 2], "b": [1]}})


def test_a_body_that_is_itself_a_cloudevent() -> None:
    assert cells(rows_of({"specversion": "1.0", "id": "a", "data": {"instances": [7]}})) == {"instances[0]": [7]}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1.5, 2.0], "float64"),
        ([1, 2.5], "float64"),
        ([1.5, None, 2], "float64"),
        ([1, 2], "int64"),
        ([2**53 + 1, -(2**63)], "int64"),
        ([2**63, 2**64 - 1], "uint64"),
        ([2**63, -1], "object"),
        ([2**53 + 1, 0.5], "object"),
        ([1, None], "object"),
        ([True, False], "bool"),
        ([True, 1], "object"),
        ([1, "a", 2.5, None], "object"),
        ([None], "object"),
    ],
)
def test_values_stay_exact(values: list[Any], dtype: str) -> None:
    rows = rows_of({"instances": [[value] for value in values]})
    assert dtypes(rows) == [dtype]
    shown = [None if value != value else value for value in rows.columns[0].values.tolist()]
    assert shown == values
    assert [type(value) is bool for value in shown] == [type(value) is bool for value in values]


def tensor(data: Any, shape: list[Any], datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data} | more


@pytest.mark.parametrize(
    ("item", "columns", "dtype"),
    [
        (tensor([1, 2, 3], [3], "FP32"), {"x": [1.0, 2.0, 3.0]}, "float64"),
        (tensor([1, 2, 3], [3, 1], "INT8"), {"x": [1, 2, 3]}, "int64"),
        (tensor([1, 2, 3, 4], [2, 2], "UINT16"), {"x[0]": [1, 3], "x[1]": [2, 4]}, "int64"),
        (tensor([[1.5, 2], [3, 4]], [2, 2], "FP16"), {"x[0]": [1.5, 3], "x[1]": [2, 4]}, "float64"),
        (tensor([1, 2], [1, 2], "BF16"), {"x[0]": [1.0], "x[1]": [2.0]}, "float64"),
        (tensor([[[1, 2], [3, 4]]], [1, 2, 2], "INT64"), {f"x[{i}]": [i + 1] for i in range(4)}, "int64"),
        (tensor([True, False], [2], "BOOL"), {"x": [True, False]}, "bool"),
        (tensor([2**64 - 1], [1], "UINT64"), {"x": [2**64 - 1]}, "uint64"),
        (tensor([2**53 + 1, None], [2], "INT64"), {"x": [2**53 + 1, None]}, "object"),
        (tensor(["a", "b"], [2, 1], "BYTES"), {"x": ["a", "b"]}, "object"),
        (tensor(["a", None], [1, 2], "BYTES", parameters=None), {"x[0]": ["a"], "x[1]": [None]}, "object"),
        (tensor(5, [], "INT32"), {"x": [5]}, "int64"),
        (tensor([], [0, 3], "FP32"), {"x[0]": [], "x[1]": [], "x[2]": []}, "float64"),
    ],
)
def test_v2_tensors(item: dict[str, Any], columns: dict[str, list[Any]], dtype: str) -> None:
    rows = rows_of({"id": "1", "parameters": None, "inputs": [item]}, protocol="v2")
    assert cells(rows) == columns
    assert set(dtypes(rows)) == {dtype}


def test_v2_nulls_among_fractions_are_nan() -> None:
    (column,) = rows_of({"inputs": [tensor([None, 1.5, 2], [3], "FP32")]}, protocol="v2").columns
    np.testing.assert_array_equal(column.values, [np.nan, 1.5, 2.0])


NUMBERS = {
    **{f"INT{bits}": [0, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": [0, 1, 2**bits - 1] for bits in (8, 16, 32, 64)},
    "FP16": [0.5, 65504.0, -1],
    "BF16": [0.5, 3.3895314e38, -1],
    "FP32": [0.1, 3.4028235e38, -1],
    "FP64": [0.1, 1.7976931348623157e308, 5e-324],
    "BOOL": [True, False, True],
    "BYTES": ["", "é", "\x00"],
}


@pytest.mark.parametrize("datatype", NUMBERS)
def test_v2_every_datatype_in_every_layout(datatype: str) -> None:
    values = NUMBERS[datatype]
    for data, shape in ((values, [3]), (values, [3, 1]), ([[value] for value in values], [3, 1])):
        assert cells(rows_of({"inputs": [tensor(data, shape, datatype)]}, protocol="v2")) == {"x": values}
    for data, shape in ((values, [1, 3]), ([values], [1, 3]), ([[values]], [1, 1, 3]), (values, [1, 3, 1])):
        row = cells(rows_of({"inputs": [tensor(data, shape, datatype)]}, protocol="v2"))
        assert [row[f"x[{index}]"] for index in range(3)] == [[value] for value in values]
    (column,) = rows_of({"inputs": [tensor([None, values[1]], [2], datatype)]}, protocol="v2").columns
    assert [None if cell != cell else cell for cell in column.values.tolist()] == [None, values[1]]


def test_v2_bytes_of_content_types() -> None:
    data = ["AP8=", "no base64", None]
    for content_type, expected in (("base64", [b"\x00\xff", "no base64", None]), ("str", data), (None, data)):
        item = tensor(data, [3], "BYTES", parameters={"content_type": content_type})
        assert cells(rows_of({"inputs": [item]}, protocol="v2")) == {"x": expected}
    number = tensor([1], [1], "INT8", parameters={"content_type": "base64"})
    assert cells(rows_of({"inputs": [number]}, protocol="v2")) == {"x": [1]}


def test_v2_response_of_kserve() -> None:
    output = {"name": "output-0", "shape": [1], "datatype": "INT64", "parameters": None, "data": [1]}
    body = {"model_name": "m", "model_version": None, "id": "1", "parameters": None, "outputs": [output]}
    assert cells(rows_of(body, RESPONSE, "v2")) == {"output-0": [1]}


def test_v2_mixed_tensors_become_one_table() -> None:
    inputs = [tensor([1, 2], [2], "INT64", name="age"), tensor(["a", "b"], [2, 1], "BYTES", name="work")]
    assert cells(rows_of({"inputs": inputs}, protocol="v2")) == {"age": [1, 2], "work": ["a", "b"]}


def unknown(body: Any, role: Role = REQUEST) -> str:
    decoded = decode(body if isinstance(body, bytes) else json.dumps(body).encode(), role)
    assert (decoded.protocol, decoded.rows) == ("unknown", None)
    assert decoded.fault
    return decoded.fault


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"inputs": [tensor([1], [1]), tensor([1, 2], [2], name="y")]}, "different numbers of rows (x: 1, y: 2)"),
        ({"inputs": [tensor([1], [1]), tensor([1], [1])]}, "two tensors have the same name"),
        ({"inputs": [tensor([1, 2], [3])]}, "has the shape [3] and 2 values"),
        ({"inputs": [tensor([1], [-1])]}, "no list of sizes"),
        ({"inputs": [tensor([1], ["1"])]}, "no list of sizes"),
        ({"inputs": [tensor([], [10**15, 0])]}, "has the shape"),
        ({"inputs": [tensor([1], [1], "COMPLEX")]}, "unknown datatype 'COMPLEX'"),
        (
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data": True}}]},
            "no data",
        ),
        ({"prompt": "hello"}, "fields: 'prompt'"),
        ({"predictions": [1]}, "fields: 'predictions'"),
        ([1, 2], "an array"),
        ("text", "a string"),
        (b"null", "null"),
        (b"\x02\x00\x00\x00\x05hello", "no JSON"),
        (b'{"instances": [1', "no JSON"),
        (b'{"instances": [NaN', "no JSON"),
        (b'{"instances": [NaN, "\\ud800"]}', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"\x1f\x8b\x08broken", "gzip"),
    ],
)
def test_what_is_unknown_says_why(body: Any, reason: str) -> None:
    assert reason in unknown(body)


def test_an_error_reply_is_unknown() -> None:
    assert unknown({"error": "ValueError : boom"}, RESPONSE) == "the reply is an error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b'{"status":"alive"}',
        b'{"live":true}',
        b'{"ready":true}',
        b'{"models":["m"]}',
        b'{"name":"m","ready":true}',
        b'{"name":"m","load":true}',
        b'{"name":"kserve","version":"0.21.0","extensions":["model_repository_extension"]}',
        b'{"name":"m","versions":null,"platform":"","inputs":[],"outputs":[]}',
        b'{"name":"m","platform":"","inputs":[{"name":"x","datatype":"FP32","shape":[-1]}],"outputs":[]}',
        b"# HELP python_gc_objects_collected_total Objects\n",
        gzip.compress(b'{"ready":true}', mtime=0),
    ],
)
@pytest.mark.parametrize("role", [REQUEST, RESPONSE])
def test_health_and_metadata(body: bytes, role: Role) -> None:
    assert decode(body, role) == Decoded("health")


def test_not_a_number_as_python_writes_it() -> None:
    (column,) = rows_of(b'{"instances": [NaN, 1.5, -Infinity, Infinity]}').columns
    np.testing.assert_array_equal(column.values, [np.nan, 1.5, -np.inf, np.inf])


def test_of_repeated_fields_the_last_counts() -> None:
    assert cells(rows_of(b'{"instances": [1], "instances": [{"a": 2, "a": 3}]}')) == {"a": [3]}


@pytest.mark.parametrize("name", ["{}", "{a}", "{0.__class__}", "{", "a{}b", "é\x00/../"])
def test_names_are_no_format_strings(name: str) -> None:
    assert list(cells(rows_of({"inputs": [tensor(["a", "b"], [1, 2], "BYTES", name=name)]}, protocol="v2"))) == [
        f"{name}[0]",
        f"{name}[1]",
    ]
    assert list(cells(rows_of({"inputs": {name: [["a", "b"]]}}))) == [f"{name}[0]", f"{name}[1]"]


def test_integers_beyond_64_bits_are_the_nearest_fractions() -> None:
    for digits in ("123456789012345678901", "-9223372036854775809", "18446744073709551616", "9" * 300):
        rows = rows_of(f'{{"instances": [{digits}, 2, "x"]}}'.encode())
        assert cells(rows) == {"instances[0]": [float(digits), 2, "x"]}
        (leniently,) = rows_of(f'{{"instances": [{digits}, 2, NaN]}}'.encode()).columns
        assert leniently.values.tolist()[:2] == [float(digits), 2.0]
    assert "infinity" in unknown(b'{"instances": [1' + b"0" * 400 + b"]}")


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "b64", "data"]), inner),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES", "BOOL"]) | JSON,
    },
    optional={"name": st.text(max_size=3) | JSON, "data": JSON},
)
FIELDS = ["instances", "inputs", "predictions", "outputs", "model_name", "platform", "specversion", "data", "error"]


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.lists(TENSORS, max_size=3), min_size=1),
    st.sampled_from(list(Role)),
)
def test_no_json_raises(body: dict[str, Any], role: Role) -> None:
    decoded = decode(json.dumps(body).encode(), role)
    assert (decoded.protocol == "unknown") == (decoded.fault is not None)
    for column in decoded.rows.columns if decoded.rows else ():
        assert decoded.rows is not None
        assert column.values.shape == (decoded.rows.count,)
        assert column.values.dtype.name in {"float64", "int64", "uint64", "bool", "object"}


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\x1f\x8b", b'{"instances":', b"NaN"]), st.sampled_from(list(Role))
)
def test_no_bytes_raise(data: bytes, prefix: bytes, role: Role) -> None:
    assert decode(prefix + data, role).protocol in {"v1", "v2", "grpc", "health", "unknown"}


@given(st.lists(st.lists(SCALARS | st.text(max_size=5), min_size=3, max_size=3), min_size=1, max_size=5))
def test_v1_cells_keep_their_values(instances: list[list[Any]]) -> None:
    rows = rows_of({"instances": instances})
    read = [list(row) for row in zip(*(column.values.tolist() for column in rows.columns), strict=True)]
    assert [[None if cell != cell else cell for cell in row] for row in read] == instances
