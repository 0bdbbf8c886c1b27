"""Products of rows do not hang on how many come at once."""

import numpy as np
import pytest

from inferwatch.products import product

ROWS = np.random.default_rng(0).normal(size=(4_000, 17))
MATRIX = np.random.default_rng(1).normal(size=(17, 17))


@pytest.mark.parametrize("size", [1, 2, 7, 16, 25, 1000])
def test_a_row_has_the_same_product_whatever_lies_beside_it(size: int) -> None:
    whole = product(ROWS, MATRIX)
    parts = [product(ROWS[start : start + size], MATRIX) for start in range(0, len(ROWS), size)]

    assert np.array_equal(np.concatenate(parts), whole)
    assert whole == pytest.approx(ROWS @ MATRIX)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
def test_nothing_times_something_is_empty_or_zero(shape: tuple[int, int]) -> None:
    assert product(np.empty(shape), np.ones((shape[1], 2))).tolist() == [[0.0, 0.0]] * shape[0]
