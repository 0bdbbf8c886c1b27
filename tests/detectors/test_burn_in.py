"""The burn-in takes a number of rows that depends on the rows alone."""

from __future__ import annotations

import numpy as np
import pytest

from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Matrix, Rows
from inferwatch_detectors.burn_in import MILESTONES, BurnIn


@pytest.fixture(scope="module")
def reference() -> Reference:
    values = np.random.default_rng(1).normal(size=(2000, 2))
    columns = tuple(Column(name, column) for name, column in zip("ab", values.T, strict=True))
    return Reference.build(Rows(columns, 2000), created_ns=0)


def independent(count: int) -> Matrix:
    return np.random.default_rng(2).normal(size=(count, 2))


def sticky(count: int) -> Matrix:
    """Rows that stay the same for a hundred rows each."""
    return np.repeat(independent(count // 100), 100, axis=0)


def fed(burn_in: BurnIn, values: Matrix, size: int) -> int:
    """Add the rows in batches of a size, with a restart after each; return how many were left over."""
    left = 0
    for start in range(0, len(values), size):
        left += len(burn_in.add(Batch.of(values[start : start + size])))
        burn_in.load(burn_in.dump(), burn_in.dependence)
    return left


@pytest.mark.parametrize("size", [1, 7, 500, 6000])
@pytest.mark.parametrize(("values", "taken"), [(independent(900), 500), (sticky(6000), 3000)])
def test_it_ends_at_a_milestone_however_the_rows_are_delivered(
    reference: Reference, values: Matrix, taken: int, size: int
) -> None:
    if size == 1:
        values = values[: taken + 20]
    burn_in = BurnIn(reference, None)
    assert burn_in.needs_rows == MILESTONES[0]
    assert fed(burn_in, values, size) == len(values) - taken
    assert burn_in.dependence is not None
    assert burn_in.dependence.rows == taken
    whole = BurnIn(reference, None)
    whole.add(Batch.of(values))
    assert whole.dependence == burn_in.dependence
    assert (burn_in.needs_rows, burn_in.dump()) == (0, b"")


def test_what_is_left_over_are_the_rows_behind_it(reference: Reference) -> None:
    rest = BurnIn(reference, 3).add(Batch.of(np.arange(10.0).reshape(5, 2)))
    assert rest.values.tolist() == [[6, 7], [8, 9]]
    assert rest.keys.tolist() == ["row-3", "row-4"]


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 100])
def test_a_stated_number_of_rows_is_kept_to(reference: Reference, rows: int) -> None:
    burn_in = BurnIn(reference, rows)
    assert burn_in.needs_rows == rows
    assert fed(burn_in, independent(rows - 1), 3) == 0
    assert (burn_in.needs_rows, burn_in.dependence) == (1, None)
    assert fed(burn_in, independent(5), 5) == 4
    assert burn_in.dependence is not None


def test_without_burn_in_rows_are_taken_as_independent(reference: Reference) -> None:
    burn_in = BurnIn(reference, 0)
    assert burn_in.needs_rows == 0
    assert burn_in.dependence is not None
    assert burn_in.dependence.effective == (1.0, 1.0)
    assert len(burn_in.add(Batch.of(independent(3)))) == 3


def test_dependent_rows_are_found_dependent(reference: Reference) -> None:
    burn_in = BurnIn(reference, None)
    burn_in.add(Batch.of(sticky(6000)))
    assert burn_in.dependence is not None
    assert max(burn_in.dependence.effective) < 0.05
    other = BurnIn(reference, None)
    other.add(Batch.of(independent(600)))
    assert other.dependence is not None
    assert min(other.dependence.effective) > 0.8


def test_missing_values_do_not_disturb_it(reference: Reference) -> None:
    values = independent(600)
    values[:, 0] = np.nan
    burn_in = BurnIn(reference, None)
    burn_in.add(Batch.of(values))
    assert burn_in.dependence is not None
    assert all(0 < effective <= 1 for effective in burn_in.dependence.effective)
