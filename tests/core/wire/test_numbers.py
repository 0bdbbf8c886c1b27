"""Large arrays of numbers, wherever they stand in JSON, are read as cell by cell, and become no Python objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, isnan, nan
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.rows import Column, Rows
from inferwatch.wire import decode as decode_module
from inferwatch.wire import number_text, numbers
from inferwatch.wire.decode import Decoded, decode
from inferwatch.wire.numbers import Numbers, lift
from tests.core.wire.bodies import BODIES, tensor
from tests.core.wire.interpreters import without_simdjson
from tests.core.wire.properties import assert_holds
from tests.memory import most_traced

REQUEST, RESPONSE = Role.REQUEST, Role.RESPONSE
IMAGES = np.random.default_rng(1).integers(0, 4096, (2, 40, 500)) / 64
NESTED = IMAGES.tolist()
WITH_NULLS = IMAGES.astype(object)
WITH_NULLS[IMAGES < 8] = None
WITH_WORDS = WITH_NULLS.copy()
WITH_WORDS[IMAGES > 60], WITH_WORDS[IMAGES > 61], WITH_WORDS[IMAGES > 62] = nan, inf, -inf
FLAGS = (IMAGES < 8).tolist()
RAGGED = [IMAGES[1].ravel()[:300].tolist(), IMAGES[1].ravel()[300:].tolist()]
TWO_TYPES = [[*range(19_000)], IMAGES.ravel()[:21_000].tolist()]


def within(lists: int, value: Any) -> Any:
    for _ in range(lists):
        value = [value]
    return value


LARGE: dict[str, tuple[Role, Any]] = {
    "v1 records": (REQUEST, {"instances": [{"image": image, "age": 3} for image in NESTED]}),
    "v1 records with a text": (REQUEST, {"instances": [{"name": '[1, "', "image": image} for image in NESTED]}),
    "v1 beside text": (REQUEST, {"instances": [["a", image] for image in NESTED]}),
    "v1 by column": (REQUEST, {"inputs": {"image": NESTED, "name": ["a", "b"]}}),
    "v1 with a field beside": (REQUEST, {"instances": NESTED, "parameters": {"top": 1}}),
    "v1 predictions": (RESPONSE, {"predictions": [{"label": "a", "mask": image} for image in NESTED]}),
    "v2 nested": (REQUEST, {"inputs": [tensor("image", "FP32", IMAGES.shape, NESTED)]}),
    "v2 beside text": (
        REQUEST,
        {"inputs": [tensor("name", "BYTES", [2], ["a", "b"]), tensor("image", "FP32", IMAGES.shape, NESTED)]},
    ),
    "v2 of an ensemble": (RESPONSE, {"a": {"outputs": [tensor("image", "FP64", IMAGES.shape, NESTED)]}}),
    "v1 in a CloudEvent": (REQUEST, {"specversion": "1.0", "data": {"instances": NESTED}}),
    "openai_embeddings": (
        RESPONSE,
        {"data": [{"index": place, "embedding": row} for place, row in enumerate(IMAGES.reshape(40, 1000).tolist())]},
    ),
    "v1 with nulls": (REQUEST, {"instances": [{"image": WITH_NULLS[place].tolist(), "age": 3} for place in range(2)]}),
    "v1 tensor with nulls": (REQUEST, {"instances": WITH_NULLS.tolist()}),
    "v1 table with nulls": (REQUEST, {"instances": WITH_NULLS.reshape(80, 500).tolist()}),
    "v1 ragged": (REQUEST, {"instances": [*RAGGED, IMAGES[0].ravel().tolist()]}),
    "v1 ragged in records": (
        REQUEST,
        {"instances": [{"a": [NESTED[0], [1, "b"]]}, {"a": [NESTED[1][:39], NESTED[1][39]]}]},
    ),
    "v1 in objects in cells": (REQUEST, {"instances": [{"a": {"b": [1, {"c": image}]}} for image in NESTED]}),
    "v2 with nulls": (REQUEST, {"inputs": [tensor("image", "FP32", IMAGES.shape, WITH_NULLS.ravel().tolist())]}),
    "v1 table with words": (REQUEST, {"instances": WITH_WORDS.reshape(80, 500).tolist()}),
    "v1 with words": (REQUEST, {"instances": [{"image": image, "age": nan} for image in WITH_WORDS.tolist()]}),
    "v1 masks": (REQUEST, {"instances": FLAGS}),
    "v1 of 64 dimensions": (REQUEST, {"instances": IMAGES.reshape(2, *[1] * 60, 4, 5000, 1).tolist()}),
    "v1 of 80 dimensions": (REQUEST, {"instances": within(79, IMAGES.ravel().tolist())}),
    "v1 ragged within many lists": (REQUEST, {"instances": within(12, [NESTED[0], RAGGED])}),
    "v2 flags": (REQUEST, {"inputs": [tensor("mask", "BOOL", IMAGES.shape, (IMAGES < 8).ravel().tolist())]}),
    "v2 ragged": (REQUEST, {"inputs": [tensor("image", "FP32", IMAGES.shape, [NESTED[0], RAGGED])]}),
    "v2 ragged of a type not its own": (REQUEST, {"inputs": [tensor("a", "INT64", [2, 20_000], TWO_TYPES)]}),
    "v2 deeper than its shape": (REQUEST, {"inputs": [tensor("image", "FP32", [2], NESTED)]}),
    "openai prompts of tokens": (REQUEST, {"model": "m", "prompt": list(range(40_000))}),
}


@pytest.fixture(params=["simdjson", "Arrow"], autouse=True, scope="module")
def reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """Read numbers by either."""
    if request.param == "Arrow":
        with without_simdjson():
            yield
    elif number_text.Parser is None:
        pytest.skip("there is no simdjson for this interpreter")
    else:
        yield


@contextmanager
def cell_by_cell() -> Iterator[None]:
    """Decode without lifting arrays, and therefore every number by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_module, "lift", lambda _: None)
        yield


def as_lists(value: Any) -> Any:
    """The value with every array, in objects too, as the lists that it was; its NaN are nulls."""
    if isinstance(value, Numbers):
        return as_lists(value.as_list())
    if isinstance(value, np.ndarray):
        return as_lists(value.tolist())
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_lists(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value


def cells(column: Column) -> list[Any]:
    """The cells, arrays as lists; NaN, which equals nothing, as text."""
    plain = [as_lists(cell) if isinstance(cell, (list, dict, np.ndarray)) else cell for cell in column.values.tolist()]
    return ["NaN" if cell != cell else cell for cell in plain]


def content(found: Decoded) -> Any:
    """Everything that two decodings must agree on but whether a cell's numbers are a list or an array."""
    rows = found.rows
    if rows is None:
        return found
    columns = [(column.name, column.values.dtype, cells(column)) for column in rows.columns]
    return found.protocol, columns, rows.count, rows.named, rows.blocks


def assert_read_as_cell_by_cell(data: bytes, role: Role) -> None:
    found = decode(data, role)
    with cell_by_cell():
        expected = decode(data, role)
    assert content(found) == content(expected)


@pytest.mark.parametrize("where", LARGE)
def test_numbers_become_no_objects_wherever_they_stand(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell the peak is 17 times the size of the numbers: a list, its objects, and their copies."""
    role, body = LARGE[where]
    data = json.dumps(body).encode()
    assert_read_as_cell_by_cell(data, role)
    monkeypatch.delattr(Numbers, "as_list")
    with most_traced(6 * IMAGES.nbytes):
        found = decode(data, role)
    assert found.rows is not None, found.fault


def test_json_before_a_binary_tail_becomes_no_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6, dtype=np.int16)
    beside = {"name": "few", "shape": [2, 3], "datatype": "INT16", "parameters": {"binary_data_size": values.nbytes}}
    body = {"inputs": [tensor("image", "FP64", IMAGES.shape, NESTED), beside]}
    monkeypatch.delattr(Numbers, "as_list")
    with most_traced(9 * IMAGES.nbytes):
        found = decode(orjson.dumps(body) + values.tobytes(), REQUEST)
    assert found.rows is not None, found.fault
    image, few = found.rows.whole().columns
    assert (found.protocol, np.stack(list(image.values)).tolist()) == ("v2_binary", NESTED)
    assert np.stack(list(few.values)).ravel().tolist() == values.tolist()


@pytest.mark.parametrize("where", LARGE)
def test_an_array_is_shown_and_judged_wherever_it_stands(where: str) -> None:
    role, body = LARGE[where]
    assert_holds(json.dumps(body).encode(), role)


@pytest.mark.parametrize("where", LARGE)
def test_a_parser_of_objects_sees_none_of_the_numbers(where: str) -> None:
    _, body = LARGE[where]
    lifted = lift(json.dumps(body).encode())
    assert lifted is not None
    assert len(lifted.text) < 4096
    assert sum(array.values.size for array in lifted.arrays.values()) == 40_000
    assert as_lists(lifted.put_back(json.loads(lifted.text))) == as_lists(body)


def rows_of(body: Any, role: Role = REQUEST) -> Rows:
    found = decode(orjson.dumps(body), role)
    assert found.rows is not None, found.fault
    return found.rows


def test_a_large_cell_is_an_array_of_its_shape() -> None:
    rows = rows_of({"instances": [{"image": image, "age": 3, "few": [1, 2]} for image in NESTED]})
    assert rows.names == ("image", "age", "few")
    assert [cell.dtype for cell in rows.columns[0].values] == [np.float64] * 2
    np.testing.assert_array_equal(np.stack(list(rows.columns[0].values)), IMAGES)
    assert rows.columns[2].values.tolist() == [[1, 2]] * 2


def test_an_embedding_is_a_block_however_it_is_written() -> None:
    for width in (3, 1000):
        vectors = IMAGES.reshape(-1, width + width % 2)[:2].tolist()
        rows = rows_of({"data": [{"embedding": vector} for vector in vectors]}, RESPONSE)
        assert [column.values.dtype for column in rows.columns] == [np.float64] * len(vectors[0])
        assert np.array_equal(np.stack(list(rows.whole().columns[0].values)), vectors)


@pytest.mark.parametrize(
    "cells",
    [
        [[1, 2.5] * 4] * 40,
        [[1, -7] * 4] * 40,
        [[2**53, -(2**63)] * 4] * 40,
        [[2**64 - 1, 1] * 4] * 40,
        [[2**53 + 1, 0.5] * 4] * 40,
        [[1e300, 0.0] * 4] * 40,
        [[1e300, 1] * 4] * 40,
        [[-0.0, 0] * 4] * 40,
        [[-0.0, 0.5] * 4] * 40,
        [[None, 1.5] + [1, 2.5] * 200] * 2 + [[1, 2.5] * 201],
        [["a", *range(300)], list(range(301)), list(range(301))],
        [list(range(300)), list(range(301))],
        [[True] * 300, [1] * 300],
        [1, 2.5] * 200,
        [[[1, 2.5] * 200, [None]], [[1, 2], 3]],
        [[[[[[[[[[1, 2.5] * 200]]]]]]]]],
        [{"a": {"b": [1, 2.5] * 200}, "c": [[1] * 300, None]}],
        [{"a": [1] * 300}, {"a": [None]}, {"b64": [1] * 300}],
        [{"b64": [0.5] * 300}],
        {"a": [[1, 2.5] * 4] * 40, "b": [0.5] * 40},
        [[None, 1, 2.5, 3, 1.5, None] * 2] * 40 + [[None, None, None, 3, 1, 4] * 2],
        [[[None, 1, 2.5, 3, 1.5, None] * 2] * 40] * 2,
        [None] * 300,
        [[None] * 300, [1.5] * 300],
        [[[None] * 300], [[1.5] * 300]],
        [None, 1] * 200,
        [None, 2**53] * 200,
        [[2**64 - 1, 1] * 4] * 40 + [[1] * 8],
        [[2**64 - 1, -1] * 4] * 40,
        [[2**64] * 300, [1] * 300],
        [[[2**64] * 300], [[1] * 300]],
        [[[2**64 - 1] * 300], [[0.5] * 300]],
        [[0.5] * 300, [1] * 299, [None, 2.5] * 200, [1]],
        [[True, False] * 4] * 40,
        [True, None] * 160,
        [nan, 1, None] * 160,
        [-inf, inf, 0.5, 1] * 80,
        [[0.5] * 300, [1, None] * 5, [nan] * 10],
    ],
)
def test_unusual_arrays_are_read_as_cell_by_cell(cells: Any) -> None:
    tensors = [tensor("x", kind, [40, 8], cells) | {"name": kind} for kind in ("FP32", "INT64")]
    vectors = [{"embedding": cells}, {"embedding": cells}]
    requests = [{"inputs": tensors}, *({name: cells, "parameters": {}} for name in ("instances", "inputs"))]
    requests += ({"model": "m", name: cells} for name in ("input", "prompt"))
    for role, bodies in (
        (REQUEST, requests),
        (RESPONSE, [{"predictions": cells, "parameters": {}}, {"data": vectors}]),
    ):
        for body in bodies:
            assert_read_as_cell_by_cell(json.dumps(body).encode(), role)


NUMBER = "1234567.5,"


@pytest.mark.parametrize(
    "text",
    [
        '{"instances": [{"a": "[%s1]", "b": 1}]}',
        '{"instances": [{"a": "\\"[%s1]", "b": 1}]}',
        '{"instances": [{"a": "\\\\", "b": [%s1]}]}',
        '{"instances": [{"a": "\\\\\\"", "b": [%s1], "b": [1]}]}',
        '{"instances": [{[%s1]: 1}]}',
        '{"instances": [{"a": [%s1][1]}]}',
        '{"instances": [{"a" [%s1]}]}',
        '{"instances": [{"a": [%s1]}]} [%s1]',
        '{"instances": [{"a": [%s1, NaN]}, {"a": [%s1]}]}',
        '{"instances": [{"a": [%snull.5]}]}',
        '{"instances": [{"a": [%s1Infinity]}]}',
        '{"instances": [{"a": [%s-NaN]}]}',
        '{"instances": [{"a": [%snul, 1]}]}',
        '{"instances": [{"a": [%s1], "b": NaN}]}',
        '{"instances": [{"a": [%s,1], "b": ""}]}',
        '{"instances": [{"a": [%s01], "b": ""}]}',
        '{"instances": [{"a": [%s-01], "b": ""}]}',
        '{"instances": [{"a": [%s+1], "b": ""}]}',
        '{"instances": [{"a": [%s.5], "b": ""}]}',
        '{"instances": [{"a": [%s-.5], "b": ""}]}',
        '{"instances": [{"a": [%s1.], "b": ""}]}',
        '{"instances": [{"a": [%s1.e5], "b": ""}]}',
        '{"instances": [{"a": [%s1 2], "b": ""}]}',
        '{"instances": [{"a": [%s1[2]], "b": ""}]}',
        '{"instances": [{"a": [[%s] 1], "b": ""}]}',
        '{"instances": [{"a": [1[,%s1]], "b": ""}]}',
        '{"instances": [{"a": [[1]%s1], "b": ""}]}',
        '{"instances": [{"a": [%s1], "b": [1' + "]" * 40 + "}]}",
        '{"instances": [{"a": [%s1e-05, 0.1e+01, 1E0, -0, 0], "b": ""}]}',
        '{"instances": [{"a": [%s1e400], "b": ""}]}',
        '{"instances": [{"a": [\t1\r\n,%s1e-400, 5e-324], "b": ""}]}',
        '{"instances": [{"a": [%s1], "b": "',
        '{"instances": [{"a": [%s1',
        "[%s1]",
    ],
)
def test_only_arrays_of_valid_json_are_lifted(text: str) -> None:
    assert_read_as_cell_by_cell(text.replace("%s", NUMBER * 60).encode(), REQUEST)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([body for bodies in BODIES.values() for body in bodies]), st.data())
def test_any_body_is_read_as_cell_by_cell(body: tuple[Role, bytes], data: st.DataObject) -> None:
    role, damaged = body
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        odd = st.sampled_from(
            [
                b"[",
                b"]",
                b",",
                b'"',
                b"\\",
                b"1",
                b"0.5",
                b"[1,2,3]",
                b"[[1.5],[2],[3]]",
                b"{",
                b"}",
                b" ",
                b"null",
                b"[null,1,2]",
                b"[true,false,true]",
                b"[NaN,-Infinity,1]",
            ]
        )
        damaged = damaged[:start] + data.draw(odd) + damaged[start + data.draw(st.integers(0, 3)) :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "_MIN_BYTES", 7)
        patch.setattr(numbers, "MIN_NUMBERS", 3)
        found = decode(damaged, role)
    expected = decode(damaged, role)
    if expected.rows is None:
        assert found.protocol == expected.protocol
    else:
        assert content(found) == content(expected)


LISTS = st.recursive(
    st.lists(
        st.none() | st.integers(-5, 5) | st.floats(-9, 9) | st.sampled_from([2**53, 2**64 - 1, 2**64, nan, inf, True])
    ),
    lambda inner: st.lists(inner) | st.builds(lambda item, times: [item] * times, inner, st.integers(1, 3)),
)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.booleans())
def test_any_lists_are_read_as_cell_by_cell(cells: Any, in_a_record: bool) -> None:
    data = json.dumps({"instances": [{"a": cells}] if in_a_record else cells}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "_MIN_BYTES", 7)
        patch.setattr(numbers, "_STRIDE", 1)
        patch.setattr(numbers, "MIN_NUMBERS", 3)
        assert_read_as_cell_by_cell(data, REQUEST)


def test_arrays_are_found_by_their_number_of_numbers() -> None:
    for count, is_lifted in ((255, False), (256, True)):
        assert (lift(orjson.dumps({"a": [1] * count, "b": "c"})) is not None) == is_lifted
    values = Numbers(np.array([[1.0, 2.5]]), np.frombuffer(b",.", np.uint8).reshape(1, 2))
    assert repr(list(values)) == "[[1, 2.5]]"


@pytest.mark.parametrize(
    "text", ["[[null,", "[NaN,true,", "[[[[[[1,", '"1,', "[1,2],", "1" * 512 + "[", "]" * 600 + "a"]
)
def test_what_is_no_array_is_passed_in_linear_time(text: str) -> None:
    """Seconds, were it quadratic."""
    assert lift(text.encode() * (2_000_000 // len(text))) is None
