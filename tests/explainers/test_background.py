from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from inferwatch.errors import InvalidReference
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers import background_rows

SCHEMA = Schema((Feature("a", "numeric"), Feature("b", "numeric")))


@dataclass(frozen=True)
class Sample:
    rows: Matrix
    schema: Schema = SCHEMA


def test_a_small_reference_is_the_background_as_it_is() -> None:
    rows = np.arange(200.0).reshape(100, 2)
    np.testing.assert_array_equal(background_rows(Sample(rows)), rows)


def test_of_a_large_one_a_hundred_different_rows_are_drawn_by_the_seed() -> None:
    rows = np.arange(2000.0).reshape(1000, 2)
    drawn = background_rows(Sample(rows))
    assert drawn.shape == (100, 2)
    assert len(np.unique(drawn[:, 0])) == 100
    np.testing.assert_array_equal(drawn, background_rows(Sample(rows)))
    assert not np.array_equal(drawn, background_rows(Sample(rows), seed=1))


def test_rows_with_missing_values_stay_out() -> None:
    rows = np.array([[1.0, np.nan], [2.0, 3.0]])
    np.testing.assert_array_equal(background_rows(Sample(rows)), rows[1:])
    with pytest.raises(InvalidReference, match="without missing values"):
        background_rows(Sample(rows[:1]))
