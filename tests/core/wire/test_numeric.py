"""Bodies of numbers are read in one step as they are read cell by cell."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.rows import Feature, Grid, Rows, Schema
from inferwatch.wire import numeric as numeric_module
from inferwatch.wire import v1, v2
from inferwatch.wire.decode import decode
from inferwatch.wire.numeric import numeric
from tests.core.wire.properties import as_columns

pytest.importorskip("simdjson", reason="there is no simdjson for this interpreter")

REQUEST, RESPONSE = Role.REQUEST, Role.RESPONSE
NUMBERS = st.one_of(
    st.integers(-9, 9),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e300, 2**53 - 1, 2**53, -(2**53) - 1, 2**63, 10**25, float(2**53)]),
    st.floats(allow_nan=False, allow_infinity=False),
)
ODD = st.sampled_from([None, True, "1", [], [1], [[2.5]], {"a": 1}, [1, 2]])


def tensor(data: Any, shape: Any, datatype: str = "FP64", name: str = "x") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


@pytest.mark.parametrize(
    ("body", "role", "dtypes"),
    [
        ({"instances": [[1, 2.5], [2, 3.5]]}, REQUEST, ["int64", "float64"]),
        ({"instances": [[1, 2], [3, 4]]}, REQUEST, ["int64", "int64"]),
        ({"instances": [[1.0, 2], [3, 4]]}, REQUEST, ["float64", "int64"]),
        ({"instances": [[2.0], [3.0]]}, REQUEST, ["float64"]),
        ({"instances": [[1, 2, 3], [4, 5.5, 6]], "signature_name": "e.,]"}, REQUEST, ["int64", "float64", "int64"]),
        ({"instances": [1, 2]}, REQUEST, ["int64"]),
        ({"predictions": [0, 0.5, 1]}, RESPONSE, ["float64"]),
        ({"predictions": [[0.25, 0.75]]}, RESPONSE, ["float64", "float64"]),
        ({"inputs": [tensor([1, 2, 3, 4], [2, 2])]}, REQUEST, ["float64", "float64"]),
        ({"inputs": [tensor([[1, 2], [3, 4]], [2, 2], "INT64")]}, REQUEST, ["int64", "int64"]),
        ({"inputs": [tensor([1, 2], [2], "INT8", "a"), tensor([[0.5], [1]], [2, 1])]}, REQUEST, ["int64", "float64"]),
        (
            {"model_name": "m", "id": "1", "outputs": [tensor([0.5] * 12, [2, 3, 2], "FP32")]},
            RESPONSE,
            ["float64"] * 6,
        ),
    ],
)
def test_usual_bodies_are_read_in_one_step(body: dict[str, Any], role: Role, dtypes: list[str]) -> None:
    found = numeric(json.dumps(body).encode(), role)
    assert found is not None
    protocol, rows = found
    assert isinstance(rows.columns, Grid)
    assert [column.values.dtype.name for column in rows.columns] == dtypes
    assert as_columns(rows) == as_columns(cell_by_cell(body, role, protocol))


def cell_by_cell(body: dict[str, Any], role: Role, protocol: str) -> Rows:
    if protocol == "v2":
        return v2.rows(body, role)
    return v1.rows(body, next(iter(body)), role)


@settings(max_examples=400)
@given(st.data(), st.sampled_from(["instances", "predictions"]), st.integers(1, 3), st.booleans())
def test_v1_numbers_are_read_as_cell_by_cell(data: st.DataObject, name: str, width: int, odd: bool) -> None:
    cells = st.one_of(NUMBERS, NUMBERS, ODD) if odd else NUMBERS
    rows = data.draw(st.lists(st.lists(cells, min_size=width, max_size=width + odd), min_size=1, max_size=4) | NUMBERS)
    body = orjson.dumps({name: rows}) if _fits(rows) else json.dumps({name: rows}).encode()
    role = REQUEST if name == "instances" else RESPONSE
    found = numeric(body, role)
    if found is not None:
        assert as_columns(found[1]) == as_columns(v1.rows(orjson.loads(body), name, role))


def _fits(rows: Any) -> bool:
    try:
        orjson.dumps(rows)
    except TypeError:
        return False
    return True


@settings(max_examples=400)
@given(st.data(), st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "BOOL", "BYTES"]), st.booleans())
def test_v2_numbers_are_read_as_cell_by_cell(data: st.DataObject, datatype: str, odd: bool) -> None:
    shape = data.draw(st.lists(st.integers(0 if odd else 1, 3), min_size=0 if odd else 1, max_size=3))
    size = int(np.prod(shape))
    cells = data.draw(st.lists(st.one_of(NUMBERS, ODD) if odd else NUMBERS, min_size=size, max_size=size + odd))
    nested = data.draw(st.booleans()) and len(shape) == 2 and shape[1] > 0
    written = [cells[start : start + shape[1]] for start in range(0, len(cells), shape[1])] if nested else cells
    body = json.dumps({"inputs": [tensor(written, shape, datatype)]}).encode()
    found = numeric(body, REQUEST)
    if found is not None:
        assert as_columns(found[1]) == as_columns(v2.rows(orjson.loads(body), REQUEST))


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[1, 2], [3]]}',
        b'{"instances": [[1, [2]], [3, 4]]}',
        b'{"instances": [1, [2], []]}',
        b'{"instances": [[1, true]]}',
        b'{"instances": [[1, NaN]]}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"instances": [9007199254740992]}',
        b'{"instances": [123456789012345678901234567890]}',
        b'{"instances": [[1]], "instances": [[2]]}',
        b'{"instances": [[1]], "data": {}, "specversion": "1.0"}',
        b'{"inputs": [{"name": "x", "name": "y", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [[1], [2]]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "outputs": [], "platform": ""}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}',
        b'{"inputs": [1, 2]}',
        b'\xef\xbb\xbf{"instances": [1]}',
        b'{"instances": [1]} {}',
        b"[1]",
        b"{}",
    ],
)
def test_whatever_may_be_read_otherwise_is_left_alone(body: bytes) -> None:
    assert numeric(body, REQUEST) is None


def test_bodies_are_read_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"instances": [[1, 2.5], [3, 4.5]]}'
    quick = decode(body, REQUEST).rows
    monkeypatch.setattr(numeric_module, "Parser", None)
    plain = decode(body, REQUEST).rows
    assert quick is not None
    assert plain is not None
    assert not isinstance(plain.columns, Grid)
    assert as_columns(quick) == as_columns(plain)


def test_a_large_body_is_exact() -> None:
    matrix = np.random.default_rng(3).normal(size=(700, 9))
    body = orjson.dumps({"instances": matrix.tolist()})
    found = numeric(body, REQUEST)
    assert found is not None
    assert isinstance(found[1].columns, Grid)
    assert np.array_equal(found[1].columns.values, matrix)


@pytest.mark.parametrize("kinds", [("numeric", "numeric"), ("numeric", "categorical")])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a"), ("x", "y"), ("b", "z"), ("b",), ("a", "b", "c")])
@pytest.mark.parametrize("named", [True, False])
def test_a_grid_is_encoded_as_its_columns(kinds: Any, names: tuple[str, ...], named: bool) -> None:
    categories = ("1", "2") if kinds[1] == "categorical" else ()
    schema = Schema((Feature("a", kinds[0]), Feature("b", kinds[1], categories)))
    values = np.arange(1.0, 1 + 3 * len(names)).reshape(3, -1)
    grid = Grid(names, values, (True, False, True)[: len(names)])
    outcomes: list[Any] = []
    for columns in (grid, grid[:]):
        try:
            found = schema.encode(Rows(columns, 3, named))
            outcomes.append((found.values.tolist().__repr__(), found.missing, found.extra))
        except ValueError as fault:
            outcomes.append(str(fault))
    assert outcomes[0] == outcomes[1]


def test_parts_are_encoded_together_as_one_by_one() -> None:
    schema = Schema((Feature("a", "categorical", ("1", "2")), Feature("b", "numeric")))
    bodies = (b'{"instances": [[1, 2.5]]}', b'{"instances": [[2.0, 3], [1, 4]]}', b'{"instances": [["2", null]]}')
    parts = [rows for body in bodies if (rows := decode(body, REQUEST).rows) is not None]
    expected = np.concatenate([schema.encode(part).values for part in parts])
    assert np.array_equal(schema.encode_all(parts).values, expected, equal_nan=True)
    assert np.array_equal(schema.encode_all(parts[:2]).values, expected[:3])
