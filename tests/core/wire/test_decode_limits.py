"""Bodies that would fill memory, and those that are large and read whole."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest

from inferwatch.rows import Rows
from inferwatch.wire.columns import MAX_COLUMNS
from inferwatch.wire.compression import MAX_MEMBERS
from inferwatch.wire.decode import decode, inflate
from tests.core.wire.test_decode import REQUEST, cells, rows_of, tensor, unknown
from tests.memory import most_traced


def test_gzip_is_undone_up_to_a_bound() -> None:
    body = gzip.compress(b'{"instances":') + gzip.compress(b"[1]}")
    assert cells(rows_of(body)) == {"instances[0]": [1]}
    assert inflate(gzip.compress(bytes(100)), 100) == bytes(100)
    bomb = decode(gzip.compress(bytes(1_000_000)), REQUEST, max_inflated_bytes=999_999)
    assert bomb.fault == "the gzip body is larger than 999999 bytes when decompressed"
    assert "ends before its end" in unknown(gzip.compress(b'{"instances": [1]}')[:-4])
    members = [gzip.compress(b"")] * MAX_MEMBERS
    assert inflate(b"".join(members)) == b""
    assert f"more than {MAX_MEMBERS} members" in unknown(b"".join([*members, body]))


def test_names_that_would_fill_memory() -> None:
    name = "x" * 100_000
    assert "is longer than" in unknown({"inputs": [tensor([0] * 4000, [1, 4000], "INT8", name=name)]})
    assert list(cells(rows_of({"inputs": [tensor([0], [1], "INT8", name=name)]}, protocol="v2"))) == [name]


@pytest.mark.slow
def test_columns_that_would_fill_memory() -> None:
    many = [tensor([], [0, MAX_COLUMNS], "INT8", name=str(index)) for index in range(1000)]
    with most_traced(100e6):
        assert "more than 65536 columns" in unknown({"inputs": many})
        assert "more than 65536 columns" in unknown({"inputs": {str(index): [[0] * 4096] for index in range(17)}})


def test_shapes_that_would_fill_memory() -> None:
    for shape in ([2**62, 2**62], [10**9], [0, 2**62, 2**62], [1] * 100_000, [2**62] * 100_000):
        item = {"name": "x", "shape": shape, "datatype": "FP32", "data": []}
        assert decode(json.dumps({"inputs": [item]}).encode(), REQUEST).protocol in {"v2", "unknown"}


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for depth in (200, 1000, 100_000):
        unknown(b'{"instances":[' + opening * depth + b"1" + closing * depth + b"]}")
        unknown(b'{"instances":[NaN,' + opening * depth + b"1" + closing * depth + b"]}")


def arrays(rows: Rows, name: str) -> list[list[Any]]:
    """The cells of a single column that has as many arrays, or lists, as there are rows."""
    (column,) = rows.columns
    assert (column.name, len(column.values)) == (name, rows.count)
    return [list(np.asarray(cell, object)) for cell in column.values]


def test_wide_rows_stay_whole() -> None:
    wide = list(range(MAX_COLUMNS + 1))
    mixed = [None, *wide]
    assert arrays(rows_of({"instances": [wide, wide]}), "instances[0]") == [wide, wide]
    np.testing.assert_array_equal(arrays(rows_of({"instances": [mixed]}), "instances[0]"), [[np.nan, *wide]])
    assert arrays(rows_of({"inputs": [tensor(wide * 2, [2, len(wide)], "INT64")]}, protocol="v2"), "x") == [wide, wide]
    assert arrays(rows_of({"inputs": [tensor(mixed, [1, len(mixed)], "INT64")]}, protocol="v2"), "x") == [mixed]
    assert rows_of({"inputs": [tensor([], [0, 10**12])]}, protocol="v2").count == 0


def test_sparse_objects_stay_whole() -> None:
    sparse = [{f"key{index}": index} for index in range(2000)]
    assert cells(rows_of({"instances": sparse})) == {"instances[0]": sparse}


def test_a_large_matrix_is_exact() -> None:
    matrix = np.random.default_rng(0).normal(size=(500, 7))
    rows = rows_of({"instances": matrix.tolist()})
    np.testing.assert_array_equal(np.column_stack([column.values for column in rows.columns]), matrix)
    flat = rows_of({"inputs": [tensor(matrix.ravel().tolist(), [500, 7])]}, protocol="v2")
    np.testing.assert_array_equal(np.column_stack([column.values for column in flat.columns]), matrix)
