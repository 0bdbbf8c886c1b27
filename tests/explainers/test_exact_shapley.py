from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.errors import InvalidOption
from inferwatch.rows import Matrix
from inferwatch_explainers import ExactShapley
from tests.explainers.models import interacting, permutation_shapley


@pytest.mark.parametrize("d", [2, 3, 5, 6])
def test_equals_the_average_over_all_orders_of_joining(d: int) -> None:
    generator = np.random.default_rng(d)
    background, rows = generator.normal(size=(7, d)), generator.normal(size=(2, d))
    attribution = ExactShapley(interacting, background).explain(rows)
    expected = [permutation_shapley(interacting, background, row) for row in rows]
    np.testing.assert_allclose(attribution.values, expected, atol=1e-10)
    assert attribution.exact
    assert not attribution.std_error.any()


def test_one_feature_gets_everything() -> None:
    attribution = ExactShapley(lambda rows: rows[:, 0] ** 2, np.zeros((3, 1))).explain(np.array([[3.0]]))
    assert attribution.values.tolist() == [[9.0]]
    assert attribution.exact


def test_more_features_than_it_takes_are_refused_by_name() -> None:
    with pytest.raises(InvalidOption, match=r"at most 16 features, not 17; kernel_shap"):
        ExactShapley(interacting, np.zeros((1, 17)))


def test_too_few_samples_give_an_answer_that_says_so() -> None:
    background = np.random.default_rng(0).normal(size=(5, 8))
    attribution = ExactShapley(interacting, background, samples=64).explain(np.ones((1, 8)))
    assert not attribution.exact
    assert (attribution.std_error > 0).all()


def test_all_coalitions_of_a_background_go_in_one_call() -> None:
    attribution = ExactShapley(interacting, np.random.default_rng(0).normal(size=(10, 6))).explain(np.ones((1, 6)))
    assert attribution.predictor_calls == 1
    assert attribution.predictor_rows == (2**6 - 1) * 10 + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_axioms(seed: int, d: int) -> None:
    """Dummy, symmetry, linearity and efficiency single out the Shapley value (Shapley, 1953)."""
    generator = np.random.default_rng(seed)
    column = generator.normal(size=(6, 1))
    background = np.concatenate([column, column, generator.normal(size=(6, d - 1))], axis=1)
    row = generator.normal(size=(1, d + 1))
    row[:, 1] = row[:, 0]
    weights = generator.normal(size=d)

    def game(rows: Matrix) -> Matrix:
        twins = rows[:, 0] + rows[:, 1]
        rest = rows[:, 2:d] @ weights[: d - 2] if d > 2 else 0.0
        return np.asarray(np.tanh(twins * (1 + rest)) + rest)

    def other(rows: Matrix) -> Matrix:
        return np.asarray((rows[:, 0] * rows[:, 1]) ** 2)

    values = ExactShapley(game, background).explain(row).values[0]
    assert values[0] == pytest.approx(values[1], abs=1e-10)
    assert values[d] == pytest.approx(0.0, abs=1e-10)
    assert values.sum() == pytest.approx(game(row)[0] - game(background).mean(), abs=1e-10)
    both = ExactShapley(lambda rows: game(rows) + 2 * other(rows), background).explain(row).values[0]
    np.testing.assert_allclose(both, values + 2 * ExactShapley(other, background).explain(row).values[0], atol=1e-9)
