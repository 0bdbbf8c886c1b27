"""Rows become one matrix: columns by name, else by order, each cell the same whatever comes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.errors import InvalidRows
from inferwatch.events import Role
from inferwatch.rows import Batch, Column, Feature, Rows, Schema
from inferwatch.wire.columns import typed
from inferwatch.wire.decode import decode

AGE_JOB = Schema((Feature("age", "numeric"), Feature("job", "categorical", ("clerk", "smith"))))
NAN = float("nan")


def rows(named: bool = True, **columns: Sequence[Any]) -> Rows:
    found = tuple(Column(name, typed(list(cells))) for name, cells in columns.items())
    return Rows(found, len(found[0].values), named)


def categories(*names: str) -> Schema:
    return Schema((Feature("x", "categorical", names),))


def coded(schema: Schema, cells: Sequence[Any]) -> list[float]:
    return [float(code) for code in schema.encode(rows(x=cells)).values[:, 0]]


def test_columns_are_matched_by_name_in_any_order() -> None:
    encoded = AGE_JOB.encode(rows(job=["smith", "clerk"], age=[30, 40]))
    assert encoded.values.tolist() == [[30, 1], [40, 0]]
    assert (encoded.missing, encoded.extra) == ((), ())


def test_missing_and_extra_columns_are_named() -> None:
    encoded = AGE_JOB.encode(rows(age=[30], wage=[1], town=["a"]))
    assert np.array_equal(encoded.values, [[30, NAN]], equal_nan=True)
    assert encoded.missing == ("job",)
    assert encoded.extra == ("wage", "town")


@pytest.mark.parametrize("named", [True, False])
def test_columns_with_no_name_in_common_are_matched_by_order(named: bool) -> None:
    encoded = AGE_JOB.encode(rows(named, a=[30], b=["smith"]))
    assert encoded.values.tolist() == [[30, 1]]
    assert (encoded.missing, encoded.extra) == ((), ())


def test_positions_are_no_names() -> None:
    encoded = AGE_JOB.encode(rows(False, job=[30], age=["smith"]))
    assert encoded.values.tolist() == [[30, 1]]


def test_another_width_without_names_is_refused_with_both_widths() -> None:
    with pytest.raises(InvalidRows, match=r"rows have 3 columns without names, the reference has 2: age, job"):
        AGE_JOB.encode(rows(False, a=[1], b=[2], c=[3]))
    with pytest.raises(InvalidRows, match=r"3 columns \(a, b, c\), none of which the reference has; it has 2: age"):
        AGE_JOB.encode(rows(a=[1], b=[2], c=[3]))


def test_a_long_list_of_names_is_cut() -> None:
    wide = Rows(tuple(Column(f"column{number}", typed([1])) for number in range(50)), 1)
    with pytest.raises(InvalidRows, match=r"50 columns \(column0, .*, column7, \.\.\.\)"):
        AGE_JOB.encode(wide)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        ([1, 2], [1, 2]),
        ([True, False], [1, 0]),
        (["1.5", "-2e3"], [1.5, -2000]),
        ([b"7", "x"], [7, NAN]),
        ([None, NAN, "", [1], {"a": 1}], [NAN] * 5),
        ([2**63, -1, 0.5], [2.0**63, -1, 0.5]),
        ([float("inf"), "-inf"], [np.inf, -np.inf]),
        ([10**400, -(10**400), None], [np.inf, -np.inf, NAN]),
        ([2**53 + 1, None], [2.0**53, NAN]),
    ],
)
def test_numbers(cells: list[Any], numbers: list[float]) -> None:
    schema = Schema((Feature("x", "numeric"),))
    assert np.array_equal(schema.encode(rows(x=cells)).values[:, 0], numbers, equal_nan=True)


def test_a_category_is_the_same_however_it_is_typed() -> None:
    assert coded(categories("16", "0.5"), [16, 16.0, "16", 0.5, "0.5", b"16"]) == [0, 0, 0, 1, 1, 0]
    assert coded(categories("false", "true"), [True, False, "true", "false"]) == [1, 0, 1, 0]


def test_flags_and_numbers_stand_for_each_other_where_only_one_is_known() -> None:
    assert coded(categories("0", "1"), [True, False]) == [1, 0]
    assert coded(categories("false", "true"), [1, 0, 1.0]) == [1, 0, 1]


def test_unseen_categories_get_a_code_of_their_own_and_missing_ones_nan() -> None:
    found = coded(categories("a", "b"), ["a", "c", None, NAN, 7, True, "", ["a"], {"b": 1}])
    assert np.array_equal(found, [0, 2, NAN, NAN, 2, 2, 2, 2, 2], equal_nan=True)


def test_integers_of_64_bits_are_categories_to_the_last_digit() -> None:
    largest, next_to = str(2**63 - 1), str(2**63 - 2)
    assert coded(categories(largest, next_to), [2**63 - 1, 2**63 - 2, 2**63 - 3]) == [0, 1, 2]
    assert coded(categories(str(2**64 - 1)), [2**64 - 1, 2**64 - 2]) == [0, 1]


def test_no_rows_encode_to_no_rows() -> None:
    assert AGE_JOB.encode(rows(age=[], job=[])).values.shape == (0, 2)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(width=16),
    st.sampled_from(["1", "true", "0.5", "a", "", "nan"]),
    st.lists(st.integers(0, 1), max_size=1),
)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=4), st.sampled_from(["n", "c"]))
def test_a_cell_is_encoded_alike_alone_and_among_others(parts: list[list[Any]], kind: str) -> None:
    known = ("1", "a", "0.5", str(2**63 - 1), "true")[: 4 if len(parts) % 2 else 5]
    schema = categories(*known) if kind == "c" else Schema((Feature("x", "numeric"),))
    together = schema.encode(Rows.concat([rows(x=part) for part in parts])).values[:, 0]
    alone = [schema.encode(rows(x=[cell])).values[0, 0] for part in parts for cell in part]
    assert np.array_equal(together, alone, equal_nan=True)


def test_parts_of_different_types_are_joined_without_changing_a_value() -> None:
    joined = Rows.concat([rows(x=[True]), rows(x=[2**63 + 1]), rows(x=[2**53 + 1]), rows(x=[0.5])])
    assert joined.count == 4
    cells = joined.columns[0].values.tolist()
    assert cells == [True, 2**63 + 1, 2**53 + 1, 0.5]
    assert [type(cell) for cell in cells] == [bool, int, int, float]
    alike = Rows.concat([rows(x=[1, 2]), rows(x=[3])])
    assert alike.columns[0].values.dtype == np.int64


def test_decode_shows_what_encode_was_given() -> None:
    values = AGE_JOB.encode(rows(age=[30, None], job=["smith", "baker"])).values
    assert AGE_JOB.decode(values) == [[30, "smith"], [None, "(unseen)"]]
    assert AGE_JOB.decode(np.array([[NAN, NAN]])) == [[None, None]]


def test_the_wire_says_whether_there_are_names() -> None:
    bare = decode(b'{"instances": [[41, "smith"]]}', Role.REQUEST).rows
    named = decode(b'{"instances": [{"job": "smith", "age": 41}]}', Role.REQUEST).rows
    assert bare is not None
    assert named is not None
    assert AGE_JOB.encode(bare).values.tolist() == AGE_JOB.encode(named).values.tolist() == [[41, 1]]


def test_a_batch_is_cut_and_joined_without_loss() -> None:
    whole = Batch.of(np.arange(12.0).reshape(6, 2), since_ns=9)
    again = Batch.concat([whole.slice(0, 1), whole.slice(1, 1), whole.slice(1, 6)])
    assert again.values.tolist() == whole.values.tolist()
    assert again.times_ns.tolist() == whole.times_ns.tolist() == [second * 10**9 for second in range(1, 7)]
    assert again.keys.tolist() == whole.keys.tolist() == [f"row-{number}" for number in range(6)]
    assert (len(again), again.since_ns) == (6, 9)
